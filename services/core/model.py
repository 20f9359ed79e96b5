"""A trained model as core types: what the model folder holds (see store/model_folder.py)."""

from dataclasses import dataclass, field
from datetime import datetime

from services.core.card import ModelCard
from services.core.pooling import PoolingConfig
from services.core.ranking import Ranker
from services.core.records import F32, ModelInfo
from services.core.schema import Granularity
from services.core.tower import BackboneSpec, ItemTower


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecasterSpec:
    """One granularity's forecaster, as data; core/forecasters.py makes it work."""

    # JSON values only: which forecaster serves which horizon, and constants of each.
    config: dict[str, object]
    # Weights by name.
    arrays: dict[str, F32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """Everything that training made."""

    model_version: str
    space_id: str
    backbone: BackboneSpec
    tower: ItemTower
    pooling: PoolingConfig
    ranker: Ranker
    # A granularity without one is forecast by the default EMA.
    forecasters: dict[Granularity, ForecasterSpec] = field(default_factory=dict)
    trained_time: datetime
    # Nothing at or after this instant was seen.
    trained_until: datetime
    # Of the events and texts it learned from.
    data_sha256: str
    metrics: dict[str, float]
    # Name -> (epochs done, loss in nats), such as "ranker" and "ranker validation". Like the card,
    # no part of the version.
    curves: dict[str, list[tuple[float, float]]] = field(default_factory=dict)
    card: ModelCard | None = None

    def info(self, stage: str = "") -> ModelInfo:
        """Return the registry's row."""
        return ModelInfo(
            model_version=self.model_version,
            space_id=self.space_id,
            stage=stage,
            trained_time=self.trained_time,
            trained_until=self.trained_until,
            data_sha256=self.data_sha256,
            metrics=self.metrics,
        )
