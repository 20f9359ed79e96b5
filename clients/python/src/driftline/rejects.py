"""Rows that were refused after they were acknowledged, or by an import."""

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, kw_only=True)
class Reject:
    """One row that was refused."""

    # Inbox log or file that it came in by; "events" where it was stored until another content of
    # its id came, which is kept.
    source: str
    # Line of the file, from 1; 0 where it came by a call.
    line: int
    reason: str
    # Empty where the row has none.
    event_id: str
    user_id: str
    # The row as JSON, cut to 200 characters.
    excerpt: str
    ingest_time: datetime | None
