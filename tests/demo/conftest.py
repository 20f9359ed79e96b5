"""A small complete report: three categories, a user who drifts from the first to the second."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from services.demo.report import (
    Bought,
    DataStatement,
    DemoReport,
    GatewayCalls,
    PathProof,
    Recommended,
    ServeCalls,
    UserStory,
)

WEEKS, WIDTH = 30, 8
FIRST = datetime(2017, 5, 29, tzinfo=UTC)


def recommended(item, repeat=0.5):
    return Recommended(
        item_id=item, title=f"Title of {item}", categories=("food",), score=1.25,
        interest=0.5, popularity=0.25, repeat=repeat,
    )  # fmt: skip


@pytest.fixture
def user():
    rng = np.random.default_rng(0)
    turn = np.linspace(0, np.pi / 2, WEEKS)[:, None]
    axes = np.eye(WIDTH)
    vectors = np.cos(turn) * axes[0] + np.sin(turn) * axes[1] + rng.normal(0, 0.05, (WEEKS, WIDTH))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    starts = [FIRST + timedelta(weeks=i) for i in range(WEEKS + 2)]
    names = ["{}-W{:02}".format(*at.isocalendar()[:2]) for at in starts]
    return UserStory(
        user_id="42",
        periods=tuple(names[:WEEKS]),
        period_starts=tuple(starts[:WEEKS]),
        vectors_PD=vectors.astype(np.float32),
        event_counts=tuple(range(1, WEEKS + 1)),
        forecast_periods=tuple(names[WEEKS:]),
        forecast_starts=tuple(starts[WEEKS:]),
        forecast_means_HD=np.repeat(0.9 * axes[1:2], 2, axis=0).astype(np.float32),
        forecast_scales_HD=np.full((2, WIDTH), 0.06, np.float32),
        forecaster="gru",
        category_vectors={
            "Bread & <rolls>": axes[0].astype(np.float32),
            "Wine $5 to $9": axes[1].astype(np.float32),
            "Fuel": axes[2].astype(np.float32),
        },
        months=("2017-06", "2017-07"),
        category_counts={"Bread & <rolls>": (3, 1), "Wine $5 to $9": (1, 3), "Fuel": (0, 0)},
        portrait=(("Wine $5 to $9", 0.625, 0.875), ("Bread & <rolls>", 0.375, 0.125)),
        portrait_event_count=8,
        recommendations=(recommended("tea"), recommended("jam", repeat=0.0), recommended("rye")),
        bought_next=(
            Bought(item_id="rye", title="Title of rye", count=2),
            Bought(item_id="ham", title="Title of ham", count=1),
        ),
        bought_window="in the week from 2017-12-25",
    )


@pytest.fixture
def evaluation():
    def ranked(value, low, high, gain=None):
        made = {
            "recall_at_10": value, "ndcg_at_10": value, "ndcg_at_10_ci": [low, high],
            "coverage_at_10": 0.125, "users": 1234,
        }  # fmt: skip
        if gain:
            made["driftline_gain_ndcg_at_10_ci"] = list(gain)
        return made

    def forecast(r2, low, high):
        return {"r2": r2, "r2_ci": [low, high], "rmse": 0.5, "nll": -1.25, "users": 99}

    return {
        "dataset": {"granularity": "week", "users": 1234},
        "recommendation": {
            "all": {
                "h1": {
                    "driftline": ranked(0.4111, 0.40, 0.42),
                    "popularity": ranked(0.2222, 0.21, 0.23, (0.18, 0.20)),
                    "ease": ranked(0.4333, 0.42, 0.44, (-0.03, -0.01)),
                    "user_knn": ranked(0.4100, 0.40, 0.42, (-0.002, 0.004)),
                }
            }
        },
        "forecast": {
            "h1": {
                "driftline": forecast(0.15, 0.14, 0.16),
                "gru": forecast(0.15, 0.14, 0.16),
                "ema": forecast(0.12, 0.11, 0.13),
                "persistence": forecast(-0.55, -0.56, -0.54),
                "local_level": forecast(0.149, 0.139, 0.159),
            }
        },
    }


@pytest.fixture
def data(user, evaluation):
    return DemoReport(
        made_time=datetime(2026, 11, 24, 12, tzinfo=UTC),
        now=datetime(2017, 12, 25, tzinfo=UTC),
        machine="2 cores, no GPU",
        versions={"driftline": "0.1.0", "space": "minilm_1f3c9a2b"},
        events={"imported": 1464471, "rejected": 4836, "duplicates": 17},
        rejects={"empty item id": 4836},
        vectors_published={"week": 100001, "month": 20002},
        forecasts_published={"week": 9003},
        seconds={"import": 21.5, "train_model": 83.0, "total": 125.0},
        install_seconds=95.0,
        path=PathProof(
            demo_pid=4101,
            gateway_pids=(4202,),
            serve=(
                ServeCalls(application="encoder", requests=8, replica_pids=(4303, 4304)),
                ServeCalls(application="forecaster", requests=7, replica_pids=(4305,)),
            ),
            gateway=(GatewayCalls(method="driftline.v1.InterestService/GetInterest", calls=31),),
        ),
        again={"vectors_changed": 0},
        user=user,
        evaluation=evaluation,
        statement=DataStatement(
            name="Complete Journey",
            package_says="simulated data of 801 households",
            upstream_says="a sample of real transactions",
            note="They disagree.",
        ),
    )  # fmt: skip
