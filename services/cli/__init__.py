"""`driftline`: the commands of an operator and of a data scientist, one module a kind of work."""

from services.cli import (
    care,
    data,
    evaluation,
    keys,
    migrating,
    privacy,
    promoting,
    running,
    training,
    wording,
)
from services.cli.app import app, main

__all__ = [
    "app",
    "care",
    "data",
    "evaluation",
    "keys",
    "main",
    "migrating",
    "privacy",
    "promoting",
    "running",
    "training",
    "wording",
]
