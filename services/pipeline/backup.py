"""`driftline backup` and `driftline restore`: a whole store at one instant, and back on an empty machine."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from pathlib import Path

from services.core.errors import DependencyUnavailable, InvalidArgument
from services.core.progress import Progress
from services.core.schema import USER_ID
from services.pipeline.erasure import erase_requested
from services.pipeline.stores import open_stores
from services.runtime.settings import Settings
from services.store import backup_files, filled, overlays
from services.store.backup_files import DATA, Manifest
from services.store.erasures import ErasedUsers, Tombstones, adopt_tombstones
from services.store.features import FeastFeatures
from services.store.layout import Layout, read_json
from services.store.overlays import SqliteOverlays
from services.store.ports import EventTables
from services.store.snapshot import snapshot

_REDIS = "redis"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupSummary:
    """What a backup holds."""

    name: str
    # The instant that it shows, and when it must be gone.
    created_time: datetime
    expires_time: datetime
    files: int
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreSummary:
    """What was brought back."""

    name: str
    # What happened after this instant is not in it.
    created_time: datetime
    files: int
    bytes: int
    # Users whom the backup held and who were erased since: not brought back.
    erased_again: int
    # The online store is empty or older: `driftline rebuild-online` fills it.
    needs_rebuild: bool


def _quiet(stage: str, done: int, total: int) -> None:
    """Tell nobody."""


def back_up(
    settings: Settings, folder: Path, keep: timedelta, on_progress: Progress = _quiet
) -> BackupSummary:
    """Write a backup of every tenant as of one instant; events are taken in meanwhile.

    What one that was cut left in the folder is used again where it is the same.

    Args:
        settings: of the store.
        folder: absent or empty.
        keep: after which it must be gone; receipts of erasures say so.
        on_progress: called with a stage's name, files done, files in all.

    Raises:
        InvalidArgument: there is no store, or the folder cannot take a backup.
        DependencyUnavailable: a file is damaged, or the disk takes no more.
    """
    root = settings.data_dir
    if not (root / "store.json").exists():
        raise InvalidArgument("data_dir", f"{root} holds no store; set DRIFTLINE_DATA_DIR")
    if keep <= timedelta(0):
        raise InvalidArgument("keep_days", "must be more than 0")
    backup_files.check_target(folder, root)
    layout = Layout(root, settings.bucket_count)
    with snapshot(layout, keep, _corrections(settings)) as taken:
        entries = backup_files.copy_files(taken.files, folder, on_progress)
        manifest = Manifest(
            name=taken.backup.name,
            created_time=taken.backup.created_time,
            expires_time=taken.backup.expires_time,
            version=version("driftline-services"),
            bucket_count=settings.bucket_count,
            online_store=settings.online_store,
            tables=taken.tables,
            spaces={name: _spaces(taken.files, name) for name in layout.tenants()},
            files=entries,
        )
        backup_files.write_manifest(folder, manifest)
    return BackupSummary(
        name=manifest.name,
        created_time=manifest.created_time,
        expires_time=manifest.expires_time,
        files=len(entries),
        bytes=manifest.byte_count,
    )


def restore(
    settings: Settings,
    folder: Path,
    erasures: Path | None = None,
    on_progress: Progress = _quiet,
) -> RestoreSummary:
    """Bring a backup back into an empty data folder; who was erased since stays erased.

    Args:
        settings: of the store to be; the bucket count is the backup's.
        folder: of the backup.
        erasures: a data folder, or a later backup, that knows whom else to leave out.
        on_progress: called with a stage's name, files done, files in all.

    Raises:
        InvalidArgument: the backup is damaged, has expired, or the data folder is not empty;
            nothing was written.
        DependencyUnavailable: a store does not answer.
    """
    manifest = backup_files.read_manifest(folder)
    root = settings.data_dir
    backup_files.check_empty(root)
    if manifest.bucket_count != settings.bucket_count:
        raise InvalidArgument(
            "bucket_count",
            f"the backup has {manifest.bucket_count} buckets, the setting says {settings.bucket_count}; "
            f"set DRIFTLINE_BUCKET_COUNT={manifest.bucket_count}",
        )
    if erasures is None and manifest.expires_time <= datetime.now(UTC):
        raise InvalidArgument(
            "backup",
            f"{folder} expired at {manifest.expires_time.isoformat(timespec='minutes')}: receipts say "
            "that it is gone; to use it all the same name by --erasures a data folder or later backup "
            "that knows who was erased since",
        )
    known = _known(erasures, settings, manifest) if erasures else {}
    backup_files.verify(folder, manifest, on_progress)
    erased = 0

    def leave_out(draft: Path) -> None:
        nonlocal erased
        theirs = settings.model_copy(update={"data_dir": draft})
        for tenant in manifest.spaces:
            Layout(draft, settings.bucket_count).make_tenant(tenant)
            if known.get(tenant):
                erased += _erase_again(theirs, tenant, known[tenant])

    backup_files.put_back(folder, manifest, root, leave_out, on_progress)
    layout = Layout(root, settings.bucket_count)
    _serve_from_here(settings, layout, manifest)
    return RestoreSummary(
        name=manifest.name,
        created_time=manifest.created_time,
        files=len(manifest.files),
        bytes=manifest.byte_count,
        erased_again=erased,
        needs_rebuild=_REDIS in (settings.online_store, manifest.online_store),
    )


def _corrections(settings: Settings) -> "overlays.Save | None":
    """Return what writes corrections to a file where they lie in Redis."""
    if settings.online_store != _REDIS:
        return None
    url = settings.redis_url
    return lambda tenant, path: overlays.save_redis(url, tenant, path)


def _spaces(files: dict[str, Path], tenant: str) -> list[str]:
    parent = f"{tenant}/feast/declared"
    return sorted(Path(name).stem for name in files if str(Path(name).parent) == parent)


def _known(erasures: Path, settings: Settings, manifest: Manifest) -> dict[str, Tombstones]:
    """Return by tenant who was erased, and who is about to be, as another state of the store says."""
    root = erasures / DATA if (erasures / "manifest.json").exists() else erasures
    if not (root / "store.json").exists():
        raise InvalidArgument("erasures", f"{erasures} is neither a data folder nor a backup")
    users = ErasedUsers(Layout(root, settings.bucket_count))
    return {
        tenant: Tombstones(
            salt=users.tombstones(tenant).salt,
            gone=users.tombstones(tenant).gone,
            pending=tuple(users.open(tenant).values()),
        )
        for tenant in manifest.spaces
    }


def _erase_again(settings: Settings, tenant: str, known: Tombstones) -> int:
    """Take users out of a draft of the store who were erased since; returns how many."""
    stores = open_stores(settings)
    layout = Layout(settings.data_dir, settings.bucket_count)
    users = set(_users(stores.tables, layout, tenant))
    requests = adopt_tombstones(stores.tables, tenant, known, users)
    if requests:
        # Of the backup, where corrections are a file whatever store serves them.
        corrections = SqliteOverlays(layout)
        try:
            erase_requested(
                stores.tables, stores.features, stores.models, corrections, settings, tenant
            )
        finally:
            corrections.close()
    return len({request.user_id for request in requests} & users)


def _users(tables: EventTables, layout: Layout, tenant: str) -> Iterator[str]:
    """Yield everyone of whom something may be held."""
    for bucket in range(layout.bucket_count):
        yield from tables.read_events(tenant, bucket)[USER_ID].unique()
    yield from tables.read_rejects(tenant)[USER_ID].drop_nulls().unique()
    position: dict[str, int] = {}
    while True:
        batch = tables.read_inbox(tenant, position)
        yield from batch.events[USER_ID].drop_nulls().unique()
        if batch.is_last:
            break
        position = batch.position
    path = layout.overlays_file(tenant)
    if path.exists():
        with closing(sqlite3.connect(path)) as file:
            yield from (name for (name,) in file.execute("SELECT user_id FROM corrections"))


def _serve_from_here(settings: Settings, layout: Layout, manifest: Manifest) -> None:
    """Have Feast's registry name the files where they lie now, and Redis hold what files held."""
    features = FeastFeatures(layout, settings.feast_config())
    for tenant, spaces in manifest.spaces.items():
        feast = layout.feast_dir(tenant)
        if settings.online_store == _REDIS:
            corrections = layout.overlays_file(tenant)
            if corrections.exists():
                overlays.load_redis(settings.redis_url, tenant, corrections)
            filled.expect_rebuild(settings.redis_url, layout, tenant)
            # No erasure would reach these.
            for path in (corrections, feast / "online.db"):
                path.unlink(missing_ok=True)
        served_file = feast / "served_space.json"
        served = str(read_json(served_file).get("space_id", ""))
        served_file.unlink(missing_ok=True)
        try:
            # The one that was served first: the first to be declared is served.
            for space_id in sorted(spaces, key=lambda space: (space != served, space)):
                features.apply(tenant, space_id)
        except OSError as error:
            raise DependencyUnavailable("the Feast registry", f"failed ({error})") from error
