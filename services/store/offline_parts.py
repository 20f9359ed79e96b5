"""The offline history as Parquet parts, one folder a view: written by publish, read by Feast and us."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import polars as pl

from services.core import schema as names
from services.core.errors import DependencyUnavailable, InvalidArgument, NotReady
from services.core.schema import bucket_of
from services.core.views import View, views_of
from services.store.clock import clock_of
from services.store.erasing import Removed
from services.store.files import replacing
from services.store.frames import columns_of, conform, kept_columns, newest_rows
from services.store.layout import Layout, read_json, write_json

_PART = re.compile(r"[A-Za-z0-9_.-]{1,128}")
# Rows that are read or skipped together: they lie by user, so few groups hold few users.
_GROUP_BYTES, _LEAST_GROUP = 1 << 17, 32
# Holds no rows: an empty glob would break every join that names the view.
_SCHEMA_PART = "part-schema.parquet"


def declare(layout: Layout, tenant: str, space_id: str) -> None:
    """Write the zero-row part of every view of a space that lacks it, and when it was first done."""
    declared = layout.declared_file(tenant, space_id)
    if not declared.exists():
        write_json(declared, {"declared_time": clock_of(layout.root).tick().isoformat()})
    for view in views_of(space_id).values():
        if view.shares_history_of:
            continue
        path = layout.offline_dir(tenant, view.name) / _SCHEMA_PART
        if not path.exists():
            write(path, pl.DataFrame(schema=columns_of(view)))


def declared_time(layout: Layout, tenant: str, space_id: str) -> datetime | None:
    """Return when a space was first declared; None where nobody wrote it down."""
    said = read_json(layout.declared_file(tenant, space_id)).get("declared_time")
    return datetime.fromisoformat(said) if said else None


def append(
    layout: Layout, tenant: str, view: View, bucket: int, part: str, rows: pl.DataFrame
) -> None:
    """Write one part, or replace it.

    Raises:
        InvalidArgument: rows lack columns, the bucket or part name is bad, or the view shares
            another one's history. NotReady: the view was never applied.
    """
    if view.shares_history_of:
        raise InvalidArgument(
            "view", f"{view.name} is read from {view.shares_history_of}: append there"
        )
    if not 0 <= bucket < layout.bucket_count:
        raise InvalidArgument("bucket", f"{bucket} is not in [0, {layout.bucket_count})")
    if not _PART.fullmatch(part):
        raise InvalidArgument("part", f"{part!r} must match {_PART.pattern}")
    folder = _folder(layout, tenant, view)
    write(folder / f"part-b{bucket:04}-{part}.parquet", conform(view, rows))


def read(
    layout: Layout,
    tenant: str,
    view: View,
    bucket: int,
    users: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return every row of a bucket, or of some users or parts; all columns, or as kept_columns says.

    Raises:
        NotReady: the view was never applied.
    """
    paths = _parts(_folder(layout, tenant, view), bucket)
    if parts is not None:
        wanted = set(parts)
        paths = [path for path in paths if _name_of(path, bucket) in wanted]
    kept = kept_columns(view, columns)
    if not paths:
        nothing = pl.DataFrame(schema=columns_of(view))
        return nothing if kept is None else nothing.select(kept)
    try:
        rows = pl.scan_parquet(paths, glob=False)
        if users is not None:
            rows = rows.filter(pl.col(names.USER_ID).is_in(list(users)))
        if kept is not None:
            rows = rows.select(kept)
        return rows.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        raise DependencyUnavailable("offline history", f"cannot be read ({error})") from error


def read_newest(
    layout: Layout,
    tenant: str,
    view: View,
    bucket: int,
    users: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    parts: Sequence[str] | None = None,
) -> pl.DataFrame:
    """Return the newest row of each user (and period, where the view has one) of a bucket."""
    return newest_rows(view, read(layout, tenant, view, bucket, users, columns, parts))


def part_names(layout: Layout, tenant: str, view: View, bucket: int) -> list[str]:
    """Return the names of a bucket's parts, ascending.

    Raises:
        NotReady: the view was never applied.
    """
    return [_name_of(path, bucket) for path in _parts(_folder(layout, tenant, view), bucket)]


def erase(layout: Layout, tenant: str, space_id: str, user_ids: Sequence[str]) -> None:
    """Rewrite the parts that hold any of the users without them."""
    by_bucket: dict[int, list[str]] = {}
    for user_id in user_ids:
        by_bucket.setdefault(bucket_of(user_id, layout.bucket_count), []).append(user_id)
    for view in views_of(space_id).values():
        folder = layout.offline_dir(tenant, view.name)
        if names.USER_ID not in view.join_keys or not folder.is_dir():
            continue
        for bucket, users in by_bucket.items():
            for path in _parts(folder, bucket):
                _erase_from(path, users)


def erase_everywhere(layout: Layout, tenant: str, bucket: int, user_ids: Sequence[str]) -> Removed:
    """Rewrite a bucket's parts of every view that was ever published; returns rows by user.

    Nobody may publish the bucket meanwhile: what a writer that died left behind goes too.
    """
    removed: Counter[str] = Counter()
    root = layout.feast_dir(tenant) / "offline"
    wanted = pl.Series(list(user_ids), dtype=pl.String).implode()
    for folder in sorted(path for path in root.glob("*") if path.is_dir()):
        for draft in folder.glob(f".part-b{bucket:04}-*.draft"):
            draft.unlink(missing_ok=True)
        for path in _parts(folder, bucket):
            lazy = pl.scan_parquet(path, glob=False)
            if names.USER_ID not in lazy.collect_schema():
                continue
            is_theirs = pl.col(names.USER_ID).is_in(wanted)
            theirs = lazy.select(names.USER_ID).filter(is_theirs).collect()[names.USER_ID]
            if len(theirs):
                removed.update(dict(theirs.value_counts().iter_rows()))
                write(path, lazy.filter(~is_theirs).collect())
    return dict(removed)


def rows_of(layout: Layout, tenant: str, view: str, bucket: int, user_id: str) -> pl.DataFrame:
    """Return every row of a user in a view's folder, as it is stored; empty where it has none."""
    found = [pl.DataFrame()]
    for path in _parts(layout.offline_dir(tenant, view), bucket):
        lazy = pl.scan_parquet(path, glob=False)
        if names.USER_ID in lazy.collect_schema():
            found.append(lazy.filter(pl.col(names.USER_ID) == user_id).collect())
    return pl.concat(found, how="diagonal")


def _erase_from(path: Path, user_ids: list[str]) -> None:
    held = pl.scan_parquet(path).select(pl.col(names.USER_ID).is_in(user_ids).any()).collect()
    if held.item():
        write(path, pl.read_parquet(path).filter(~pl.col(names.USER_ID).is_in(user_ids)))


def _folder(layout: Layout, tenant: str, view: View) -> Path:
    folder = layout.offline_dir(tenant, view.offline_folder)
    if not folder.is_dir():
        raise NotReady(f"view {view.name}", "run `driftline refresh`")
    return folder


def _parts(folder: Path, bucket: int) -> list[Path]:
    if not folder.is_dir():
        return []
    start = f"part-b{bucket:04}-"
    # A glob asks a pattern of each file of the view.
    with os.scandir(folder) as files:
        found = sorted(file.name for file in files if file.name.startswith(start))
    return [folder / name for name in found if name.endswith(".parquet")]


def _name_of(path: Path, bucket: int) -> str:
    return path.stem.removeprefix(f"part-b{bucket:04}-")


def write(path: Path, rows: pl.DataFrame) -> None:
    """Put a part in the place of the one there, durably. Raises DependencyUnavailable."""
    try:
        with replacing(path) as draft:
            # Vectors hardly shrink: zstd's tenth less would cost twice the time to read.
            rows.write_parquet(draft, compression="lz4", row_group_size=_group_rows(rows))
    except OSError as error:
        raise DependencyUnavailable("offline history", f"cannot be written ({error})") from error


def _group_rows(rows: pl.DataFrame) -> int:
    width = int(rows.estimated_size()) // max(len(rows), 1)
    return max(_GROUP_BYTES // max(width, 1), _LEAST_GROUP)
