"""`python -m tests.bench.period_vectors`: a year of purchases to weekly vectors, no text encoded before.

Peers: the source article's way, each user-week's texts joined and encoded, on a sample; and each
distinct text once by sentence-transformers, then the mean by Polars. Writes
build/bench/period-vectors.json (the article's way) and period-vectors-polars.json.

Shape suffixes: N = texts, P = (user, week) pairs, D = width.
"""

import argparse
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.pooling import PooledPeriods, PoolingConfig, event_weights, pool_periods
from services.core.records import F32
from services.core.schema import EVENT_TIME, KIND, TEXT, USER_ID, VALUE
from services.pipeline.complete_journey import complete_journey_events
from services.store.backbone import load_backbone
from tests.bench.encode import Encode, sentence_transformer
from tests.bench.page import write_page
from tests.bench.pairs import OUT, Bench, Goal, line, write
from tests.bench.work import Work, compared, each_part, timed

WEEK = "week"
# Of the user-weeks, as the article's way encodes them.
SAMPLE = 0.02
# Users whose rows the peer's mean holds at once: 384 columns beside each.
PEER_SLICES = 16


def described(events: pl.DataFrame) -> pl.DataFrame:
    """Return the events that have a text, with their ISO week's Monday."""
    week = pl.col(EVENT_TIME).dt.truncate("1w").alias(WEEK)
    return events.drop_nulls(TEXT).select(USER_ID, TEXT, KIND, VALUE, week)


def ours(events: pl.DataFrame, encode: Encode) -> PooledPeriods:
    """Encode each distinct text once, and pool; users and weeks in ascending order."""
    texts, text_row_E = _codes(events[TEXT])
    _, user_row_E = _codes(events[USER_ID])
    vec_ND = encode(texts)
    return pool_periods(
        user_row_E,
        events[WEEK].dt.timestamp("us").to_numpy(),
        text_row_E,
        event_weights(events[KIND].to_numpy().astype(str), events[VALUE].to_numpy(), POOLING),
        vec_ND,
        POOLING,
    )


POOLING = PoolingConfig()


def polars_mean(events: pl.DataFrame, encode: Encode) -> pl.DataFrame:
    """Encode each distinct text once; the mean of a user's rows in a week, by Polars."""
    texts = events[TEXT].unique().to_list()
    columns = {f"v{d}": column for d, column in enumerate(np.asarray(encode(texts)).T.copy())}
    vectors = pl.DataFrame({TEXT: texts} | columns)
    rows = events.select(USER_ID, TEXT, WEEK)
    slices = rows.with_columns((pl.col(USER_ID).hash() % PEER_SLICES).alias("slice"))
    return pl.concat(
        part.join(vectors, on=TEXT).group_by(USER_ID, WEEK).agg(pl.col(*columns).mean())
        for part in slices.partition_by("slice", include_key=False)
    ).sort(USER_ID, WEEK)


def joined_texts(events: pl.DataFrame) -> pl.Series:
    """Return each user-week's texts as one text, in the order they were bought."""
    weeks = events.group_by(USER_ID, WEEK, maintain_order=True)
    return weeks.agg(pl.col(TEXT).str.join(". "))[TEXT]


def against_polars(
    events: pl.DataFrame, pairs: int, encode: Encode, peer_and_size: tuple[Encode, int]
) -> dict[str, Any]:
    """Measure against distinct texts and a mean by Polars."""
    peer, size = peer_and_size
    weeks = _weeks(events)
    bench = Bench(
        name="period-vectors-polars",
        what=f"{len(events)} events to {weeks} weekly vectors, encoder cache cold",
        peer_name=f"each distinct text once by sentence-transformers (batch_size={size}), Polars mean",
        goals=(Goal(figure="per_s", at_least=1.5),),
        notes=NOTES,
    )
    return compared(
        bench,
        lambda: timed(weeks, lambda: ours(events, encode)),
        lambda: timed(weeks, lambda: polars_mean(events, peer)),
        pairs,
    )


def against_article(
    events: pl.DataFrame,
    pairs: int,
    encode: Encode,
    share: float,
    fit: Callable[[Sequence[str]], tuple[Encode, int]] = sentence_transformer,
) -> dict[str, Any]:
    """Measure against the article's way on a sample of user-weeks, a part of it in each pair."""
    texts, weeks = joined_texts(events), _weeks(events)
    sample = texts.sample(max(int(len(texts) * share), pairs), seed=1).to_list()
    peer, size = fit(sample[:64])
    bench = Bench(
        name="period-vectors",
        what=f"{len(events)} events to {weeks} weekly vectors, encoder cache cold",
        peer_name="the article's way: each user-week's texts joined and encoded, "
        f"sentence-transformers (batch_size={size})",
        goals=(Goal(figure="per_s", at_least=50.0),),
        notes=(
            *NOTES,
            f"the peer encodes {len(sample)} user-weeks drawn from all ({share:.1%}), a part a pair: its "
            "rate is taken for the rate of the whole; texts beyond 256 tokens are cut, in its favour",
        ),
    )

    def encoded(part: Sequence[str]) -> Work:
        return timed(len(part), partial(peer, list(part)))

    return compared(
        bench,
        lambda: timed(weeks, lambda: ours(events, encode)),
        each_part(encoded, _split(sample, pairs)),
        pairs,
    )


NOTES = (
    f"one thread for models and numpy, {pl.thread_pool_size()} for Polars; events in memory, models "
    "loaded; ours in bfloat16",
    "ours weighs repeats and quantities, the peer's mean does not; neither writes to a store",
)


def _split(rows: list[str], parts: int) -> list[list[str]]:
    return [rows[n::parts] for n in range(parts)]


def _codes(column: pl.Series) -> tuple[list[str], np.ndarray]:
    """Return distinct values, ascending, and each row's position among them."""
    distinct = column.unique().sort()
    codes = column.cast(pl.Enum(distinct)).to_physical().cast(pl.Int64).to_numpy()
    return distinct.to_list(), codes


def _weeks(events: pl.DataFrame) -> int:
    return events.select(USER_ID, WEEK).n_unique()


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--peer", choices=("article", "polars", "both"), default="both")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--share", type=float, default=SAMPLE)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    events = described(complete_journey_events())
    encode = load_backbone(is_bf16=True).encode
    encode(["warm"])
    for found in _results(events, args, encode):
        write(found, args.out)
        print(line(found), *found["notes"], sep="\n  ")
    print(write_page(args.out))


def _results(
    events: pl.DataFrame, args: argparse.Namespace, encode: Callable[[list[str]], F32]
) -> Iterator[dict[str, Any]]:
    if args.peer != "polars":
        yield against_article(events, args.pairs, encode, args.share)
    if args.peer != "article":
        peer = sentence_transformer(events[TEXT].unique(maintain_order=True).to_list())
        yield against_polars(events, args.pairs, encode, peer)


if __name__ == "__main__":
    main()
