"""Bursts planted into real trajectories, so that what is to be found is known.

Each user of a benchmark has a role: a control as they are, or bursts of one type:

    personal     one topic takes a share of the user's events for some periods
    population   the same topic, in the same periods, for every user of the role's two events
    seasonal     one topic, again each season; the first cannot be known to be seasonal: personal
    automated    one period of many events on few items: half of them a bulk day, which no vector
                 has (core/classify.py), half ten to forty times the user's usual count below it

A burst's events take the place of as many events, or come on top. Its size is what it moved: its
items' share of the period's pooled mass, the mean of its active periods. Topics are categories of
the file or, for half of the bursts (all, where there are none), an item and those with the nearest
texts. A user's topics are not among what the user had before.

Shape suffixes: E = events, U = users, T = periods, N = items, G = topics.
"""

from dataclasses import dataclass, replace

import numpy as np

from services.core.burst_state import Bools, BurstType
from services.core.burst_topics import LEAST_ITEMS
from services.core.dataset import Dataset
from services.core.pooling import F64, I64
from services.core.records import F32

SIZES = (0.15, 0.3, 0.45, 0.6, 0.8)
LENGTHS = (1, 2, 4, 8)
ROLES = {"control": 0.3, "personal": 0.3, "population": 0.15, "seasonal": 0.15, "automated": 0.1}
# Items of a topic that is a neighbourhood.
NEAR = 12
# A topic is foreign to a user who has less of it than this share.
FOREIGN = 0.03
BULK_EVENTS = 1100


@dataclass(frozen=True, slots=True, kw_only=True)
class PlantedBurst:
    """One burst, and what it moved."""

    user: int
    # Columns: first, and one past the last.
    onset: int
    end: int
    kind: BurstType
    # Share of the pooled mass, mean of the active periods.
    size: float
    # Events of the first period, planted ones included.
    events: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Planted:
    """The events with bursts among them."""

    data: Dataset
    bulk_UT: Bools
    bursts: tuple[PlantedBurst, ...]
    roles: dict[str, I64]


@dataclass(slots=True, kw_only=True)
class _Sheet:
    """What is taken out and put in while planting."""

    data: Dataset
    first: int
    # Rows of each user's cells, and what each user had of each item.
    order: I64
    key: I64
    popularity_N: F64
    keep_E: Bools
    bulk_UT: Bools
    new: list[tuple[int, int, int, float]]
    bursts: list[PlantedBurst]

    def rows(self, user: int, column: int) -> I64:
        """Return the event rows of a cell."""
        wanted = user * 100_000 + column
        low, high = np.searchsorted(self.key, [wanted, wanted + 1])
        return self.order[low:high]


def plant(
    data: Dataset, *, users: I64, periods: tuple[int, int], burn_in: int, season: int,
    items_ND: F32, group_N: I64, rng: np.random.Generator,
) -> Planted:  # fmt: skip
    """Plant bursts into the trajectories of some users.

    Args:
        data: real events.
        users: who is given a role; each active in the burn-in.
        periods: ordinals of the first and the last column.
        burn_in: columns in front that stay as they are.
        season: periods between the bursts of a seasonal user.
        items_ND: unit vectors of texts, for topics that are neighbourhoods.
        group_N: category of each item, -1 without one.
        rng: of all draws.
    """
    first, last = periods
    columns_E = data.period_E - first
    # What lies outside the columns belongs to nobody's cell.
    inside_E = (columns_E >= 0) & (data.period_E <= last)
    key_E = np.where(inside_E, data.user_ix_E * 100_000 + columns_E, -1)
    order = np.argsort(key_E, kind="stable")
    sheet = _Sheet(
        data=data, first=first, order=order, key=key_E[order],
        popularity_N=np.bincount(data.item_ix_E, minlength=data.item_count).astype(np.float64),
        keep_E=np.ones(data.event_count, bool),
        bulk_UT=np.zeros((data.user_count, last - first + 1), bool), new=[], bursts=[],
    )  # fmt: skip
    cuts = np.cumsum([int(share * len(users)) for share in ROLES.values()])[:-1]
    roles = dict(zip(ROLES, np.split(rng.permutation(users), cuts), strict=True))
    count = last - first + 1
    topics = _Topics(data=data, items_ND=items_ND, group_N=group_N)
    for user in roles["personal"]:
        onset = _active(sheet, user, range(burn_in, count), rng)
        if onset is not None:
            length = int(rng.choice(LENGTHS))
            _burst(sheet, user, onset, length, BurstType.PERSONAL, topics.foreign(user, rng), rng)
    shared = np.array_split(roles["population"], 2)
    for group in shared:
        onset, length = int(rng.integers(burn_in, count - 2)), int(rng.choice(LENGTHS[:3]))
        items = topics.any(rng)
        for user in group:
            _burst(sheet, user, onset, length, BurstType.POPULATION, items, rng)
    for user in roles["seasonal"]:
        _seasonal(sheet, user, (burn_in, count), season, topics.foreign(user, rng), rng)
    for user in roles["automated"]:
        onset = _active(sheet, user, range(burn_in, count), rng)
        if onset is not None:
            _machine(sheet, user, onset, rng)
    planted = _with(sheet)
    return Planted(
        data=planted, bulk_UT=sheet.bulk_UT, bursts=tuple(sheet.bursts), roles=roles
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class _Topics:
    """Draws sets of items that belong together."""

    data: Dataset
    items_ND: F32
    group_N: I64

    def any(self, rng: np.random.Generator) -> I64:
        """Return the items of a category, or an item and those nearest to it."""
        sizes = np.bincount(self.group_N[self.group_N >= 0], minlength=1)
        large = np.flatnonzero(sizes >= LEAST_ITEMS)
        if len(large) and rng.random() < 0.5:
            return np.flatnonzero(self.group_N == rng.choice(large))
        seed = int(rng.integers(len(self.items_ND)))
        near = self.items_ND @ self.items_ND[seed]
        return np.argsort(-near, kind="stable")[:NEAR]

    def foreign(self, user: int, rng: np.random.Generator) -> I64:
        """Return items that the user has hardly any of."""
        had = self.data.item_ix_E[self.data.user_ix_E == user]
        items = self.any(rng)
        for _ in range(20):
            if np.isin(had, items).mean() < FOREIGN:
                break
            items = self.any(rng)
        return items


def _active(
    sheet: _Sheet, user: int, columns: range, rng: np.random.Generator
) -> int | None:  # fmt: skip
    able = [column for column in columns if len(sheet.rows(user, column))]
    return int(rng.choice(able)) if able else None


def _burst(
    sheet: _Sheet, user: int, onset: int, length: int, kind: BurstType, items: I64,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Plant one burst in the periods from `onset` on that have events."""
    end = min(onset + length, sheet.bulk_UT.shape[1])
    cells = [column for column in range(onset, end) if len(sheet.rows(user, column))]
    if not cells:
        return
    size, is_added = float(rng.choice(SIZES)), bool(rng.random() < 0.5)
    chance_N = np.sqrt(sheet.popularity_N[items] + 1.0)
    moved, events = [], 0
    for column in cells:
        rows = sheet.rows(user, column)
        share = size / (1.0 - size) if is_added else size
        count = max(round(share * len(rows)), 1)
        weight = float(np.median(sheet.data.weight_E[rows]))
        stay = rows
        if not is_added:
            gone = rng.choice(rows, min(count, len(rows)), replace=False)
            sheet.keep_E[gone] = False
            stay = np.setdiff1d(rows, gone)
        drawn = rng.choice(items, count, p=chance_N / chance_N.sum())
        sheet.new += [(user, int(item), column, weight) for item in drawn]
        moved.append(_mass_share(sheet.data, stay, drawn, weight))
        events = events or len(stay) + count
    sheet.bursts.append(
        PlantedBurst(
            user=user, onset=cells[0], end=cells[-1] + 1, kind=kind, size=float(np.mean(moved)),
            events=events,
        )
    )  # fmt: skip


def _mass_share(data: Dataset, stay: I64, drawn: I64, weight: float) -> float:
    """Return the planted items' share of the period's pooled mass (square roots of weights)."""
    item = np.concatenate([data.item_ix_E[stay], drawn])
    weights = np.concatenate([data.weight_E[stay], np.full(len(drawn), weight)])
    items, row = np.unique(item, return_inverse=True)
    mass = np.sqrt(np.bincount(row, weights=weights))
    return float(mass[np.isin(items, drawn)].sum() / mass.sum())


def _seasonal(
    sheet: _Sheet, user: int, columns: tuple[int, int], season: int, items: I64,
    rng: np.random.Generator,
) -> None:  # fmt: skip
    """Plant bursts a season apart, wherever the user is active each time."""
    start, count = columns
    able = [
        column
        for column in range(start, count - season)
        if len(sheet.rows(user, column)) and len(sheet.rows(user, column + season))
    ]
    if not able:
        return
    onset, length = int(rng.choice(able)), int(rng.choice(LENGTHS[:2]))
    kind = BurstType.PERSONAL
    while onset < count:
        before = len(sheet.bursts)
        _burst(sheet, user, onset, length, kind, items, rng)
        kind = BurstType.SEASONAL if len(sheet.bursts) > before else kind
        onset += season


def _machine(sheet: _Sheet, user: int, column: int, rng: np.random.Generator) -> None:
    """Plant a period that a machine made."""
    rows = sheet.rows(user, column)
    is_bulk = bool(rng.random() < 0.5)
    usual = len(sheet.data.time_E[sheet.data.user_ix_E == user]) / sheet.bulk_UT.shape[1]
    count = BULK_EVENTS if is_bulk else int(min(max(rng.uniform(10, 40) * usual, 100), 1000))
    if is_bulk:
        # Its events enter no vector.
        sheet.bulk_UT[user, column] = True
    else:
        items = rng.integers(sheet.data.item_count, size=int(rng.integers(3, 20)))
        drawn = rng.choice(items, count)
        sheet.new += [(user, int(item), column, 1.0) for item in drawn]
    sheet.bursts.append(
        PlantedBurst(
            user=user, onset=column, end=column + 1, kind=BurstType.AUTOMATED, size=1.0,
            events=len(rows) + count,
        )
    )  # fmt: skip


def _with(sheet: _Sheet) -> Dataset:
    """Return the events with what was planted; times of those are not used."""
    kept = sheet.data.where(sheet.keep_E)
    user, item, column, weight = (
        np.array(part) for part in zip(*sheet.new, strict=True)
    ) if sheet.new else (np.zeros(0, np.int64),) * 4  # fmt: skip
    return replace(
        kept,
        user_ix_E=np.concatenate([kept.user_ix_E, user]),
        item_ix_E=np.concatenate([kept.item_ix_E, item]),
        period_E=np.concatenate([kept.period_E, column + sheet.first]),
        weight_E=np.concatenate([kept.weight_E, weight]),
        time_E=np.concatenate([kept.time_E, np.full(len(user), kept.time_E[-1])]),
    )
