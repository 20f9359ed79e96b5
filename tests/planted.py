"""Planted data: every user follows one topic, so that what can be learned is known."""

import hashlib
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from services.core.tower import BackboneSpec

START = datetime(2026, 1, 5, tzinfo=UTC)  # a Monday
TOPICS = ("tea", "guitar", "garden", "chess")


class WordEncoder:
    """Sums a random vector per word: texts of one topic are alike."""

    spec = BackboneSpec(name="words", weights_sha256="00", width=24)

    def __init__(self):
        self.asked = []

    def encode(self, texts, on_progress=None):
        self.asked += texts
        rows = np.stack(
            [np.sum([_word(word) for word in text.split() or [""]], axis=0) for text in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def _word(word):
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).normal(size=24)


def planted_events(users=24, weeks=16, items_per_topic=12, per_week=3, seed=0):
    """Each user has `per_week` random items of one topic each week; topic 0 has most users."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        topic = int(rng.choice(4, p=[0.4, 0.2, 0.2, 0.2]))
        for week in range(weeks):
            for _ in range(per_week):
                number = int(rng.integers(items_per_topic))
                at = START + timedelta(weeks=week, hours=float(rng.uniform(0, 167)))
                name = TOPICS[topic]
                rows.append(
                    (
                        f"u{user:02}",
                        f"{name}-{number:02}",
                        at,
                        "purchase",
                        1.0,
                        f"{name} number{number}",
                    )
                )
    # The data reach the end of the last week.
    rows.append((*rows[0][:2], START + timedelta(weeks=weeks, seconds=-1), *rows[0][3:]))
    return pl.DataFrame(
        rows, schema=["user_id", "item_id", "event_time", "kind", "value", "text"], orient="row"
    ).with_columns(pl.col("event_time").cast(pl.Datetime("us", "UTC")))
