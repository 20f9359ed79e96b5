"""The rivals: what is tried of each, what was chosen, and every method that is compared."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.core.dataset import Dataset
from services.core.model import Model
from services.core.records import F32
from services.evaluation import scorers
from services.evaluation.factors import EASE_ITEMS
from services.evaluation.protocol import Split
from services.evaluation.recommendation import OURS, Progress
from services.evaluation.rivals import POPULARITY, rivals
from services.evaluation.scorers import Method
from services.evaluation.tuning import Chooser, Constants, Family

# The rival on cold items, whatever the window that is best overall.
FRESH_DAYS = 7.0
FOR_NEW = "_for_new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """What is compared, what was chosen, and what was left out and why."""

    by_name: dict[str, Method]
    chosen: dict[str, Constants]
    left_out: dict[str, str]
    # What a reader must know of a method to judge it.
    notes: dict[str, str]
    # Ours from other models: not rivals.
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The rivals with their constants, to be built on any events."""

    # Family and constants by method.
    chosen: dict[str, tuple[Family, Constants]]
    window_days: float


def choose_baselines(
    data: Dataset, split: Split, text_NV: F32, horizons: tuple[int, ...], *, seed: int = 0,
    on_progress: Progress = lambda stage, done, total: None,
) -> Choices:  # fmt: skip
    """Choose every rival's constants by NDCG@10 on the validation block, on warm items.

    A rival for which other constants are best on items new to the user stands in the tables a
    second time, with these, as NAME_for_new.
    """
    chooser = Chooser(data, split, horizons, seed=seed)
    best = chooser.choose(POPULARITY)
    window = best["warm"]["window_days"]
    families = rivals(text_NV, window, is_choosing=False)
    smaller = {f.name: f for f in rivals(text_NV, window, is_choosing=True)}
    chosen: dict[str, tuple[Family, Constants]] = {}
    for done, family in enumerate([POPULARITY, *families], 1):
        made = best if family is POPULARITY else chooser.choose(smaller[family.name])
        chosen[family.name] = family, made["warm"]
        if made["new"] != made["warm"]:
            chosen[family.name + FOR_NEW] = family, made["new"]
        on_progress("choose baselines", done, len(families) + 1)
    chosen["popularity_7d"] = POPULARITY, {"window_days": FRESH_DAYS}
    return Choices(chosen=chosen, window_days=window)


def build_methods(
    choices: Choices, fit: Dataset, model: Model, items_ND: F32, text_NV: F32, *,
    variants: Mapping[str, Model] | None = None,
) -> Methods:  # fmt: skip
    """Return ours, its variants and the rivals, those that are fitted once on `fit`."""
    by_name = {OURS: scorers.driftline(model, items_ND)}
    for name, variant in (variants or {}).items():
        by_name[name] = scorers.driftline(
            variant, variant.tower.item_vectors(text_NV, fit.item_ids)
        )
    notes = {}
    for name, (family, constants) in choices.chosen.items():
        by_name[name] = family.build(fit, constants)
        if family.name == "ease" and fit.item_count > EASE_ITEMS:
            notes[name] = (
                f"fitted on the {EASE_ITEMS:,} most popular of {fit.item_count:,} items; "
                "the others are ranked by popularity"
            )
    return Methods(
        by_name=by_name,
        chosen={name: constants for name, (_, constants) in choices.chosen.items()},
        left_out={},
        notes=notes,
        variants=tuple(variants or {}),
    )


def make_methods(
    data: Dataset, split: Split, model: Model, items_ND: F32, text_NV: F32, *,
    horizons: tuple[int, ...] = (1,), variants: Mapping[str, Model] | None = None, seed: int = 0,
    on_progress: Progress = lambda stage, done, total: None,
) -> Methods:  # fmt: skip
    """Choose the rivals' constants before the first origin, and build every method for the test."""
    choices = choose_baselines(data, split, text_NV, horizons, seed=seed, on_progress=on_progress)
    fit = data.before(split.start(split.origins[0]))
    return build_methods(choices, fit, model, items_ND, text_NV, variants=variants)
