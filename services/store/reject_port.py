"""The port of rejects: what operators page through."""

from dataclasses import dataclass
from typing import Protocol

from services.core.records import Reject


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectPage:
    """Some rejects, oldest first."""

    rejects: tuple[Reject, ...]
    # Says where the next page begins; empty where there is none.
    next: str


class RejectReader(Protocol):
    """Rows that were refused after they were acknowledged, or by an import. A scan: not hot."""

    def rejects(self, tenant: str, *, limit: int, after: str = "") -> RejectPage:
        """Return at most `limit` rejects after the page that said `after`.

        Rows that come or go between two pages are shown or not; no other is left out or comes twice.

        Raises:
            InvalidArgument: `after` is from no page. DependencyUnavailable: the store does not answer.
        """
        ...
