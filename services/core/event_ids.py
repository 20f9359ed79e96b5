"""One content an event id, the same one in whatever order the rows come. Pure.

Of all contents that ever came under an id, the earliest event wins; of events at one instant the
one that is smallest by user, item, kind, value. What loses is a reject, once for each content,
even where it had been stored: nobody can tell from the tables which came first.
"""

from dataclasses import dataclass

import polars as pl

from services.core.cleaning import LINE, RAW, REASON, SOURCE, excerpts, rejects_of
from services.core.schema import (
    EVENT_COLUMNS,
    EVENT_ID,
    EVENT_TIME,
    INGEST_TIME,
    ITEM_ID,
    KIND,
    USER_ID,
    VALUE,
)

CONFLICT = "event_id was used before with different content"
# Source of a reject that had been stored.
DISPLACED = "events"
# What a content is, in the order in which contents are ranked.
CONTENT = (EVENT_TIME, USER_ID, ITEM_ID, KIND, VALUE)
# What makes two rejects without a line the same reject, whichever way they came.
SAME_REJECT = (EVENT_ID, USER_ID, REASON, RAW)
_IS_STORED = "_is_stored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What becomes of events once their ids are settled."""

    # EVENT_COLUMNS, source, line: events to store.
    events: pl.DataFrame
    # EVENT_COLUMNS: events that were stored and give way.
    displaced: pl.DataFrame
    # REJECT_SCHEMA: contents that lost, each once.
    rejects: pl.DataFrame
    # Rows that said again what is stored, or what another row said.
    duplicates: int


def settle(events: pl.DataFrame, stored: pl.DataFrame) -> Settled:
    """Choose the content of each event id.

    Args:
        events: clean rows (EVENT_COLUMNS, source, line), ids more than once.
        stored: what the table holds of these ids (EVENT_COLUMNS), each id once.
    """
    held = stored.select(*EVENT_COLUMNS).with_columns(
        pl.lit(DISPLACED).alias(SOURCE),
        pl.lit(None, pl.Int64).alias(LINE),
        pl.lit(value=True).alias(_IS_STORED),
    )
    came = events.with_columns(pl.lit(value=False).alias(_IS_STORED)).select(held.columns)
    both = pl.concat([held, came])
    is_alone = ~both[EVENT_ID].is_duplicated()
    ranked = both.filter(~is_alone).sort(
        EVENT_ID, *CONTENT, _IS_STORED, INGEST_TIME, SOURCE, LINE,
        descending=[*[False] * (1 + len(CONTENT)), True, False, False, False],
    )  # fmt: skip
    contents = ranked.unique([EVENT_ID, *CONTENT], keep="first", maintain_order=True)
    is_first = contents[EVENT_ID].is_first_distinct()
    won = pl.concat([both.filter(is_alone), contents.filter(is_first)])
    lost = contents.filter(~is_first)
    reasoned = lost.drop(_IS_STORED).with_columns(pl.lit(CONFLICT).alias(REASON))
    return Settled(
        events=won.filter(~won[_IS_STORED]).drop(_IS_STORED),
        displaced=lost.filter(lost[_IS_STORED]).select(*EVENT_COLUMNS),
        rejects=rejects_of(reasoned, excerpts(reasoned)),
        duplicates=ranked.height - contents.height,
    )


def told_once(rejects: pl.DataFrame) -> pl.DataFrame:
    """Return rejects (REJECT_SCHEMA), those without a line once each: the first that came in.

    A row of a file keeps its line; one of an inbox has none, and a retry says it again.
    """
    if rejects[LINE].is_not_null().all():
        return rejects
    ordered = rejects.sort(INGEST_TIME, SOURCE, LINE, *SAME_REJECT)
    is_again = ~ordered.select(pl.struct(*SAME_REJECT, LINE).is_first_distinct()).to_series()
    return ordered.filter(ordered[LINE].is_not_null() | ~is_again)
