"""Offline rows of users of several buckets: each bucket's in a part of its own, named by what it says.

Shape suffixes: P = rows.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from services.core.schema import COMPUTED_TIME, KNOWN_TIME, USER_ID
from services.store.ports import FeatureWriter


@dataclass(frozen=True, slots=True, kw_only=True)
class BucketUsers:
    """Users of one bucket in a publication."""

    bucket: int
    users: Sequence[str]
    # What the names of their parts begin with.
    prefix: str


def append_shares(
    features: FeatureWriter,
    tenant: str,
    view: str,
    rows: pl.DataFrame,
    shares: Sequence[BucketUsers],
) -> None:
    """Append rows of a view, one part a bucket that has any; the same rows get the same names again."""
    if rows.is_empty():
        return
    share_of = {user: number for number, share in enumerate(shares) for user in share.users}
    share_P = np.array([share_of[user] for user in rows[USER_ID].to_list()])
    hash_P = _hashes(rows)
    for number, share in enumerate(shares):
        theirs_P = np.flatnonzero(share_P == number)
        if len(theirs_P):
            part = f"{share.prefix}-{_digest(hash_P[theirs_P])}"
            features.append_offline(tenant, view, share.bucket, part, rows[theirs_P])


def content_digest(rows: pl.DataFrame) -> str:
    """Return what names a part by what its rows say, whenever they were computed."""
    return _digest(_hashes(rows))


def _hashes(rows: pl.DataFrame) -> NDArray[np.uint64]:
    return rows.drop(COMPUTED_TIME, KNOWN_TIME).hash_rows(seed=0).to_numpy()


def _digest(hash_P: NDArray[np.uint64]) -> str:
    return hashlib.sha256(hash_P.tobytes()).hexdigest()[:16]
