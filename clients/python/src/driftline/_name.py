"""Enums that are their names."""

from enum import Enum


class Name(str, Enum):
    """An enum whose members are their lower-case names."""

    def __str__(self) -> str:
        return str(self.value)
