"""Whether reasons are true: events that a recommendation cites are really taken away.

At each origin some users get their best items, of all and of those new to them. The user's history
is pooled again without every event of the cited items, and again without as many of their other
events, drawn evenly. A reason holds where the item's score falls further without what was cited.
Cases that cite nothing, or leave too few other events to draw from, are counted apart.

Shape suffixes: U = users, N = items, K = items recommended, V = variants of one user's history,
E = events, S = cases.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from services.core.dataset import Dataset, rank_states
from services.core.metrics import bootstrap_mean
from services.core.model import Model
from services.core.pooling import F64, I64, RankStates, pool_rank_states
from services.core.progress import Progress
from services.core.ranking import NEVER, ItemStats, popularity_shares, score_items, top_items
from services.core.reasons import cite
from services.core.records import F32
from services.evaluation.protocol import Split
from services.evaluation.scorers import take_users

K = 10
LISTS = ("all", "new")
# The share of cases that should hold.
GOAL = 0.8


@dataclass(slots=True)
class _Cases:
    """What was found of one list, case by case."""

    user: list[int] = field(default_factory=list)
    cited_drop: list[float] = field(default_factory=list)
    random_drop: list[float] = field(default_factory=list)
    uncited: int = 0
    too_few_others: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Past:
    """What is known at an origin."""

    now: float
    past: Dataset
    # Events of user u are rows starts[u]:starts[u + 1] of `order`.
    order: I64
    starts: I64
    states: RankStates
    stats: ItemStats


def reasons_report(
    data: Dataset, split: Split, model: Model, items_ND: F32, *, user_limit: int = 50,
    seed: int = 0, on_progress: Progress = lambda stage, done, total: None,
) -> dict[str, object]:  # fmt: skip
    """Return `reasons`: for each list the share of cases where the cited events mattered more.

    Args:
        data: all events.
        split: where the origins stand; the model must not have seen the first.
        model: whose recommendations.
        items_ND: its item vectors, in the dataset's order.
        user_limit: users asked at an origin, sampled.
        seed: of users and draws.
        on_progress: called with stage, done, total.
    """
    rng = np.random.default_rng(seed)
    cases = {name: _Cases() for name in LISTS}
    for done, origin in enumerate(split.origins, start=1):
        known = _past_at(data, model, items_ND, split.start(origin))
        users = np.flatnonzero(np.diff(known.starts) > 1)
        users = np.sort(rng.choice(users, min(user_limit, len(users)), replace=False))
        for user in users:
            _ask(int(user), known, model, items_ND, rng, cases)
        on_progress("reasons", done, len(split.origins))
    return {
        "k": K,
        "users_per_origin": user_limit,
        "goal": GOAL,
        "lists": {name: _figures(found, rng) for name, found in cases.items()},
    }


def _past_at(data: Dataset, model: Model, items_ND: F32, now: float) -> _Past:
    past = data.before(now)
    stats = popularity_shares(
        past.item_ix_E, past.time_E, now, past.item_count, model.ranker.popularity_half_lives_days
    )
    counts_U = np.bincount(past.user_ix_E, minlength=past.user_count)
    return _Past(
        now=now,
        past=past,
        order=np.argsort(past.user_ix_E, kind="stable"),
        starts=np.concatenate([[0], np.cumsum(counts_U)]),
        states=rank_states(past, items_ND, model.pooling),
        stats=stats,
    )


def _ask(
    user: int, known: _Past, model: Model, items_ND: F32, rng: np.random.Generator,
    cases: dict[str, _Cases],
) -> None:  # fmt: skip
    states = take_users(known.states, np.asarray([user]))
    score_N = score_items(states, known.stats, items_ND, model.ranker, known.now).score_UN[0]
    events_E = known.order[known.starts[user] : known.starts[user + 1]]
    item_E = known.past.item_ix_E[events_E]
    new_N = score_N.copy()
    new_N[states.repeat_item_ix_R] = NEVER
    for name, ranked_N in (("all", score_N), ("new", new_N)):
        row_K = top_items(ranked_N, K)
        citations = cite(states, row_K, known.stats, items_ND, model.ranker, known.now)
        asked, kept = [], []
        for row, cited in zip(row_K.tolist(), citations, strict=True):
            is_cited_E = np.isin(item_E, [one.row for one in cited])
            others, count = np.flatnonzero(~is_cited_E), int(is_cited_E.sum())
            if not cited:
                cases[name].uncited += 1
            elif len(others) <= count:
                cases[name].too_few_others += 1
            else:
                drawn_E = np.ones(len(item_E), bool)
                drawn_E[rng.choice(others, count, replace=False)] = False
                asked.append(row)
                kept += [~is_cited_E, drawn_E]
        if asked:
            drop_V = _drops(known, events_E, kept, np.repeat(asked, 2), score_N, model, items_ND)
            cases[name].user += [user] * len(asked)
            cases[name].cited_drop += drop_V[0::2].tolist()
            cases[name].random_drop += drop_V[1::2].tolist()


def _drops(
    known: _Past, events_E: I64, kept: list[NDArray[np.bool_]], row_V: I64, score_N: F32,
    model: Model, items_ND: F32,
) -> F64:  # fmt: skip
    """Return how much lower each variant's item scores where only the kept events happened."""
    past = known.past
    rows = np.concatenate([events_E[mask_E] for mask_E in kept])
    variant = np.repeat(np.arange(len(kept)), [int(mask_E.sum()) for mask_E in kept])
    item = past.item_ix_E[rows]
    states = pool_rank_states(
        variant, past.time_E[rows], item, item, past.weight_E[rows], items_ND, len(kept),
        model.pooling,
    )  # fmt: skip
    score_VN = score_items(states, known.stats, items_ND, model.ranker, known.now).score_UN
    drop_V: F64 = score_N[row_V].astype(np.float64) - score_VN[np.arange(len(kept)), row_V]
    return drop_V


def _figures(found: _Cases, rng: np.random.Generator) -> dict[str, object]:
    figures: dict[str, object] = {
        "cases": len(found.user),
        "cite_nothing": found.uncited,
        "too_few_others": found.too_few_others,
    }
    if found.user:
        cited_S, random_S = np.asarray(found.cited_drop), np.asarray(found.random_drop)
        holds_S = (cited_S > random_S).astype(np.float64)
        holds = bootstrap_mean(holds_S, np.asarray(found.user), rng)
        figures |= {
            "holds": holds.mean,
            "holds_ci": [holds.low, holds.high],
            "cited_drop_mean": float(cited_S.mean()),
            "random_drop_mean": float(random_S.mean()),
        }
    return figures
