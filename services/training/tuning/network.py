"""The model under tuning: texts in, vectors or tokens' states out; which weights move; its folder.

Dropout stays off: steps are few, and early stopping is what holds a large model back.

Shape suffixes: N = all texts, S = texts of a step, T = tokens, B = width.
"""

import os
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from services.core.errors import InvalidArgument
from services.core.pooling import I64
from services.core.progress import Progress
from services.core.records import F32
from services.store.backbone import length_batches, pad_right, pool_tokens, tokenise
from services.store.backbone_files import (
    TUNING_FILE,
    BackboneFiles,
    TokenPooling,
    find_files,
    is_decoder,
    open_model,
)
from services.training.tuning.config import Mode, Objective, TuneConfig

# Files of a model folder that are no weights.
_BESIDE = ("*.json", "*.txt", "*.model", "*.jinja")


class Network:
    """A text model, its tokenizer, and the texts it is tuned on."""

    def __init__(
        self, texts: Sequence[str], config: TuneConfig, *, backbone: str = "",
        pooling: TokenPooling | None = None,
        on_progress: Progress = lambda stage, done, total: None,
    ) -> None:  # fmt: skip
        """Open the model and tokenise every text once.

        Args:
            texts: the catalogue; rows of it are what everything else names.
            config: mode, objective, lengths.
            backbone: name or folder, as load_backbone takes it.
            pooling: as load_backbone takes it.
            on_progress: called with a stage, done, total while the whole catalogue is encoded.

        Raises:
            InvalidArgument: no such model, or it cannot have the objective.
        """
        self.files = find_files(backbone)
        self.config = config
        continues = config.objective is Objective.CAUSAL
        self.tokenizer, self._model = open_model(self.files, continues=continues)
        self.backbone: Any = self._model.base_model if continues else self._model
        self.is_decoder = is_decoder(self.backbone.config)
        if config.objective is Objective.MLM:
            self._check_gaps()
        self.pooling: TokenPooling = (
            pooling or self.files.tuned_pooling() or ("last" if self.is_decoder else "mean")
        )
        self.max_tokens = min(config.max_tokens, int(self.tokenizer.model_max_length))
        # Blank texts are one text: no words.
        plain = [text if text.strip() else "" for text in texts]
        self.token_ids = tokenise(self.tokenizer, plain, self.max_tokens)
        self._on_progress = on_progress
        self._adapters: Any = None
        self._moving: list[nn.Parameter] = []
        # Of all texts, as the weights now are.
        self._fixed_NB: F32 | None = None

    @property
    def width(self) -> int:
        """B."""
        return int(self.backbone.config.hidden_size)

    def vectors(self, rows: I64) -> Tensor:
        """Return unit vectors [S, B] of some texts, with gradient where weights move."""
        if not self._moving or not torch.is_grad_enabled():
            return torch.from_numpy(self.fixed_vectors(rows))
        out: list[Tensor] = [torch.empty(0)] * len(rows)
        for places, vec_SB in self._forward([self.token_ids[row] for row in rows]):
            for place, vec_B in zip(places, vec_SB, strict=True):
                out[place] = vec_B
        return torch.stack(out)

    def fixed_vectors(self, rows: I64 | None = None) -> F32:
        """Return unit vectors of some texts (None: all) as the weights now are, no gradient."""
        is_many = rows is None or not self._moving or 2 * len(rows) > len(self.token_ids)
        if self._fixed_NB is None and is_many:
            self._fixed_NB = self._encode(self.token_ids, is_shown=True)
        if self._fixed_NB is not None:
            return self._fixed_NB if rows is None else self._fixed_NB[rows]
        assert rows is not None
        return self._encode([self.token_ids[row] for row in rows])

    def encode(self, texts: Sequence[str]) -> F32:
        """Return unit vectors of any texts as the weights now are."""
        plain = [text if text.strip() else "" for text in texts]
        return self._encode(tokenise(self.tokenizer, plain, self.max_tokens), is_shown=True)

    def weights_moved(self) -> None:
        """Forget vectors that were made with other weights."""
        if self._moving:
            self._fixed_NB = None

    def states(self, ids_ST: Tensor, mask_ST: Tensor) -> Tensor:
        """Return tokens' states [S, T, B], float32; no gradient where the backbone is frozen."""
        moves = bool(self._moving) and torch.is_grad_enabled()
        with torch.set_grad_enabled(moves), self._autocast():
            hidden = self.backbone(input_ids=ids_ST, attention_mask=mask_ST).last_hidden_state
        states_STB: Tensor = hidden.float()
        return states_STB

    def embedding(self) -> Tensor:
        """Return the tokens' embeddings [V, B]."""
        weight: Tensor = self.backbone.get_input_embeddings().weight
        return weight

    def next_token_head(self) -> nn.Module:
        """Return what turns a decoder's states into scores of the next token."""
        head: nn.Module = self._model.get_output_embeddings()
        return head

    def let_move(self, mode: Mode) -> list[nn.Parameter]:
        """Choose which of the backbone's weights move, and return them."""
        self.backbone.requires_grad_(requires_grad=mode is Mode.FULL)
        if mode is Mode.LORA:
            self._add_adapters()
        self._moving = [p for p in self.backbone.parameters() if p.requires_grad]
        return self._moving

    def merge(self) -> None:
        """Add the adapters into the weights they stand beside; nothing to do without any."""
        if self._adapters is not None:
            self.backbone = self._adapters.merge_and_unload()
            self._adapters = None

    def save(self, folder: Path) -> None:
        """Write a folder that load_backbone reads: whole, without heads and without adapters."""
        if self.config.mode is Mode.HEAD and not self.files.gguf:
            _copy(self.files.folder, folder)
            return
        self.merge()
        plain = self._plain()
        plain.load_state_dict(self.backbone.state_dict(), strict=False)
        plain.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)

    def _plain(self) -> Any:
        """Return a model of the backbone's kind that can be saved."""
        if not self.files.gguf:
            # What tuning did not open (a pooler) stays as it was.
            return open_model(self.files)[1]
        # transformers holds one of a GGUF file to be quantised still, and does not save it.
        config = type(self.backbone.config)(**self.backbone.config.to_dict())
        if hasattr(config, "quantization_config"):
            del config.quantization_config
        return type(self.backbone)(config)

    def _encode(self, token_ids: list[list[int]], *, is_shown: bool = False) -> F32:
        out_NB = np.empty((len(token_ids), self.width), np.float32)
        done = 0
        with torch.no_grad():
            for places, vec_SB in self._forward(token_ids):
                out_NB[places] = vec_SB.numpy()
                done += len(places)
                if is_shown:
                    self._on_progress("encode texts", done, len(token_ids))
        return out_NB

    def _forward(self, token_ids: list[list[int]]) -> Iterator[tuple[list[int], Tensor]]:
        """Yield places in `token_ids` and their vectors, batches of like length."""
        for places in length_batches([len(ids) for ids in token_ids]):
            ids_ST, mask_ST = pad_right(
                [token_ids[place] for place in places], self.tokenizer.pad_token_id
            )
            pooled_SB = pool_tokens(self.states(ids_ST, mask_ST), mask_ST, self.pooling)
            yield places, nn.functional.normalize(pooled_SB, dim=1)

    def _autocast(self) -> AbstractContextManager[Any]:
        return torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.config.is_bf16)

    def _add_adapters(self) -> None:
        try:
            import peft
        except ModuleNotFoundError:
            raise InvalidArgument(
                "mode", "lora needs peft; pip install driftline-services[tune]"
            ) from None
        # The pooler stands behind the tokens' states: it moves no vector.
        linear = [
            name
            for name, module in self.backbone.named_modules()
            if isinstance(module, nn.Linear) and "pooler" not in name
        ]
        if not linear:
            raise InvalidArgument("mode", "this model has no linear layers for lora; choose full")
        settings = peft.LoraConfig(
            r=self.config.lora_rank, lora_alpha=self.config.lora_alpha, target_modules=linear
        )
        with warnings.catch_warnings():
            # peft asks transformers for what it will rename.
            warnings.simplefilter("ignore", FutureWarning)
            # Adapters go into the backbone's own modules: it goes on being called as it is.
            self._adapters = peft.get_peft_model(self.backbone, settings)

    def _check_gaps(self) -> None:
        name = self.files.name
        if self.is_decoder:
            raise InvalidArgument(
                "objective", f"{name!r} is a decoder: it fills no gaps; tune it with causal"
            )
        if self.tokenizer.mask_token_id is None:
            raise InvalidArgument("objective", f"{name!r} has no mask token, so no mlm")


def check_free(out: Path) -> None:
    """Check that a folder may be written: before the work, not after it.

    Raises:
        InvalidArgument: it holds something that is no tuned backbone, or cannot be made.
    """
    there = next(parent for parent in out.resolve().parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise InvalidArgument("out", f"{there} is no folder that can be written into; name another")
    if out.exists() and (not out.is_dir() or (any(out.iterdir()) and not _is_tuned(out))):
        raise InvalidArgument("out", f"{out} holds other files; name an empty or new folder")


@contextmanager
def new_folder(out: Path) -> Iterator[Path]:
    """Give an empty folder to write into, and put it in its place at the end: whole or not at all."""
    out = out.resolve()
    staged = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    try:
        yield staged
        if out.exists():
            shutil.rmtree(out)
        staged.rename(out)
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _is_tuned(folder: Path) -> bool:
    return (folder / TUNING_FILE).is_file()


def _copy(source: Path, folder: Path) -> None:
    for pattern in (*_BESIDE, "*.safetensors"):
        for file in source.glob(pattern):
            if file.name != TUNING_FILE:
                shutil.copyfile(file, folder / file.name)


def identity_of(files: BackboneFiles) -> dict[str, str]:
    """Return a base model's name and the hash of its weights."""
    return {"name": files.name, "weights_sha256": files.sha256()}
