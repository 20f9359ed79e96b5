"""Ports and their adapters: Delta Lake, Feast, the item index, the model registry."""
