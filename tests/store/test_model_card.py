"""The card beside a model: it may change, the version may not."""

import json
import threading

import pytest

from services.core.card import (
    CardCost,
    CardData,
    CardErasures,
    CardSplit,
    ModelCard,
    render_card,
)
from services.core.errors import InvalidArgument, NotReady
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.layout import Layout
from services.store.model_card import attach_metrics, load_card, load_curves
from services.store.model_folder import check_model_folder, load_model, save_model, version_of
from services.store.models import FolderRegistry
from tests.store.test_model_folder import model

CARD = ModelCard(
    parent_version="m20251201-aaaa",
    data=CardData(
        sha256="cd" * 32, events=1200, users=30, items=7,
        first_event="2025-01-01T00:00:00+00:00", last_event="2025-12-31T00:00:00+00:00",
    ),
    split=CardSplit(
        granularity="week", trained_until="2026-01-01T00:00:00+00:00",
        origins=("2025-W50", "2025-W51"), validation=("2025-W52",),
    ),
    config={"ranker": {"width": 8}},
    cost=CardCost(seconds={"ranker": 1.5, "total": 2.0}, cpu_seconds=1.75, workers=2, machine="2 cores"),
    erasures=CardErasures(left_out=("e1",), predated=("e2", "e3")),
)  # fmt: skip
CURVES = {"ranker": [(1.0, 7.5), (2.0, 7.25)]}
FIGURE = {"ndcg_at_10": 0.4, "ndcg_at_10_ci": [0.39, 0.41], "users": 20}
REPORT = {
    "dataset": {"sha256": "ef" * 32},
    "model": {"model_version": "m1"},
    "recommendation": {"new": {"h1": {"driftline": FIGURE, "popularity": {"ndcg_at_10": 0.1}}}},
    "forecast": {"h1": {"driftline": {"r2": 0.15, "r2_ci": [0.14, 0.16]}, "ema": {"r2": 0.13}}},
}


def saved(folder, **changes):
    save_model(folder, model(card=CARD, curves=CURVES, **changes))
    return folder


def test_card_and_curves_read_back_equal(tmp_path):
    read = load_model(saved(tmp_path / "m"))
    assert read.card == CARD
    assert read.curves == CURVES
    assert load_curves(tmp_path / "m") == CURVES


def test_a_model_without_a_card_reads_as_before(tmp_path):
    save_model(tmp_path / "m", model())
    assert load_model(tmp_path / "m").card is None
    assert load_curves(tmp_path / "m") == {}
    with pytest.raises(NotReady, match="train again"):
        attach_metrics(tmp_path / "m", REPORT)


def test_card_and_curves_are_no_part_of_the_version():
    assert version_of(model(card=CARD, curves=CURVES)) == version_of(model())


def test_attached_figures_are_the_models_own_with_intervals_and_the_version_stays(tmp_path):
    folder = saved(tmp_path / "m")
    manifest = json.loads((folder / "model.json").read_text())
    attach_metrics(folder, REPORT)
    check_model_folder(folder)
    assert load_card(folder).evaluation == {
        "dataset_sha256": "ef" * 32,
        "recommendation": {"new.h1": FIGURE},
        "forecast": {"h1": {"r2": 0.15, "r2_ci": [0.14, 0.16]}},
    }
    after = json.loads((folder / "model.json").read_text())
    assert after["model_version"] == manifest["model_version"]
    assert {k for k in after["files"] if after["files"][k] != manifest["files"][k]} == {
        "card.json", "README.md",
    }  # fmt: skip
    readme = (folder / "README.md").read_text()
    assert "| recommendation new.h1 | ndcg_at_10 | 0.4000 | [0.3900, 0.4100] |" in readme
    assert "popularity" not in readme.split("## Figures")[1]


def test_a_report_about_another_model_is_refused(tmp_path):
    folder = saved(tmp_path / "m")
    with pytest.raises(InvalidArgument, match="m1"):
        attach_metrics(folder, REPORT | {"model": {"model_version": "m2"}})
    assert load_card(folder) == CARD


def test_an_altered_card_is_refused(tmp_path):
    folder = saved(tmp_path / "m")
    (folder / "card.json").write_text((folder / "card.json").read_text().replace("1200", "9"))
    for read in (load_card, load_model, check_model_folder):
        with pytest.raises(InvalidArgument, match=r"card\.json"):
            read(folder)


def test_the_registry_keeps_the_card_and_takes_figures_in_while_others_read(tmp_path):
    registry = FolderRegistry(Layout(tmp_path / "data", 4))
    folder = saved(tmp_path / "m")
    registry.add(TENANT, str(folder), model().info())
    held = tmp_path / "data" / TENANT / "models" / "m1"
    failures = []

    def read():
        try:
            for _ in range(60):
                load_model(held)
                check_model_folder(held)
        except InvalidArgument as error:
            failures.append(error)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(10):
        attach_metrics(held, REPORT)
    for reader in readers:
        reader.join()
    assert failures == []
    assert load_card(held).evaluation["recommendation"]
    assert [info.model_version for info in registry.list(TENANT)] == ["m1"]


def test_the_readable_card_says_what_matters():
    text = render_card(CARD, model_version="m1", space_id="minilm_1")
    for part in (
        "continues model `m20251201-aaaa`",
        "1,200 events of 30 users and 7 items",
        "2025-W50 to 2025-W51",
        "2025-W52 held out",
        "1 were open and their users left out; 2 came after",
        "1.8 CPU seconds, 2 worker(s), 2 cores",
        "Not evaluated yet",
    ):
        assert part in text, part
