"""What speaks against a promotion, and what does not."""

import json
from dataclasses import replace

import pytest

from services.core.errors import SpaceMismatch, WorseThanLive
from services.core.promotion import Comparison, check_promotion, comparison_from_json
from tests.encoder.world import model

LIVE = model("m1").info("live")
NEW = model("m2").info("candidate")


def compared(low: float, high: float, against: str = "m1") -> Comparison:
    return Comparison(
        against=against,
        data_sha256="ab",
        split="week 2026-W10 to 2026-W13, 1 ahead",
        figure="ndcg_at_10",
        users=400,
        candidate=0.20,
        live=0.25,
        gain=(low + high) / 2,
        gain_low=low,
        gain_high=high,
        saw_the_answers=("m1",),
    )


def test_an_interval_wholly_below_the_live_models_is_refused_with_the_proof():
    with pytest.raises(WorseThanLive) as caught:
        check_promotion(NEW, LIVE, compared(-0.07, -0.01))
    facts = caught.value.metadata
    assert (facts["model_version"], facts["live_model_version"]) == ("m2", "m1")
    for said in ("ndcg_at_10", "0.2000", "0.2500", "-0.0700", "-0.0100", "400", "2026-W10"):
        assert said in facts["proof"]


@pytest.mark.parametrize(("low", "high"), [(-0.07, 0.0), (-0.01, 0.02), (0.01, 0.05)])
def test_what_is_not_proven_worse_may_become_live(low, high):
    found = compared(low, high)
    assert check_promotion(NEW, LIVE, found) is found


def test_a_worse_one_may_where_that_is_accepted():
    found = compared(-0.07, -0.01)
    assert check_promotion(NEW, LIVE, found, accepts_worse=True) is found


def test_a_comparison_with_another_model_proves_nothing():
    assert check_promotion(NEW, LIVE, compared(-0.07, -0.01, against="m0")) is None
    assert check_promotion(NEW, LIVE, None) is None
    assert check_promotion(NEW, None, compared(-0.07, -0.01)) is None
    assert check_promotion(LIVE, LIVE, compared(-0.07, -0.01)) is None


def test_another_space_is_no_promotion_whatever_was_found():
    other = replace(NEW, space_id="toy_99999999")
    with pytest.raises(SpaceMismatch) as caught:
        check_promotion(other, LIVE, compared(0.01, 0.05), accepts_worse=True)
    assert caught.value.metadata["actual_space_id"] == "toy_99999999"


def test_a_comparison_is_kept_as_json():
    found = compared(-0.07, -0.01)
    assert comparison_from_json(json.loads(json.dumps(found.to_json()))) == found
    assert comparison_from_json({}) is None
