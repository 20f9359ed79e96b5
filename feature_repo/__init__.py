"""Feast declarations: what other teams see. Names and types come from services/core."""
