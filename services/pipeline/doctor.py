"""`driftline doctor`: what a crash, a full disk or a hand left behind, named with what to do."""

from dataclasses import dataclass
from datetime import timedelta

from services.core.errors import CoreError
from services.pipeline.rebuild import mend_bucket, spaces_of
from services.pipeline.refresh import Stores
from services.runtime.settings import Settings
from services.store.checkup import Checkup, Finding
from services.store.clock import CLOCK_FILE, clock_of
from services.store.interest_reads import InterestReads
from services.store.layout import Layout
from services.store.online_check import differing_users, offline_frames

# Less than this is the difference of two machines.
_AHEAD = timedelta(minutes=1)
REBUILD = "run `driftline rebuild-online`"


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnosis:
    """One finding, and what became of it."""

    tenant: str
    what: str
    where: str
    remedy: str
    is_mended: bool


async def examine(
    stores: Stores,
    reader: InterestReads,
    settings: Settings,
    *,
    is_mending: bool,
    is_idle: bool,
) -> list[Diagnosis]:
    """Look at every tenant's files, and at its online rows; mend what is safe to mend.

    Args:
        stores: of the data folder.
        reader: of the online store.
        settings: data folder and bucket count.
        is_mending: mend; else only tell.
        is_idle: nothing else runs on the store, so that young leftovers count too.

    Raises:
        InvalidArgument: store.json is damaged or another program's.
    """
    layout = Layout(settings.data_dir, settings.bucket_count)
    told = _clock(layout)
    for tenant in layout.tenants():
        for finding in Checkup(layout=layout, tenant=tenant, is_idle=is_idle).findings():
            told.append(_treated(tenant, finding, is_mending=is_mending))
        try:
            told += await _online(stores, reader, settings, tenant, is_mending=is_mending)
        except CoreError as error:
            told.append(
                Diagnosis(
                    tenant=tenant,
                    what="online rows that cannot be compared",
                    where="online store",
                    remedy=error.message,
                    is_mended=False,
                )
            )
    return told


def _clock(layout: Layout) -> list[Diagnosis]:
    ahead = clock_of(layout.root).ahead()
    if ahead < _AHEAD:
        return []
    return [
        Diagnosis(
            tenant="",
            what=f"the store's time is {str(ahead).partition('.')[0]} ahead of this machine's",
            where=CLOCK_FILE,
            remedy="if this machine's clock is wrong, have it set right; if it was fast before, nothing is lost: "
            "what comes in counts as after what is there, and time goes on when the clock has caught up",
            is_mended=False,
        )
    ]


def _treated(tenant: str, finding: Finding, *, is_mending: bool) -> Diagnosis:
    remedy, is_mended = finding.remedy, False
    if is_mending and finding.mend is not None:
        try:
            finding.mend()
            is_mended = True
        except FileNotFoundError:  # gone with its folder
            is_mended = True
        except OSError as error:
            remedy = f"cannot be removed ({error.strerror}); do it by hand"
    return Diagnosis(
        tenant=tenant, what=finding.what, where=finding.where, remedy=remedy, is_mended=is_mended
    )


async def _online(
    stores: Stores, reader: InterestReads, settings: Settings, tenant: str, *, is_mending: bool
) -> list[Diagnosis]:
    told = []
    for space_id in spaces_of(stores.models, tenant):
        for bucket in range(settings.bucket_count):
            for view, rows in offline_frames(stores.features, tenant, space_id, bucket):
                users = await differing_users(reader, tenant, view, rows)
                if users:
                    where = f"{view.name}, bucket {bucket}: {len(users)} of {len(rows)} users"
                    told.append(
                        Diagnosis(
                            tenant=tenant,
                            what="online rows that differ from offline",
                            where=where,
                            remedy=REBUILD,
                            is_mended=is_mending,
                        )
                    )
            if is_mending:
                await mend_bucket(stores, reader, tenant, space_id, bucket)
    return told
