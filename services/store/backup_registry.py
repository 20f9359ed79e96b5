"""Which backups of a store there are: an erasure's receipt says when the last of them is gone.

ROOT/backups/{name}.json    {"created_time": ..., "expires_time": ...}, both ISO with a zone

Whoever makes a backup writes its entry; whoever deletes one removes it. After `expires_time` a
backup must be gone.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from services.core.errors import DependencyUnavailable
from services.store.layout import Layout, read_json, write_json


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """One backup that may still be there."""

    name: str
    created_time: datetime
    expires_time: datetime


def record(layout: Layout, backup: Backup) -> None:
    """Write down that a backup was made."""
    write_json(
        layout.backups_dir() / f"{backup.name}.json",
        {
            "created_time": backup.created_time.isoformat(),
            "expires_time": backup.expires_time.isoformat(),
        },
    )


def live(layout: Layout, now: datetime) -> list[Backup]:
    """Return the backups that have not expired.

    Raises:
        DependencyUnavailable: an entry is damaged: nobody can tell when its backup is gone.
    """
    found = []
    for path in sorted(layout.backups_dir().glob("*.json")):
        said = read_json(path)
        if not said:  # removed meanwhile
            continue
        try:
            backup = Backup(
                name=path.stem,
                created_time=datetime.fromisoformat(said["created_time"]).astimezone(UTC),
                expires_time=datetime.fromisoformat(said["expires_time"]).astimezone(UTC),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DependencyUnavailable("the list of backups", f"is damaged ({path})") from error
        if backup.expires_time > now:
            found.append(backup)
    return found
