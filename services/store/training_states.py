"""What a killed training left behind; see training/checkpoints.py, which writes it."""

import shutil
from datetime import datetime

from filelock import FileLock, Timeout

from services.store.layout import Layout


def forget(layout: Layout, tenant: str, since: datetime) -> str:
    """Remove states that are older than an instant; returns why some stay, or "".

    A training that runs now keeps its states until it ends, and then removes them itself.
    """
    root = layout.training_dir(tenant)
    old = [
        folder
        for folder in (root.iterdir() if root.is_dir() else ())
        if folder.is_dir() and folder.stat().st_ctime <= since.timestamp()
    ]
    if not old:
        return ""
    lock = FileLock(root / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return "a training that may have begun before runs"
    try:
        for folder in old:
            shutil.rmtree(folder, ignore_errors=True)
    finally:
        lock.release()
    return ""
