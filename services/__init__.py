"""Driftline: long-term user interest as a service."""
