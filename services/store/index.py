"""Published item catalogues as folders: immutable generations, CURRENT, and small segments between them.

index/{space}/{generation}/vectors.npy     float32 [N, D], memory-mapped by readers
                           items.parquet   item_id, title, categories, share (one list a row)
                           topics.json     ids, names, terms, categories, centroids; absent in older ones
                           manifest.json   space, model, counts, sha256 of the files
                           seg-000001.parquet   items added since, vectors included
index/{space}/CURRENT                      name of the generation, replaced in one atomic step
"""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from filelock import FileLock

from services.core.errors import DependencyUnavailable, InvalidArgument, NotReady, SpaceMismatch
from services.core.ranking import ItemStats
from services.core.records import F32
from services.store.files import file_sha256, replacing
from services.store.frames import vectors_column
from services.store.layout import Layout, write_json
from services.store.ports import Catalogue
from services.store.topic_files import TOPICS, topics_from_json, topics_to_json
from services.store.turns import PUBLISH_LOCK

# A reader may still hold the generation before; older ones go.
KEPT_GENERATIONS = 3
_GENERATION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_SCHEMA: dict[str, Any] = {
    "item_id": pl.String,
    "title": pl.String,
    "categories": pl.List(pl.String),
    "share": pl.List(pl.Float32),
    "first_time": pl.Float64,
}


class FolderCatalogues:
    """Catalogues of each tenant and space under `index/`; see the port CatalogueStore."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        # Folders whose files were found whole; they never change after.
        self._verified: set[Path] = set()

    def publish(self, tenant: str, catalogue: Catalogue) -> None:
        """Write a generation, then make it current in one atomic step.

        Raises:
            InvalidArgument: items are not in ascending order, or arrays have other lengths.
        """
        check_catalogue(catalogue)
        root = self._layout.index_dir(tenant, catalogue.space_id)
        with _alone(root):
            self._write_generation(root, catalogue)
            with replacing(root / "CURRENT") as draft:
                draft.write_text(catalogue.generation)
            self._remove_old(root, catalogue.generation)

    def _write_generation(self, root: Path, catalogue: Catalogue) -> None:
        folder = root / catalogue.generation
        folder.mkdir(parents=True, exist_ok=True)
        self._verified.discard(folder)
        for stale in folder.glob("seg-*.parquet"):
            stale.unlink()
        with replacing(folder / "vectors.npy") as draft, draft.open("wb") as file:
            np.save(file, np.ascontiguousarray(catalogue.items_ND, np.float32), allow_pickle=False)
        with replacing(folder / "items.parquet") as draft:
            _rows(catalogue).write_parquet(draft)
        files = ["vectors.npy", "items.parquet"]
        if catalogue.topics is not None:
            write_json(folder / TOPICS, topics_to_json(catalogue.topics))
            files.append(TOPICS)
        write_json(
            folder / "manifest.json",
            {
                "space_id": catalogue.space_id,
                "model_version": catalogue.model_version,
                "item_count": len(catalogue.item_ids),
                "window_count": catalogue.stats.share_NW.shape[1],
                "files": {name: file_sha256(folder / name) for name in files},
            },
        )

    def publish_segment(self, tenant: str, catalogue: Catalogue) -> None:
        """Add items to the current generation, or new versions of its items; readers poll for it.

        Raises:
            NotReady: there is no generation. InvalidArgument: as for publish, or the width or the
                popularity windows are not the generation's.
        """
        check_catalogue(catalogue)
        with _alone(self._layout.index_dir(tenant, catalogue.space_id)):
            folder = self._current_folder(tenant, catalogue.space_id)
            base = self.current(tenant, catalogue.space_id)
            check_same_shape(base, catalogue)
            number = len(list(folder.glob("seg-*.parquet"))) + 1
            with replacing(folder / f"seg-{number:06}.parquet") as draft:
                vectors = vectors_column(catalogue.items_ND).alias("vec")
                _rows(catalogue).with_columns(vectors).write_parquet(draft)

    def current(self, tenant: str, space_id: str) -> Catalogue:
        """Return the current generation with its segments merged, in ascending item_id order.

        Raises:
            NotReady: nothing was published in this space.
            DependencyUnavailable: a file is damaged or cannot be read.
        """
        folder = self._current_folder(tenant, space_id)
        try:
            manifest = json.loads((folder / "manifest.json").read_text())
            self._verify(folder, manifest["files"])
            items_ND = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
            rows = pl.read_parquet(folder / "items.parquet")
            topics = (
                topics_from_json(json.loads((folder / TOPICS).read_text()))
                if TOPICS in manifest["files"]
                else None
            )
            segments = [pl.read_parquet(path) for path in sorted(folder.glob("seg-*.parquet"))]
        except (OSError, ValueError, KeyError, pl.exceptions.PolarsError) as error:
            raise DependencyUnavailable("the item index", f"cannot be read ({error})") from error
        if manifest["space_id"] != space_id:
            raise SpaceMismatch(space_id, manifest["space_id"])
        if segments:
            rows, items_ND = _merge(rows, items_ND, segments)
        return Catalogue(
            space_id=space_id,
            model_version=manifest["model_version"],
            generation=folder.name,
            item_ids=tuple(rows["item_id"]),
            titles=tuple(rows["title"]),
            categories=tuple(tuple(names) for names in rows["categories"].to_list()),
            items_ND=items_ND,
            stats=_stats(rows, manifest["window_count"]),
            topics=topics,
        )

    def current_token(self, tenant: str, space_id: str) -> str:
        """Return a token that changes whenever `current` would; empty where nothing was published."""
        try:
            folder = self._current_folder(tenant, space_id)
        except NotReady:
            return ""
        return f"{folder.name}/{len(list(folder.glob('seg-*.parquet')))}"

    def _verify(self, folder: Path, sha256_of: dict[str, str]) -> None:
        if folder in self._verified:
            return
        for name in _differing(folder, sha256_of):
            raise DependencyUnavailable(
                "the item index", f"has a damaged {name} in {folder.name}; publish it again"
            )
        self._verified.add(folder)

    def _current_folder(self, tenant: str, space_id: str) -> Path:
        root = self._layout.index_dir(tenant, space_id)
        try:
            return root / (root / "CURRENT").read_text().strip()
        except FileNotFoundError:
            raise NotReady("item index", "import items and run `driftline refresh`") from None

    @staticmethod
    def _remove_old(root: Path, current: str) -> None:
        others = [path for path in root.iterdir() if path.is_dir() and path.name != current]
        others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
        for path in others[KEPT_GENERATIONS - 1 :]:
            shutil.rmtree(path, ignore_errors=True)


def damaged_files(folder: Path) -> list[str]:
    """Return the names of a generation's files that are not as they were published."""
    try:
        sha256_of = json.loads((folder / "manifest.json").read_text())["files"]
    except (OSError, ValueError, KeyError, TypeError):
        return ["manifest.json"]
    return _differing(folder, sha256_of)


def _differing(folder: Path, sha256_of: dict[str, str]) -> list[str]:
    names = ("vectors.npy", "items.parquet", *({TOPICS} & sha256_of.keys()))
    return [
        name
        for name in names
        if not (folder / name).exists() or file_sha256(folder / name) != sha256_of.get(name)
    ]


def check_catalogue(catalogue: Catalogue) -> None:
    """Raise InvalidArgument unless items are unique, in ascending order, and arrays fit them."""
    ids, count = catalogue.item_ids, len(catalogue.item_ids)
    if not _GENERATION.fullmatch(catalogue.generation):
        raise InvalidArgument("generation", f"{catalogue.generation!r} is no folder's name")
    if any(before >= after for before, after in pairwise(ids)):
        raise InvalidArgument("item_ids", "must be unique and in ascending order")
    stats = catalogue.stats
    lengths = (
        catalogue.titles, catalogue.categories, catalogue.items_ND, stats.share_NW,
        stats.first_time_N,
    )  # fmt: skip
    if any(len(each) != count for each in lengths):
        raise InvalidArgument("catalogue", f"every column must have {count} rows")


def check_same_shape(base: Catalogue, added: Catalogue) -> None:
    """Raise InvalidArgument unless `added` has the vectors' width and the windows of `base`."""
    if base.items_ND.shape[1] != added.items_ND.shape[1]:
        raise InvalidArgument("items_ND", f"must have width {base.items_ND.shape[1]}")
    if base.stats.share_NW.shape[1] != added.stats.share_NW.shape[1]:
        raise InvalidArgument("stats", f"must have {base.stats.share_NW.shape[1]} windows")


def _alone(root: Path) -> FileLock:
    root.mkdir(parents=True, exist_ok=True)
    return FileLock(root / PUBLISH_LOCK)


def _rows(catalogue: Catalogue) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "item_id": list(catalogue.item_ids),
            "title": list(catalogue.titles),
            "categories": [list(names) for names in catalogue.categories],
            "share": catalogue.stats.share_NW.tolist(),
            "first_time": catalogue.stats.first_time_N.tolist(),
        },
        schema=_SCHEMA,
    )


def _merge(
    rows: pl.DataFrame, items_ND: F32, segments: list[pl.DataFrame]
) -> tuple[pl.DataFrame, F32]:
    """Return rows and vectors with the segments' items; of an item in several, the newest counts."""
    added = pl.concat(segments)
    added_ND = np.asarray(added["vec"].to_list(), np.float32).reshape(len(added), -1)
    both = pl.concat([rows, added.drop("vec")]).with_row_index("row")
    kept = both.unique("item_id", keep="last").sort("item_id")
    vectors = np.concatenate([items_ND, added_ND])[kept["row"].to_numpy()]
    return kept.drop("row"), vectors


def _stats(rows: pl.DataFrame, window_count: int) -> ItemStats:
    return ItemStats(
        share_NW=np.asarray(rows["share"].to_list(), np.float32).reshape(len(rows), window_count),
        first_time_N=rows["first_time"].to_numpy(),
    )
