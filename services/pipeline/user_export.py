"""`driftline export`: all that is held about a user, in a zip that a person can read."""

import json
import zipfile
from collections import defaultdict
from pathlib import Path

from services.core.errors import InvalidArgument
from services.runtime.settings import Settings
from services.store.files import replacing
from services.store.interest_reads import InterestReads
from services.store.layout import Layout
from services.store.overlays import open_overlays
from services.store.redis_reader import RedisInterestReader
from services.store.sqlite_reader import SqliteInterestReader
from services.store.tables import DeltaTables
from services.store.user_records import UserRecords

_README = """\
All that is held about one user, each line of a file one record: {"time": ..., "content": {...}}.

inbox.jsonl             events that came in; the next refresh cleans them, or has done so
events.jsonl            events, cleaned: what the user did, with which item, when, and when it came in
rejects.jsonl           rows that could not be used, with the reason
offline_features.jsonl  what was computed: `view` says what. interest_* are vectors of a period,
                        forecast_* what is expected of the next, user_profile the labels of a portrait.
                        A vector means something only within its `space_id`.
online_features.jsonl   the newest of these, as they are served
corrections.jsonl       what the user said of topics
tombstones.jsonl        earlier erasures

Times are UTC. A file that would be empty is left out. Models learn from many users and hold nobody's
rows; their cards say from how many. The catalogue (items, titles) is about no user.
"""


async def export_user(settings: Settings, tenant: str, user_id: str, out: Path) -> dict[str, int]:
    """Write a zip of all that is held about a user; returns records by place.

    Raises:
        InvalidArgument: the file cannot be written. DependencyUnavailable: a place cannot be read.
    """
    layout = Layout(settings.data_dir, settings.bucket_count)
    reader: InterestReads = (
        RedisInterestReader(settings.redis_url)
        if settings.online_store == "redis"
        else SqliteInterestReader(layout)
    )
    overlays = open_overlays(layout, settings.online_store, settings.redis_url)
    held = UserRecords(layout=layout, tables=DeltaTables(layout), online=reader, overlays=overlays)
    lines: dict[str, list[str]] = defaultdict(list)
    async for record in held.of(tenant, user_id):
        line = {
            "time": record.time.isoformat() if record.time else None, "content": record.content
        }  # fmt: skip
        lines[record.source].append(json.dumps(line, ensure_ascii=False))
    try:
        with replacing(out) as draft, zipfile.ZipFile(draft, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("README.txt", _README)
            for source, said in lines.items():
                name = f"{source.replace(' ', '_')}.jsonl"
                archive.writestr(name, "\n".join(said) + "\n")
    except OSError as error:
        raise InvalidArgument("out", f"{out} cannot be written ({error.strerror})") from error
    return {source: len(said) for source, said in lines.items()}
