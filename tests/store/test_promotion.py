"""Promotion of a model of the registry, judged by what its card says."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.core.card import CardCost, CardData, CardSplit, ModelCard
from services.core.errors import InvalidArgument, NotReady, WorseThanLive
from services.core.schema import DEFAULT_TENANT as TENANT
from services.store.layout import Layout
from services.store.model_card import attach_comparison
from services.store.model_folder import save_model
from services.store.models import FolderRegistry
from services.store.promotion import promote_checked
from tests.core.test_promotion import compared
from tests.encoder.world import model

CARD = ModelCard(
    data=CardData(
        sha256="ab", events=1, users=1, items=1, first_event="2026-01-01", last_event="2026-02-01"
    ),
    split=CardSplit(
        granularity="week", trained_until="2026-03-01", origins=("2026-W08",), validation=()
    ),
    config={},
    cost=CardCost(seconds={"total": 1.0}, cpu_seconds=1.0, workers=1, machine="1 core"),
)


@pytest.fixture
def registry(tmp_path):
    made = FolderRegistry(Layout(tmp_path / "data", 4))
    for day, version in enumerate(("m1", "m2", "m0"), start=1):
        trained = datetime(2026, 1, day, tzinfo=UTC)
        card = None if version == "m0" else CARD
        info = save_model(
            tmp_path / version, replace(model(version), trained_time=trained, card=card)
        )
        made.add(TENANT, str(tmp_path / version), info)
    return made


def compare(registry, version, low, high):
    folder = Path(registry.folder(TENANT, version))
    attach_comparison(folder, compared(low, high).to_json())


def test_a_worse_candidate_stays_one_until_it_is_accepted(registry):
    assert promote_checked(registry, TENANT, "m1").previous is None
    compare(registry, "m2", -0.07, -0.01)
    with pytest.raises(WorseThanLive):
        promote_checked(registry, TENANT, "m2")
    assert registry.live(TENANT).model_version == "m1"
    made = promote_checked(registry, TENANT, "m2", accepts_worse=True)
    assert (made.model.model_version, made.model.stage) == ("m2", "live")
    assert made.previous.model_version == "m1"
    assert made.comparison == compared(-0.07, -0.01)
    assert (
        "paired difference -0.0700 to -0.0100"
        in (Path(registry.folder(TENANT, "m2")) / "README.md").read_text()
    )


def test_a_model_without_a_card_is_promoted_uncompared(registry):
    promote_checked(registry, TENANT, "m1")
    made = promote_checked(registry, TENANT, "m0")
    assert (made.previous.model_version, made.comparison) == ("m1", None)
    with pytest.raises(NotReady, match="before there were cards"):
        attach_comparison(Path(registry.folder(TENANT, "m0")), {})


def test_promoting_what_is_live_changes_nothing(registry):
    promote_checked(registry, TENANT, "m1")
    made = promote_checked(registry, TENANT, "m1")
    assert (made.model.model_version, made.previous) == ("m1", None)


def test_an_unknown_model_is_named(registry):
    with pytest.raises(InvalidArgument, match="no model 'm9'"):
        promote_checked(registry, TENANT, "m9")
