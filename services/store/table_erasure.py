"""Erasure in the Delta tables: rewrites what holds a user, and nothing else."""

from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import polars as pl

from services.core.cleaning import RAW
from services.core.schema import INGEST_TIME, USER_ID
from services.store import delta
from services.store.delta_log import Files
from services.store.erasing import Removed, Until
from services.store.erasures import covered

_ALL = datetime(9999, 1, 1, tzinfo=UTC)
# Shorter ids are found in too many lines that nobody could read to be looked for there.
_LEAST_IN_RAW = 4
# With more users than this a file that may hold some does: it is not looked into first.
FEW = 16


def erase_rows(path: Path, files: Files, until: Until) -> Removed:
    """Rewrite the files that hold rows of the users without them; returns rows removed by user.

    Args:
        path: of the table: events, or a log of an inbox.
        files: which may hold some; each is looked into for user ids alone first.
        until: whom, and up to when.
    """
    ends = {user: time or _ALL for user, time in until.items()}
    held = {
        name: facts for name, facts in files.items() if len(ends) > FEW or _holds(path / name, ends)
    }
    removed: Counter[str] = Counter()

    users = pl.Series(list(ends), dtype=pl.String).implode()

    def keep_others(rows: pl.DataFrame) -> pl.DataFrame:
        # The users' rows alone are looked at closer: few of many.
        is_theirs = rows.select(pl.col(USER_ID).is_in(users).fill_null(value=False))[USER_ID]
        theirs = rows.filter(is_theirs)
        gone = covered(theirs, ends)
        removed.update(dict(theirs.filter(gone)[USER_ID].value_counts().iter_rows()))
        others = rows.filter(~is_theirs)
        return others if gone.all() else pl.concat([others, theirs.filter(~gone)])

    if held:
        delta.rewrite(path, held, keep_others)
    return dict(removed)


def erase_rejects(path: Path, until: Until) -> Removed:
    """Rewrite rejects without those of the users, unreadable lines that name one included."""
    ends = {user: time or _ALL for user, time in until.items()}
    needles = [user for user in ends if len(user) >= _LEAST_IN_RAW]
    removed: Counter[str] = Counter()

    def keep_others(rows: pl.DataFrame) -> pl.DataFrame:
        theirs = covered(rows.select(USER_ID, INGEST_TIME), ends)
        nobodys = rows.filter(pl.col(USER_ID).is_null() & ~theirs)
        found: list[str] = []
        if needles and not nobodys.is_empty():
            named = nobodys.filter(pl.col(RAW).str.contains_any(needles))
            found = named[RAW].unique().to_list()
            for raw in named[RAW]:
                removed[next(user for user in needles if user in raw)] += 1
        removed.update(dict(rows.filter(theirs)[USER_ID].value_counts().iter_rows()))
        is_named = pl.col(USER_ID).is_null() & pl.col(RAW).is_in(found)
        return rows.filter(~(pl.lit(theirs) | is_named.fill_null(value=False)))

    delta.rewrite(path, delta.files(path), keep_others)
    return dict(removed)


def _holds(path: Path, users: Mapping[str, datetime]) -> bool:
    lazy = pl.scan_parquet(path, hive_partitioning=False, glob=False)
    wanted = pl.Series(list(users), dtype=pl.String).implode()
    return bool(lazy.select(pl.col(USER_ID).is_in(wanted).any()).collect().item())
