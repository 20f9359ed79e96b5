"""The benchmark of small refreshes publishes what it says, and the full one has nothing left to do."""

from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl

from tests.bench.refresh_delta import households, make, measure


class Toy:
    """A backbone that knows words by their letters."""

    def __init__(self):
        from services.core.tower import BackboneSpec

        self.spec = BackboneSpec(name="toy", weights_sha256="0" * 64, width=26)

    def encode(self, texts, on_progress=None):
        rows = [[text.count(chr(97 + letter)) + 0.1 for letter in range(26)] for text in texts]
        rows = np.array(rows, np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def planted():
    rng, start = np.random.default_rng(0), datetime(2017, 10, 2, tzinfo=UTC)
    texts = ["tea", "milk", "wine", "bread"]
    rows = [
        {
            "event_id": f"{user}-{n}", "user_id": f"u{user}", "item_id": text, "kind": "purchase",
            "value": 1.0, "event_time": start + timedelta(hours=float(hour)), "text": text,
            "categories": ["all"],
        }
        for user in range(4)
        for n, (text, hour) in enumerate(zip(rng.choice(texts, 20), rng.uniform(0, 50 * 24, 20), strict=True))
    ]  # fmt: skip
    time = pl.col("event_time").dt.convert_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows).with_columns(time).sort("event_time", "event_id")


def test_a_delta_publishes_the_users_of_new_events_and_closing_a_week_costs_apart(tmp_path):
    path = make(tmp_path, planted(), Toy())
    assert path.refresh(is_full=True) == (0, 0)
    found = measure(path, 1)
    assert path.published[0] >= 1
    assert found["closing_a_week"]["forecasts"] >= 1
    assert found["reached"] == (found["ratio"] >= 20)


def test_what_deltas_publish_is_what_a_full_refresh_would_to_a_millionth(tmp_path):
    path = make(tmp_path, planted(), Toy())
    for _ in range(3):
        path.delta()
    assert path.refresh(is_full=True) == (0, 0)


def test_households_are_drawn_with_all_their_events():
    some = households(planted(), 2)
    assert some["user_id"].n_unique() == 2
    assert len(some) == 40
