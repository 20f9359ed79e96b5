"""Two vector spaces never meet: the one check of every entry where vectors are put together."""

from services.core.errors import SpaceMismatch


def require_space(expected: str, actual: str) -> None:
    """Refuse vectors of another space than the one at work, even of equal width.

    An empty name is no claim: a caller that expects nothing, or arithmetic apart from any store
    (training makes its space only at the end).

    Raises:
        SpaceMismatch: both are named and they differ.
    """
    if expected and actual and expected != actual:
        raise SpaceMismatch(expected=expected, actual=actual)
