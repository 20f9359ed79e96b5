"""Portraits judged on planted users: each has a taste of its own that lasts, and noisy weeks."""

import json
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest

from services.core.errors import InvalidArgument
from services.evaluation.portraits import rank_correlation, run_portraits, total_variation
from tests.planted import WordEncoder

START = datetime(2026, 1, 5, tzinfo=UTC)
WORDS = ("apple", "bread", "chair", "drill", "engine", "fish")


def events(users=60, weeks=20, a_week=6, seed=0):
    """Return purchases; a user's shares of the words are drawn once, each week's around them."""
    rng = np.random.default_rng(seed)
    rows = []
    for user in range(users):
        taste = rng.dirichlet(np.ones(len(WORDS)))
        for week in range(weeks):
            for word in rng.choice(len(WORDS), a_week, p=rng.dirichlet(4 * taste + 1e-3)):
                name = WORDS[word]
                rows.append({
                    "user_id": f"u{user}",
                    "item_id": f"{name}{rng.integers(3)}",
                    "event_time": START + timedelta(weeks=week, hours=int(rng.integers(160))),
                    "text": name,
                    "categories": [name[0], name],
                })  # fmt: skip
    return pl.DataFrame(rows)


@pytest.fixture(scope="module")
def judged(tmp_path_factory):
    out = tmp_path_factory.mktemp("portraits")
    return run_portraits(events(), encoder=WordEncoder(), out=out, weeks=20), out


def test_a_lasting_taste_is_told_better_by_the_portrait_than_by_last_week_or_by_all(judged):
    for kind in ("topics", "categories"):
        methods = judged[0]["portraits"][kind]["methods"]
        for rival in ("last_week", "population"):
            assert methods[rival]["portrait_rank_correlation_difference_ci"][0] > 0
            assert methods[rival]["portrait_error_difference_ci"][1] < 0


def test_every_figure_has_an_interval_around_it_and_the_portrait_no_gain_on_itself(judged):
    for kind in judged[0]["portraits"].values():
        assert set(kind["methods"]) == {
            "portrait", "first_half", "last_4_weeks", "last_week", "population",
        }  # fmt: skip
        for figures in kind["methods"].values():
            for name in ("rank_correlation", "error"):
                low, high = figures[f"{name}_ci"]
                assert low < figures[name] < high
        assert kind["methods"]["portrait"]["portrait_error_difference"] == 0


def test_the_report_is_written_and_comes_again_for_a_seed(judged, tmp_path):
    report, out = judged
    assert json.loads((out / "portraits.json").read_text()) == report
    again = run_portraits(events(), encoder=WordEncoder(), out=tmp_path, weeks=20)
    assert again == report


def test_nothing_of_the_second_half_enters_a_guess(judged):
    made = events()
    middle = datetime.fromisoformat(judged[0]["stretch"]["middle"])
    # The second half of everybody becomes one word: guesses stay, so their figures on the truth of
    # one label are what the guess of that label was.
    late = pl.col("event_time") >= middle
    moved = made.with_columns(
        pl.when(late).then(pl.lit("apple0")).otherwise(pl.col("item_id")).alias("item_id"),
        pl.when(late).then(pl.lit("apple")).otherwise(pl.col("text")).alias("text"),
        pl.when(late).then(pl.lit(["a", "apple"])).otherwise(pl.col("categories")).alias("categories"),
    )  # fmt: skip
    report = run_portraits(moved, encoder=WordEncoder(), out=judged[1] / "moved", weeks=20)
    first = made.filter(~late)
    apples = (first["text"] == "apple").mean()
    error = report["portraits"]["categories"]["methods"]["population"]["error"]
    assert error == pytest.approx(1 - apples)


def test_users_with_few_events_in_a_half_do_not_count_and_nobody_is_an_error(tmp_path):
    made = events(users=4)
    few = made.with_columns(user_id=pl.lit("few")).head(3)
    report = run_portraits(pl.concat([made, few]), encoder=WordEncoder(), out=tmp_path, weeks=20)
    assert report["users"] == 4
    with pytest.raises(InvalidArgument, match="10 events in both halves"):
        run_portraits(few, encoder=WordEncoder(), out=tmp_path, weeks=20)
    with pytest.raises(InvalidArgument, match="weeks: must be even"):
        run_portraits(made, encoder=WordEncoder(), out=tmp_path, weeks=5)


def test_data_without_categories_are_judged_by_topics_alone(tmp_path):
    made = events(users=4).drop("categories")
    report = run_portraits(made, encoder=WordEncoder(), out=tmp_path, weeks=20)
    assert set(report["portraits"]) == {"topics"}


def test_figures_by_hand():
    guess = np.array([[0.5, 0.3, 0.2], [1.0, 0.0, 0.0], [0.2, 0.2, 0.6]])
    truth = np.array([[0.6, 0.3, 0.1], [0.0, 0.5, 0.5], [1 / 3, 1 / 3, 1 / 3]])
    assert rank_correlation(guess, truth).tolist() == pytest.approx([1, -1, 0])
    assert total_variation(guess, truth).tolist() == pytest.approx([0.1, 1.0, 0.6 - 1 / 3])
