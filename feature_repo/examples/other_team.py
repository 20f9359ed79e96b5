"""How another team uses the features: Feast alone, nothing of Driftline.

    python other_team.py --repo DATA/default/feast --users 42,43 --at 2017-06-01,2017-12-01

1. Online: the newest interest vector of some users, by the stable service name.
2. Offline: a training set that holds, for each user and instant, what was known then.
3. Over HTTP, from a `feast serve` process: the same as 1, for teams without Python.

Prints one JSON document. Run it with TZ=UTC: Feast's SQLite store keeps local times.
"""

import argparse
import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
from feast import FeatureStore

SERVICE = "interest_week_v1"


def open_store(repo: Path) -> FeatureStore:
    """Open a store by its folder or by its yaml file."""
    if repo.is_dir():
        return FeatureStore(repo_path=str(repo))
    return FeatureStore(fs_yaml_file=repo)


def read_online(store: FeatureStore, users: list[str]) -> list[dict[str, object]]:
    """Return the newest vector of each user; an unknown user has nulls."""
    found = store.get_online_features(
        features=store.get_feature_service(SERVICE),
        entity_rows=[{"user_id": user} for user in users],
    ).to_dict()
    return [
        {
            "user_id": user,
            "width": len(found["vec"][row] or []),
            "vec": found["vec"][row],
            "event_count": found["event_count"][row],
            "model_version": found["model_version"][row],
        }
        for row, user in enumerate(users)
    ]


def read_training_set(
    store: FeatureStore, users: list[str], instants: list[datetime]
) -> pd.DataFrame:
    """Return a row for each user and instant, with what was known at that instant; never a row less.

    Backfilled vectors count as known one publish lag after their period's close. To leave out what was
    computed later than the instant, pass filter_by_created_timestamp=True.
    """
    asked = pd.DataFrame(
        [{"user_id": user, "event_timestamp": at} for user in users for at in instants]
    )
    return store.get_historical_features(
        entity_df=asked, features=store.get_feature_service(SERVICE)
    ).to_df()


def read_http(repo: Path, users: list[str]) -> dict[str, object]:
    """Start `feast serve`, ask it, stop it; returns its answer."""
    port = _free_port()
    where = ["--chdir", str(repo)] if repo.is_dir() else ["--feature-store-yaml", str(repo)]
    # By default the server restarts its worker every 1,000 requests.
    serve = ["serve", "--host", "127.0.0.1", "--port", str(port), "--max-requests", "0"]
    server = subprocess.Popen(
        [Path(sys.executable).with_name("feast"), *where, *serve],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(f"http://127.0.0.1:{port}/health", server)
        body = json.dumps({"feature_service": SERVICE, "entities": {"user_id": users}})
        request = urllib.request.Request(
            f"http://127.0.0.1:{port}/get-online-features",
            data=body.encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as answer:  # nosec B310  # noqa: S310 - http, loopback
            return dict(json.load(answer))
    finally:
        server.terminate()
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def main() -> None:
    """Run the three reads and print what they gave."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--repo", type=Path, required=True, help="folder or yaml file of the store")
    parser.add_argument("--users", default="1", help="user ids, separated by commas")
    parser.add_argument("--at", default="", help="instants, separated by commas; now if empty")
    parser.add_argument("--no-http", action="store_true", help="leave `feast serve` out")
    given = parser.parse_args()
    users = given.users.split(",")
    instants = [_instant(text) for text in given.at.split(",") if text] or [datetime.now(UTC)]
    store = open_store(given.repo)
    joined = read_training_set(store, users, instants).sort_values(["user_id", "event_timestamp"])
    report: dict[str, object] = {
        "online": read_online(store, users),
        "training_set": json.loads(joined.to_json(orient="records", date_format="iso")),
    }
    if not given.no_http:
        report["http"] = read_http(given.repo, users)
    print(json.dumps(report, indent=1, default=str))


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    return at if at.tzinfo else at.replace(tzinfo=UTC)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait(url: str, server: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        if server.poll() is not None:
            raise SystemExit(f"feast serve ended with code {server.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):  # nosec B310  # noqa: S310 - http, loopback
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise SystemExit("feast serve did not answer in two minutes")


if __name__ == "__main__":
    main()
