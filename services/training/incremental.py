"""Yesterday's model and today's events: the same space, weights that go on from where they were.

The item tower stays, so no vector moves: an item or user that is new gets vectors in the space that
everything else already has. The ranker's other weights are trained a little on the newest origins.
The forecasters' constants describe users of the space and stay; what is new reaches them as input.
"""

from dataclasses import fields, replace
from datetime import datetime
from typing import Any

from services.core.errors import InvalidArgument
from services.core.model import Model
from services.core.periods import closed_before
from services.training.ranker import RankerConfig
from services.training.train import TrainConfig

# How far it goes; chosen on the weeks before the test block of Complete Journey.
# Newest origins at least; more where more periods closed since the parent was trained.
MIN_ORIGINS = 4
EPOCHS = 2
# Of the rates that a training anew starts with.
RATE = 0.3


def continued(config: TrainConfig, parent: Model, *, until: datetime) -> TrainConfig:
    """Return the configuration that goes on from a model.

    Shapes and constants of the score are the parent's; granularities and seed are `config`'s.

    Args:
        config: what would be trained anew.
        parent: the model to go on from.
        until: end of the new training data, aware.

    Raises:
        InvalidArgument: the parent has seen events up to `until` or later.
    """
    if parent.trained_until >= until:
        raise InvalidArgument(
            "until",
            f"model {parent.model_version} has seen all before {parent.trained_until}; "
            "name a later date, or train anew",
        )
    closed = closed_before(config.granularity, until).ordinal
    seen = closed_before(config.granularity, parent.trained_until).ordinal
    own = _ranker_config(config.ranker, parent)
    ranker = replace(
        own,
        origins=min(max(MIN_ORIGINS, closed - seen), config.ranker.origins),
        epochs=EPOCHS,
        matrix_rate=own.matrix_rate * RATE,
        scalar_rate=own.scalar_rate * RATE,
        seed=config.ranker.seed,
    )
    return replace(config, pooling=parent.pooling, ranker=ranker)


def _ranker_config(config: RankerConfig, parent: Model) -> RankerConfig:
    """Return the parent's own configuration: its card's, and whatever its weights say themselves."""
    names = {field.name for field in fields(RankerConfig)}
    kept: dict[str, Any] = {}
    if parent.card is not None and not parent.card.parent_version:
        kept |= parent.card.config.get("ranker", {})
    elif parent.card is not None:
        # Rates and epochs of a model that went on itself are not to shrink again.
        went_on = ("origins", "epochs", "matrix_rate", "scalar_rate", "seed")
        own = parent.card.config.get("ranker", {})
        kept |= {name: value for name, value in own.items() if name not in went_on}
    scored = {field.name for field in fields(parent.ranker)} & names
    kept |= {name: getattr(parent.ranker, name) for name in scored}
    kept["width"] = parent.tower.width
    known: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in kept.items()
        if name in names
    }
    return replace(config, **known)
