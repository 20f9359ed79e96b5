"""Chooses a baseline's constants on the validation block, one constant at a time.

Shape suffixes: none; it handles methods as a whole.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from services.core.dataset import Dataset
from services.evaluation.protocol import Split, first_seen, view_at
from services.evaluation.recommendation import AskedOrigin, Part, Samples, mean_ndcg
from services.evaluation.scorers import Method

# Users who choose at each origin of the validation block.
CHOOSERS = 600
# What is optimised: all that could be known, and what the user never had.
TARGETS = ("warm", "new")

Constants = dict[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """A baseline and what is tried of it."""

    name: str
    # Fitted on these events, with these constants.
    build: Callable[[Dataset, Constants], Method]
    # By constant, in the order of choosing; the first value of each is where choosing starts.
    grid: Mapping[str, tuple[float, ...]]


class Chooser:
    """Measures methods on the validation block: nothing from the first origin on is in it."""

    def __init__(
        self, data: Dataset, split: Split, horizons: tuple[int, ...], *, seed: int = 0
    ) -> None:
        block = split.until_first_origin()
        before = data.before(split.start(split.origins[0]))
        # A horizon that fits nowhere in the block is chosen for by the shorter ones.
        fitting = tuple(h for h in horizons if block.origins_of(h)) or (1,)
        seen_N = first_seen(before)
        views = [
            view_at(
                before, block, origin, fitting, first_seen_N=seen_N, user_limit=CHOOSERS, seed=seed
            )
            for origin in block.origins
        ]
        self._views = [view for view in views if len(view.users)]
        self._asked = [AskedOrigin(view, TARGETS, by_user=False) for view in self._views]
        # What a method may be fitted on.
        self.fit = before.before(block.start(block.origins[0]))

    def measure(self, method: Method) -> dict[str, float]:
        """Return NDCG@10 on each target, mean over horizons."""
        samples: dict[Part, Samples] = {}
        for view, asked in zip(self._views, self._asked, strict=True):
            asked.measure(method(view.past, view.now), "tried", samples)
        return {target: mean_ndcg(samples, target, "tried") for target in TARGETS}

    def choose(self, family: Family) -> dict[str, Constants]:
        """Return the constants that are best on each target.

        From the first value of each constant, every constant in turn takes its best value while
        the others stay; "new" starts from what "warm" chose.
        """
        tried: dict[tuple[float, ...], dict[str, float]] = {}

        def measured(constants: Constants) -> dict[str, float]:
            key = tuple(constants.values())
            if key not in tried:
                tried[key] = self.measure(family.build(self.fit, constants))
            return tried[key]

        chosen: dict[str, Constants] = {}
        best = {name: values[0] for name, values in family.grid.items()}
        for target in TARGETS:
            for name, values in family.grid.items():
                candidates = [best] + [{**best, name: v} for v in values if v != best[name]]
                # The first of equals: a constant that changes nothing keeps its value.
                best = max(candidates, key=lambda made: measured(made)[target])
            chosen[target] = best
        return chosen
