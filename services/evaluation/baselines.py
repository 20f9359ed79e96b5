"""The rivals: what is tried of each, what was chosen, and every method that is compared."""

from collections.abc import Mapping
from dataclasses import dataclass

from services.core.dataset import Dataset
from services.core.model import Model
from services.core.progress import Progress
from services.core.records import F32
from services.evaluation import scorers
from services.evaluation.factors import EASE_ITEMS
from services.evaluation.peers import Peers
from services.evaluation.protocol import Split
from services.evaluation.recommendation import OURS
from services.evaluation.rivals import POPULARITY, rivals
from services.evaluation.scorers import Method
from services.evaluation.tuning import Chooser, Constants, Family

# The rival on cold items, whatever the window that is best overall.
FRESH_DAYS = 7.0
FOR_NEW = "_for_new"


@dataclass(frozen=True, slots=True, kw_only=True)
class Methods:
    """What is compared, and what was chosen."""

    by_name: dict[str, Method]
    chosen: dict[str, Constants]
    # What a reader must know of a method to judge it.
    notes: dict[str, str]
    # Ours from other models: not rivals.
    variants: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Choices:
    """The rivals with their constants, to be built on any events."""

    # Family and constants by method.
    chosen: dict[str, tuple[Family, Constants]]


def choose_baselines(
    data: Dataset, split: Split, text_NV: F32, horizons: tuple[int, ...], *,
    peers: Peers | None = None, seed: int = 0,
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
    tried = rivals(text_NV, window, is_choosing=True)
    if peers is not None:
        families += peers.families(window)
        tried += peers.tried(chooser, window)
    smaller = {family.name: family for family in tried}
    chosen: dict[str, tuple[Family, Constants]] = {}
    for done, family in enumerate([POPULARITY, *families], 1):
        made = best if family is POPULARITY else chooser.choose(smaller[family.name])
        chosen[family.name] = family, made["warm"]
        if made["new"] != made["warm"]:
            chosen[family.name + FOR_NEW] = family, made["new"]
        on_progress("choose baselines", done, len(families) + 1)
    chosen["popularity_7d"] = POPULARITY, {"window_days": FRESH_DAYS}
    return Choices(chosen=chosen)


def build_methods(
    choices: Choices, fit: Dataset, model: Model, items_ND: F32, text_NV: F32, *,
    variants: Mapping[str, Model] | None = None,
) -> Methods:  # fmt: skip
    """Return ours, its variants and the rivals, those that are fitted once on `fit`."""
    by_name = {OURS: scorers.driftline(model, items_ND)}
    for name, variant in (variants or {}).items():
        variant_ND = variant.tower.item_vectors(text_NV, fit.item_ids)
        by_name[name] = scorers.driftline(variant, variant_ND)
    notes = {}
    for name, (family, constants) in choices.chosen.items():
        by_name[name] = family.build(fit, constants)
        if family.note is not None:
            notes[name] = family.note(constants)
        if family.name == "ease" and fit.item_count > EASE_ITEMS:
            notes[name] = (
                f"fitted on the {EASE_ITEMS:,} most popular of {fit.item_count:,} items; "
                "the others are ranked by popularity"
            )
    return Methods(
        by_name=by_name,
        chosen={name: constants for name, (_, constants) in choices.chosen.items()},
        notes=notes,
        variants=tuple(variants or {}),
    )
