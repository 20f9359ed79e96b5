import json
import re
from datetime import timedelta

import numpy as np
import polars as pl
import pytest

from services.core.dataset import dataset_from_frame
from services.core.errors import InvalidArgument
from services.core.pooling import PoolingConfig, pool_rank_states
from services.core.ranking import popularity_shares, score_items, top_items
from services.core.schema import Granularity
from services.evaluation.html import losses
from services.evaluation.recommendation import FIGURES
from tests.evaluation.conftest import evaluate
from tests.planted import START, WordEncoder, planted_events

METHODS = {
    "driftline", "frozen_mean", "popularity", "frequency", "recency_frequency", "user_knn",
    "itemknn", "ease", "ials", "popularity_7d",
}  # fmt: skip


def test_the_report_has_the_agreed_keys(evaluated):
    _, out = evaluated
    report = json.loads((out / "report.json").read_text())
    assert {"users", "items", "events", "sha256", "granularity"} <= set(report["dataset"])
    assert report["dataset"]["users"] == 40
    for part in ("all", "new", "warm"):
        for horizon in ("h1", "h2"):
            table = report["recommendation"][part][horizon]
            assert {name.removesuffix("_for_new") for name in table} == METHODS
            for row in table.values():
                for figure in FIGURES:
                    if figure.startswith("novelty"):
                        continue
                    low, high = row[f"{figure}_ci"]
                    assert 0 <= low <= row[figure] <= high <= 1
                assert 0 < row["coverage_at_10"] <= row["coverage_at_50"] <= 1
                assert 0 < row["novelty_at_10"] < 20
                assert row["users"] <= 40
    assert set(report["forecast"]) == {"h1", "h2"}
    assert set(report["forecast"]["h1"]) - {"stack"} == {
        "driftline", "persistence", "mean", "ema", "shrunk_ema", "local_level", "gru", "lstm",
    }  # fmt: skip
    low, high = report["forecast"]["h1"]["gru"]["skill_over_ema_ci"]
    assert low <= report["forecast"]["h1"]["gru"]["skill_over_ema"] <= high
    assert {"r2", "rmse", "mse", "cosine", "nll", "coverage_80", "coverage_95"} <= set(
        report["forecast"]["h1"]["gru"]
    )
    assert {"encode", "train", "evaluate"} <= set(report["seconds"])


def test_forecasts_of_the_frozen_space_stand_beside_ours_and_rank_nothing(evaluated):
    result, out = evaluated
    frozen, ours = result.report["forecast_frozen"], result.report["forecast"]
    assert set(frozen) == set(ours)
    # The same users and periods, in another space.
    assert frozen["h1"]["driftline"]["samples"] == ours["h1"]["driftline"]["samples"]
    assert frozen["h1"]["driftline"]["mse"] != ours["h1"]["driftline"]["mse"]
    assert "frozen" not in result.report["recommendation"]["all"]["h1"]
    assert "share of its ceiling" in (out / "report.html").read_text()


def test_the_report_says_whether_reasons_hold_and_what_several_interests_find(evaluated):
    evaluation, out = evaluated
    reasons, interests = evaluation.report["reasons"], evaluation.report["several_interests"]
    assert reasons["lists"]["all"]["cases"] > 0
    assert 0 <= reasons["lists"]["all"]["holds"] <= 1
    assert interests["all"]["medoids"]["gain"] == pytest.approx(
        interests["all"]["medoids"]["recall_at_50"] - interests["all"]["one_vector"]["recall_at_50"]
    )
    page = (out / "report.html").read_text()
    assert "score lost without the cited" in page
    assert "minus one vector" in page


def test_figures_by_origin_average_to_the_table_and_say_what_was_lost(evaluated):
    report = evaluated[0].report
    row = report["recommendation"]["all"]["h1"]["driftline"]
    at = report["recommendation_by_origin"]["all"]["h1"]["driftline"]
    assert len(at) == 4
    assert len(report["recommendation_by_origin"]["all"]["h2"]["driftline"]) == 3
    # Every user is active each week here, so origins weigh alike.
    assert row["ndcg_at_10"] == pytest.approx(np.mean(at), abs=1e-6)
    lost = report["origins_lost"]["all"]["h1"]
    assert lost["origins"] == 4
    rival = report["recommendation_by_origin"]["all"]["h1"][lost["rival"]]
    assert lost["lost"] == sum(mine < theirs for mine, theirs in zip(at, rival, strict=True))
    assert lost["rival"] != "driftline"


def test_user_slices_are_parts_of_the_warm_slice(evaluated):
    tables = evaluated[0].report["recommendation"]
    parts = [tables[name]["h1"]["driftline"] for name in tables if name.startswith("activity_")]
    whole = tables["warm"]["h1"]["driftline"]
    assert sum(row["samples"] for row in parts) == whole["samples"]
    total = sum(row["ndcg_at_10"] * row["samples"] for row in parts)
    assert total / whole["samples"] == pytest.approx(whole["ndcg_at_10"], abs=1e-6)


def test_a_variant_of_ours_is_compared_but_is_no_rival(evaluated, tmp_path):
    result, _ = evaluated
    report = evaluate(
        planted_events(users=40, weeks=20), tmp_path, model=result.model,
        variants={"driftline_again": result.model}, until=START + timedelta(weeks=20),
        user_limit=30,
    ).report  # fmt: skip
    table = report["recommendation"]["all"]["h1"]
    assert table["driftline_again"]["ndcg_at_10"] == table["driftline"]["ndcg_at_10"]
    assert table["driftline_again"]["driftline_gain_ndcg_at_10_ci"] == [0.0, 0.0]
    assert report["origins_lost"]["all"]["h1"]["rival"] != "driftline_again"
    assert report["protocol"]["variants"] == ["driftline_again"]
    assert table["driftline"]["samples"] == 4 * 30


def test_leave_one_out_says_that_it_leaks(tmp_path):
    result = evaluate(planted_events(users=12, weeks=14), tmp_path, leave_one_out=True, origins=2)
    found = result.report["leave_one_out"]
    assert "leaks" in found["warning"]
    assert found["warning"] in (tmp_path / "report.html").read_text()
    assert found["recommendation"]["all"]["h1"]["driftline"]["samples"] == 12


def test_on_planted_topics_ours_beats_popularity_beyond_doubt(evaluated):
    table = evaluated[0].report["recommendation"]["all"]["h1"]
    low, _ = table["popularity"]["driftline_gain_ndcg_at_10_ci"]
    assert low > 0.2
    gain = table["driftline"]["ndcg_at_10"] - table["popularity"]["ndcg_at_10"]
    assert table["popularity"]["driftline_gain_ndcg_at_10"] == pytest.approx(gain)


def test_the_html_needs_nothing_else_and_shows_every_method(evaluated):
    _, out = evaluated
    page = (out / "report.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!\#)""", page.replace("xlink:href", "href"))
    assert page.count("<svg") == page.count("</svg>") >= 8
    for method in METHODS:
        assert f"<td>{method}</td>" in page
    # Every figure is one, not what the template found under its name.
    assert f"40 users do next among {evaluated[0].report['dataset']['items']} items" in page
    assert "object at 0x" not in page


def test_predictions_are_what_serving_one_user_gives(evaluated):
    result, out = evaluated
    model, predictions = result.model, pl.read_parquet(out / "predictions.parquet")
    data = dataset_from_frame(planted_events(users=40, weeks=20), Granularity.WEEK, PoolingConfig())
    at = predictions["as_of"][0]
    assert at == START + timedelta(weeks=19)
    past = data.before(at.timestamp())
    items_ND = model.tower.item_vectors(WordEncoder().encode(data.texts), data.item_ids)
    stats = popularity_shares(
        past.item_ix_E, past.time_E, at.timestamp(), data.item_count,
        model.ranker.popularity_half_lives_days,
    )  # fmt: skip
    assert predictions["user_id"].n_unique() == 40
    for (user_id,), group in predictions.group_by("user_id"):
        own = past.user_ix_E == data.user_ids.index(user_id)
        states = pool_rank_states(
            np.zeros(own.sum(), np.int64), past.time_E[own], past.item_ix_E[own],
            past.item_ix_E[own], past.weight_E[own], items_ND, 1, model.pooling,
        )  # fmt: skip
        score_N = score_items(states, stats, items_ND, model.ranker, at.timestamp()).score_UN[0]
        top = top_items(score_N, 10)
        rows = group.sort("rank")
        assert [data.item_ids[i] for i in top] == rows["item_id"].to_list()
        np.testing.assert_allclose(score_N[top], rows["score"].to_numpy(), atol=1e-4)


def test_events_after_the_last_origin_change_no_prediction_and_no_model(evaluated, tmp_path):
    result, out = evaluated
    events = planted_events(users=40, weeks=20)
    late = pl.col("event_time") >= START + timedelta(weeks=19)
    item = pl.when(late).then(pl.lit("tea-00")).otherwise("item_id").alias("item_id")
    other = evaluate(events.with_columns(item), tmp_path)
    assert other.model.model_version == result.model.model_version
    before, after = (pl.read_parquet(folder / "predictions.parquet") for folder in (out, tmp_path))
    # An item that vanished from the file altogether shifts no other.
    shared = before.join(after, on=["user_id", "item_id"], suffix="_after")
    assert shared.height > 0.95 * before.height
    np.testing.assert_allclose(shared["score"], shared["score_after"], atol=1e-5)


def test_a_given_model_is_used_and_must_not_have_seen_the_test_block(evaluated, tmp_path):
    result, _ = evaluated
    events = planted_events(users=40, weeks=20)
    again = evaluate(events, tmp_path, model=result.model)
    assert (
        again.report["recommendation"]["all"]["h1"]["driftline"]
        == (result.report["recommendation"]["all"]["h1"]["driftline"])
    )
    with pytest.raises(InvalidArgument, match="saw events up to"):
        evaluate(events, tmp_path, model=result.model, origins=6)


def test_horizons_of_zero_are_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="horizons"):
        evaluate(planted_events(), tmp_path, horizons=(0,))


def test_losses_name_what_is_lost_and_what_is_not_proven():
    def row(low, high):
        return {"driftline_gain_ndcg_at_10_ci": [low, high]}

    report = {
        "recommendation": {
            "all": {
                "h1": {
                    "driftline": {},
                    "a": row(0.1, 0.2),
                    "b": row(-0.1, 0.2),
                    "c": row(-0.2, -0.1),
                }
            }
        },
        "forecast": {"h1": {"driftline": {"r2": 0.1}, "ema": {"r2": 0.2}, "mean": {"r2": 0.0}}},
    }
    said = losses(report)
    assert len(said) == 3
    assert "loses to c" in said[0]
    assert "is not proven better than b" in said[1]
    assert "ema has R² 0.2000, ours 0.1000" in said[2]


def test_a_forecaster_measured_on_other_users_is_compared_by_its_skill():
    def row(r2, skill, samples):
        return {"r2": r2, "skill_over_ema": skill, "samples": samples}

    table = {
        "driftline": row(0.2, 0.03, 100),
        "arima": row(0.5, 0.01, 9),
        "ets": row(0.1, 0.04, 9),
    }
    said = losses({"recommendation": {}, "forecast": {"h1": table}})
    assert said == ["forecast, h1: ets saves 4.0% of EMA's error on few users, ours 3.0%"]
