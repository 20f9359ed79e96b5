"""How long work says how far it is."""

from collections.abc import Callable

# Called with a stage's name, steps done, steps in all.
Progress = Callable[[str, int, int], None]
