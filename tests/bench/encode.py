"""`python -m tests.bench.encode`: distinct titles to vectors, on a CPU, one thread, cold.

Ours in bfloat16 and in int8 against sentence-transformers at the batch size that suits it best here.
Writes build/bench/encode.json and encode-int8.json.
"""

import argparse
import html
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from services.core.records import F32
from services.pipeline.complete_journey import complete_journey_events
from services.store.backbone import Backbone, load_backbone
from services.store.backbone_files import find_files
from tests.bench.page import write_page
from tests.bench.pairs import OUT, PACKAGES, Bench, Goal, line, report, versions, write
from tests.bench.work import MORE_PACKAGES, Work, also, each_part, timed

FOOD = Path("../shared/data/food.parquet")
BATCH_SIZES = (16, 32, 64, 128)
Encode = Callable[[list[str]], F32]


@dataclass(kw_only=True)
class Side:
    """One way to encode, and what it gave by part."""

    encode: Encode
    made: dict[int, F32] = field(default_factory=dict)

    def run(self, part: tuple[int, list[str]]) -> Work:
        """Encode a part."""
        number, texts = part

        def encode() -> None:
            self.made[number] = self.encode(texts)

        return timed(len(texts), encode)


def titles(count: int) -> tuple[list[str], str]:
    """Return at most `count` distinct real titles, and where they are from."""
    if FOOD.exists():
        raw = pl.read_parquet(FOOD, columns=["text"])["text"].unique(maintain_order=True)
        found = dict.fromkeys(html.unescape(text) for text in raw)
        return list(found)[:count], "Food.com recipe titles"
    texts = complete_journey_events()["text"].drop_nulls().unique(maintain_order=True)
    return texts.to_list()[:count], "Complete Journey product texts, all there are"


def sentence_transformer(texts: Sequence[str]) -> tuple[Encode, int]:
    """Return the peer on our default weights, and the batch size that it is fastest with."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(find_files().folder), device="cpu")
    # As its own pooling and truncation have it: the same weights, mean of tokens, unit norm.
    model.max_seq_length = 256

    def encode_by(size: int) -> Encode:
        return lambda given: model.encode(
            given, batch_size=size, normalize_embeddings=True, show_progress_bar=False
        )

    sample = list(texts)[:512]
    encode_by(BATCH_SIZES[0])(sample[:64])
    seconds = {}
    for size in BATCH_SIZES:
        started = time.process_time()
        encode_by(size)(sample)
        seconds[size] = time.process_time() - started
    best = min(seconds, key=lambda size: seconds[size])
    return encode_by(best), best


def least_cosines(ours: dict[int, F32], truth: dict[int, F32]) -> dict[str, float]:
    """Return how near vectors are to those in float32."""
    cosine = np.concatenate([(ours[n] * truth[n]).sum(axis=1) for n in sorted(truth)])
    return {
        "texts": len(cosine),
        "least": float(cosine.min()),
        "p1": float(np.percentile(cosine, 1)),
        "mean": float(cosine.mean()),
    }


def in_turns(sides: dict[str, Callable[[], Work]], turns: int) -> dict[str, list[Work]]:
    """Run every side once a turn; each turn begins with another one."""
    found: dict[str, list[Work]] = {name: [] for name in sides}
    names = list(sides)
    for turn in range(turns):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(sides[name]())
    return found


def measure(texts: list[str], source: str, pairs: int) -> list[dict[str, Any]]:
    """Return the results of both benches; each turn all sides encode the same part of the texts."""
    parts = [(n, list(part)) for n, part in enumerate(np.array_split(np.array(texts), pairs))]
    encode, size = sentence_transformer(texts)
    sides = {"peer": Side(encode=encode)}
    goals = (
        ("encode", {"is_bf16": True}, 1.7, 0.999),
        ("encode-int8", {"is_int8": True}, 2.5, 0.99),
    )
    for name, kind, _, _ in goals:
        backbone: Backbone = load_backbone(**kind)
        backbone.encode(texts[:64])
        sides[name] = Side(encode=backbone.encode)
    runs = in_turns({name: each_part(side.run, parts) for name, side in sides.items()}, pairs)
    found = []
    for name, kind, goal, cosine in goals:
        bench = Bench(
            name=name,
            what=f"distinct titles to vectors, cold cache, CPU, {next(iter(kind))[3:]}",
            peer_name=f"sentence-transformers encode, batch_size={size} (best of {BATCH_SIZES})",
            goals=(Goal(figure="per_s", at_least=goal),),
            notes=(
                f"{len(texts)} distinct {source}, each encoded once by each side, in {pairs} parts",
                "one thread; a cold cache of vectors, models loaded and warm; peer in float32, its default",
                "bf16, int8 and the peer in turns: both benches share the peer's runs",
            ),
        )
        near = least_cosines(sides[name].made, sides["peer"].made)
        made = report(bench, runs[name], runs["peer"])
        made |= {"cosine_to_float32": near, "versions": versions(PACKAGES + MORE_PACKAGES)}
        said = f"least cosine to the peer's float32 {near['least']:.4f} >= {cosine}"
        found.append(also(made, reached=near["least"] >= cosine, goal=said))
    return found


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--texts", type=int, default=12_000, help="12,000 take some two minutes")
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    import torch

    torch.set_num_threads(1)
    texts, source = titles(args.texts)
    for found in measure(texts, source, args.pairs):
        write(found, args.out)
        print(line(found), *found["notes"], sep="\n  ")
    print(write_page(args.out))


if __name__ == "__main__":
    main()
