"""`python -m tests.bench.gpu`: tokens a second on a GPU in bf16, and the share of the device's peak.

Ours as it is, ours compiled, and sentence-transformers on the same device and in the same precision, in turns.
Where there is no GPU it says so, and writes nothing. Writes build/bench/gpu.json.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from services.store.backbone import Backbone, load_backbone
from services.store.backbone_files import find_files
from tests.bench.encode import titles
from tests.bench.pairs import OUT, PACKAGES, Bench, Goal, line, report, versions, write
from tests.bench.work import MORE_PACKAGES

# Dense bf16, TFLOP/s, from the makers' data sheets.
PEAKS = {"H200": 989.0, "H100": 989.0, "A100": 312.0, "L40S": 362.0, "L4": 121.0, "A10": 125.0}
PEER_BATCHES = (128, 512, 2048)
NO_GPU = "no GPU here (torch.cuda.is_available() is False): nothing was measured"


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One run of one side."""

    tokens_per_s: float


def peak_of(device_name: str) -> float | None:
    """Return a device's peak in TFLOP/s; None where it is not known."""
    return next((peak for name, peak in PEAKS.items() if name in device_name), None)


def flops_a_token(model: torch.nn.Module) -> int:
    """Return a multiplication and an addition for each weight but those that are looked up."""
    looked_up = sum(
        part.weight.numel() for part in model.modules() if isinstance(part, torch.nn.Embedding)
    )
    return 2 * (sum(weight.numel() for weight in model.parameters()) - looked_up)


def share_of_peak(tokens_per_s: float, flops: int, peak_tflops: float | None) -> float | None:
    """Return which part of the device's peak was used, in [0, 1]; None where it is not known."""
    return None if peak_tflops is None else tokens_per_s * flops / (peak_tflops * 1e12)


def speed(encode: Callable[[Sequence[str]], Any], texts: Sequence[str], tokens: int) -> Speed:
    """Time one run; whatever it left on the device is waited for."""
    started = time.perf_counter()
    encode(texts)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return Speed(tokens_per_s=tokens / (time.perf_counter() - started))


def peer(texts: Sequence[str], device: str) -> tuple[Callable[[Sequence[str]], Any], int]:
    """Return sentence-transformers at the batch size that suits it best."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(find_files().folder), device=device, model_kwargs={"dtype": torch.bfloat16}
    )
    model.max_seq_length = 256

    def encode_by(size: int) -> Callable[[Sequence[str]], Any]:
        return lambda given: model.encode(
            list(given), batch_size=size, normalize_embeddings=True, show_progress_bar=False
        )

    rates = {}
    for size in PEER_BATCHES:
        encode_by(size)(texts[:64])
        rates[size] = speed(encode_by(size), texts, 1).tokens_per_s
    best = max(rates, key=lambda size: rates[size])
    return encode_by(best), best


def measure(texts: Sequence[str], device: str, pairs: int, *, compiles: bool) -> dict[str, Any]:
    """Return the result, on any device of torch."""
    ours = {"ours": load_backbone(device=device, is_bf16=True)}
    if compiles:
        ours["compiled"] = load_backbone(device=device, is_bf16=True, is_compiled=True)
    plain: Backbone = ours["ours"]
    tokens = sum(map(len, plain._token_ids(list(dict.fromkeys(texts)))))
    other, size = peer(texts[: 4 * max(PEER_BATCHES)], device)
    sides = {name: backbone.encode for name, backbone in ours.items()} | {"peer": other}
    for encode in sides.values():
        encode(texts)
    runs: dict[str, list[Speed]] = {name: [] for name in sides}
    for turn in range(pairs):
        order = list(sides)[turn % len(sides) :] + list(sides)[: turn % len(sides)]
        for name in order:
            runs[name].append(speed(sides[name], texts, tokens))
    bench = Bench(
        name="gpu",
        what=f"{len(texts)} titles, {tokens} tokens, bf16, on {device}",
        peer_name=f"sentence-transformers encode in bf16, batch_size={size} (best of {PEER_BATCHES})",
        goals=(Goal(figure="tokens_per_s", at_least=1.0),),
    )
    found = report(bench, runs["ours"], runs["peer"])
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    flops = flops_a_token(plain._model)
    return found | {
        "device": name,
        "share_of_peak": {
            side: share_of_peak(
                float(np.median([run.tokens_per_s for run in made])), flops, peak_of(name)
            )
            for side, made in runs.items()
        },
        "compiled_tokens_per_s": [run.tokens_per_s for run in runs.get("compiled", [])],
        "versions": versions(PACKAGES + MORE_PACKAGES),
    }


def main() -> None:
    """Measure, write and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--texts", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print(NO_GPU)
        return
    found = measure(titles(args.texts)[0], "cuda", args.pairs, compiles=True)
    write(found, args.out)
    print(line(found))
    print(f"  {found['device']}: share of peak {found['share_of_peak']}")
    print(f"  compiled: {found['compiled_tokens_per_s']} tokens/s")


if __name__ == "__main__":
    main()
