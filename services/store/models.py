"""The model registry as a folder: a folder per model, and STAGES.json, replaced in one atomic step."""

import re
import shutil
import uuid
from pathlib import Path

from filelock import FileLock

from services.core.errors import InvalidArgument, NotReady
from services.core.records import ModelInfo
from services.store.files import sync
from services.store.layout import Layout, read_json, write_json
from services.store.model_folder import check_model_folder, load_info
from services.store.turns import REGISTRY_LOCK

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_MANIFEST = "model.json"
LIVE, PREVIOUS, CANDIDATE = "live", "previous", "candidate"
# Refreshed beside the live one: what is migrated to and, after the switch, what was migrated from.
SHADOW = "shadow"


class FolderRegistry:
    """Models of each tenant under `models/`; see the port ModelRegistry."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def add(self, tenant: str, folder: str, info: ModelInfo) -> None:
        """Copy a finished model folder in as candidate; the same model again changes nothing.

        Raises:
            InvalidArgument: its name is no file name or not the one in model.json, a file's hash is
                not the one there, or a file lies outside the folder.
        """
        target, source = self._path(tenant, info.model_version), Path(folder)
        named = load_info(source).model_version
        if named != info.model_version:
            raise InvalidArgument("model_version", f"model.json says {named!r}")
        _refuse_escapes(source)
        check_model_folder(source)
        with self._alone(tenant):
            if not target.exists():
                _copy(source, target)
            stages = self._stages(tenant)
            if info.model_version not in stages.values():
                self._write(tenant, {**stages, CANDIDATE: info.model_version})

    def promote(self, tenant: str, model_version: str) -> None:
        """Make a model live in one atomic step; the live one becomes previous.

        Raises:
            InvalidArgument: the registry has no such model, or its files were changed.
        """
        check_model_folder(Path(self.folder(tenant, model_version)))
        with self._alone(tenant):
            stages = self._stages(tenant)
            if stages.get(LIVE) == model_version:
                return
            kept = {stage: name for stage, name in stages.items() if name != model_version}
            if LIVE in kept:
                kept[PREVIOUS] = kept[LIVE]
            self._write(tenant, {**kept, LIVE: model_version})

    def rollback(self, tenant: str) -> None:
        """Make the previous model live again; the live one becomes previous.

        Raises:
            NotReady: no model was live before this one.
        """
        previous = self._stages(tenant).get(PREVIOUS)
        if previous is None:
            raise NotReady("previous model", "promote another one first")
        self.promote(tenant, previous)

    def shadow(self, tenant: str) -> ModelInfo | None:
        """Return the model that is refreshed beside the live one; None outside a migration."""
        version = self._stages(tenant).get(SHADOW)
        return (
            None if version is None else self._info(tenant, version, self._stage(tenant, version))
        )

    def set_shadow(self, tenant: str, model_version: str | None) -> None:
        """Begin to refresh a model beside the live one, or end it with None.

        Raises:
            InvalidArgument: the registry has no such model, its files were changed, or it is live.
        """
        if model_version is not None:
            check_model_folder(Path(self.folder(tenant, model_version)))
        with self._alone(tenant):
            stages = self._stages(tenant)
            if model_version is not None and stages.get(LIVE) == model_version:
                raise InvalidArgument("model_version", f"{model_version} is live already")
            stages.pop(SHADOW, None)
            if model_version is not None:
                stages[SHADOW] = model_version
            self._write(tenant, stages)

    def switch(self, tenant: str, model_version: str) -> None:
        """Make the shadow live and the live model previous and shadow, in one atomic step.

        Called again for what is live by now it changes nothing.

        Raises:
            InvalidArgument: this model is not the shadow, or its files were changed.
        """
        check_model_folder(Path(self.folder(tenant, model_version)))
        with self._alone(tenant):
            stages = self._stages(tenant)
            if stages.get(LIVE) == model_version:
                return
            if stages.get(SHADOW) != model_version:
                raise InvalidArgument(
                    "model_version", f"{model_version} is not migrated to; `driftline migrate --to`"
                )
            kept = {stage: name for stage, name in stages.items() if name != model_version}
            before = {PREVIOUS: stages[LIVE], SHADOW: stages[LIVE]} if LIVE in stages else {}
            self._write(tenant, {**kept, **before, LIVE: model_version})

    def live(self, tenant: str) -> ModelInfo:
        """Return the live model.

        Raises:
            NotReady: there is none.
        """
        version = self._stages(tenant).get(LIVE)
        if version is None:
            raise NotReady("live model", "run `driftline train`")
        return self._info(tenant, version, LIVE)

    def folder(self, tenant: str, model_version: str) -> str:
        """Return the path of a model's folder; its files are verified when they are loaded.

        Raises:
            InvalidArgument: the registry has no such model.
        """
        path = self._path(tenant, model_version)
        if not (path / _MANIFEST).is_file():
            raise InvalidArgument("model_version", f"no model {model_version!r}; see ListModels")
        return str(path)

    def list(self, tenant: str) -> list[ModelInfo]:
        """Return every model, newest first."""
        found = [
            self._info(tenant, path.parent.name, self._stage(tenant, path.parent.name))
            for path in self._layout.models_dir(tenant).glob(f"[!.]*/{_MANIFEST}")
        ]
        return sorted(found, key=lambda info: (info.trained_time, info.model_version), reverse=True)

    def _info(self, tenant: str, version: str, stage: str) -> ModelInfo:
        return load_info(self._path(tenant, version), stage)

    def _stage(self, tenant: str, version: str) -> str:
        """Return what a model is besides a shadow."""
        stages = self._stages(tenant).items()
        return next((stage for stage, name in stages if name == version and stage != SHADOW), "")

    def _path(self, tenant: str, version: str) -> Path:
        if not _NAME.fullmatch(version):
            raise InvalidArgument("model_version", f"{version!r} must match {_NAME.pattern}")
        return self._layout.models_dir(tenant) / version

    def _alone(self, tenant: str) -> FileLock:
        folder = self._layout.models_dir(tenant)
        folder.mkdir(parents=True, exist_ok=True)
        return FileLock(folder / REGISTRY_LOCK)

    def _stages(self, tenant: str) -> dict[str, str]:
        return dict(read_json(self._layout.models_dir(tenant) / "STAGES.json"))

    def _write(self, tenant: str, stages: dict[str, str]) -> None:
        write_json(self._layout.models_dir(tenant) / "STAGES.json", stages)


def _refuse_escapes(folder: Path) -> None:
    """Raise InvalidArgument where a file is a link, or is listed by more than a plain name."""
    listed = read_json(folder / _MANIFEST)["files"]
    names = [*listed, *(path.name for path in folder.iterdir() if path.is_symlink())]
    for name in names:
        if Path(name).name != name or (folder / name).is_symlink():
            raise InvalidArgument("model", f"{name!r} lies outside the folder")


def _copy(source: Path, target: Path) -> None:
    """Copy the files that model.json lists, whole or not at all."""
    draft = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
    draft.mkdir(parents=True)
    try:
        for name in (*read_json(source / _MANIFEST)["files"], _MANIFEST):
            shutil.copyfile(source / name, draft / name)
            sync(draft / name)
        draft.rename(target)
        sync(target.parent)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
