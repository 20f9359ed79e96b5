"""A marked user lives everywhere and is erased: nothing of them is left, and nothing brings them back."""

import asyncio
import json
import time
import zipfile
from collections import Counter

import pytest
from driftline import Client, ErasureState, UserNotFoundError

from services.local import gateway_process
from services.pipeline.user_export import export_user
from services.store.receipts import Receipts, verify
from tests.pipeline.lived import SOURCES, TENANT, USER, event, lived, traces, use_everything

pytestmark = pytest.mark.timeout(120)


def test_nothing_of_an_erased_user_is_left_and_nothing_brings_them_back(tmp_path, trust):
    (tmp_path / "logs").mkdir()
    made = lived(tmp_path / "store")
    made.refresh()
    with gateway_process(made.settings, tmp_path / "logs") as gateway, Client(gateway.target) as c:
        assert c.record_events([event(n) for n in range(3)]).refused_positions == ()
        made.refresh()
        use_everything(c)
        held = list(c.export_user(USER))
        assert {record.source for record in held} == SOURCES
        assert traces(made.root)
        counts = asyncio.run(export_user(made.settings, TENANT, USER, tmp_path / "theirs.zip"))
        assert counts == Counter(record.source for record in held)
        with zipfile.ZipFile(tmp_path / "theirs.zip") as archive:
            lines = archive.read("events.jsonl").decode().splitlines()
            assert json.loads(lines[0])["content"]["user_id"] == USER

        erasure_id = c.erase_user(USER).erasure_id
        with pytest.raises(UserNotFoundError):
            c.get_interest(USER)
        assert list(c.export_user(USER)) == []
        assert c.get_erasure(erasure_id).state is ErasureState.PENDING
        made.refresh()
        receipt = c.get_erasure(erasure_id)
        assert receipt.state is ErasureState.DONE, receipt.places
        removed = {place.name: place.removed_count for place in receipt.places}
        assert removed["events"] == 45
        assert min(removed["offline features"], removed["online features"]) > 1
        assert removed["rejects"] == 2
        assert receipt.predated_model_count == 1
        left = traces(made.root)
        trust("users erased", 1, len(left))
        assert left == []

        # The file again, a replay by the gateway, and one that is late.
        summary = made.import_file()
        assert (summary.events, summary.reasons) == (0, {"erased": 44})
        again = c.record_events([event(n) for n in range(3)])
        assert (again.count, again.refused_positions) == (0, (0, 1, 2))
        made.refresh(is_full=True)
        # Until the gateway's next look the user is refused for the request alone.
        give_up = time.monotonic() + 60
        while not (held := list(c.export_user(USER))) and time.monotonic() < give_up:
            time.sleep(0.1)
        assert [record.source for record in held] == ["tombstones"]
        with pytest.raises(UserNotFoundError):
            c.get_interest(USER)
    left = traces(made.root)
    trust("users erased", 0, len(left))
    assert left == []
    assert traces(tmp_path / "logs") == []
    [signed] = Receipts(made.store.layout).list(TENANT)
    assert verify(made.store.layout, signed).erasure_id == erasure_id
