"""Each rival as a family: how it is built from constants, and which constants are tried."""

import math
from collections.abc import Callable
from typing import TypeVar

from services.core.dataset import Dataset
from services.core.records import F32
from services.evaluation import scorers
from services.evaluation.factors import EASE_ITEMS, EaseFit, ials
from services.evaluation.neighbours import itemknn, near_items, user_knn
from services.evaluation.scorers import TIE, Method, with_popularity, without_had
from services.evaluation.tuning import Constants, Family

WINDOWS_DAYS = (28.0, 7.0, 90.0, 365.0)
ALL_DAYS = 36_500.0
# In periods.
HALF_LIVES = (12.0, 4.0, 26.0, 52.0, math.inf)
# Popularity beside the method's own scores, whose best is 1; and whether to hide what was had.
FINISH = {"popularity_weight": (TIE, 0.03, 0.1, 0.3, 1.0), "without_had": (0.0, 1.0)}
# EASE's constants are chosen on a smaller matrix: its cost goes with the cube.
CHOOSING_EASE_ITEMS = 3_000
# Alternations of iALS.
SWEEPS, CHOOSING_SWEEPS = 8, 4
T = TypeVar("T")

POPULARITY = Family(
    name="popularity",
    build=lambda fit, c: scorers.popularity(c["window_days"]),
    grid={"window_days": WINDOWS_DAYS},
)


def rivals(text_NV: F32, window: float, *, is_choosing: bool) -> list[Family]:
    """Return all rivals but popularity, which each of them falls back to.

    Args:
        text_NV: frozen text vectors.
        window: of popularity, days.
        is_choosing: whether constants are being chosen: items' neighbours are then found once and
            not at every origin, EASE is smaller and iALS alternates less often.
    """
    return [
        Family(
            name="frozen_mean",
            build=lambda fit, c: scorers.frozen_mean(text_NV, c["window_days"]),
            grid={"window_days": (28.0, 7.0, 90.0, ALL_DAYS)},
        ),
        Family(
            name="frequency",
            build=lambda fit, c: with_popularity(scorers.frequency(), window, TIE),
            grid={},
        ),
        Family(
            name="recency_frequency",
            build=lambda fit, c: _finished(scorers.recency_frequency(c["half_life"]), window, c),
            grid={"half_life": HALF_LIVES, **FINISH},
        ),
        Family(
            name="user_knn",
            build=lambda fit, c: _finished(
                user_knn(c["half_life"], c["own_share"], int(c["neighbours"])), window, c
            ),
            grid={
                "half_life": HALF_LIVES,
                "own_share": (0.7, 0.3, 0.5, 0.9, 0.0),
                "neighbours": (100, 300, 900),
                **FINISH,
            },
        ),
        _itemknn(window, is_choosing=is_choosing),
        _ease(window, is_choosing=is_choosing),
        _ials(window, is_choosing=is_choosing),
    ]


def _itemknn(window: float, *, is_choosing: bool) -> Family:
    fit_near = _last(near_items)

    def build(fit: Dataset, c: Constants) -> Method:
        shrink, neighbours = c["shrink"], int(c["neighbours"])
        near_NN = fit_near(fit, shrink, neighbours) if is_choosing else None
        return _finished(itemknn(c["half_life"], shrink, neighbours, near_NN), window, c)

    grid = {"half_life": HALF_LIVES, "shrink": (0.0, 10.0, 50.0), "neighbours": (100, 20, 400)}
    return Family(name="itemknn", build=build, grid={**grid, **FINISH})


def _ease(window: float, *, is_choosing: bool) -> Family:
    fit_ease = _last(EaseFit)

    def build(fit: Dataset, c: Constants) -> Method:
        items = CHOOSING_EASE_ITEMS if is_choosing else EASE_ITEMS
        made = fit_ease(fit, c["half_life"], c["regularisation"], items)
        return _finished(made.method(keeps_diagonal=bool(c["keeps_diagonal"])), window, c)

    grid = {
        "half_life": HALF_LIVES,
        "regularisation": (200.0, 50.0, 1000.0),
        "keeps_diagonal": (1.0, 0.0),
    }
    return Family(name="ease", build=build, grid={**grid, **FINISH})


def _ials(window: float, *, is_choosing: bool) -> Family:
    fit_ials = _last(ials)

    def build(fit: Dataset, c: Constants) -> Method:
        made = fit_ials(
            fit, c["half_life"], int(c["factors"]), c["regularisation"], c["alpha"],
            CHOOSING_SWEEPS if is_choosing else SWEEPS,
        )  # fmt: skip
        return _finished(made, window, c)

    grid = {
        "alpha": (4.0, 1.0, 16.0),
        "regularisation": (1.0, 0.1, 5.0),
        "half_life": (math.inf, 12.0),
        "factors": (32.0, 64.0),
    }
    return Family(name="ials", build=build, grid={**grid, **FINISH})


def _finished(method: Method, window: float, constants: Constants) -> Method:
    mixed = with_popularity(method, window, constants["popularity_weight"])
    return without_had(mixed) if constants["without_had"] else mixed


def _last(make: Callable[..., T]) -> Callable[..., T]:
    """Return a `make` that remembers what it made last; datasets are told apart by identity.

    What is dear to fit serves every way to score with it.
    """
    held: list[tuple[Dataset, tuple[object, ...], T]] = []

    def remembered(fit: Dataset, *constants: object) -> T:
        if not held or held[0][0] is not fit or held[0][1] != constants:
            held[:] = [(fit, constants, make(fit, *constants))]
        return held[0][2]

    return remembered
