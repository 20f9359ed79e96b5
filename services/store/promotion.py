"""Promotes a model of the registry where nothing speaks against it: for the RPC and the command alike."""

from dataclasses import dataclass
from pathlib import Path

from services.core.errors import InvalidArgument, NotReady
from services.core.promotion import Comparison, check_promotion, comparison_from_json
from services.core.records import ModelInfo
from services.store.model_card import load_card
from services.store.ports import ModelRegistry


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """What was made live."""

    model: ModelInfo
    # Live before; None where nothing was, or where it was live already.
    previous: ModelInfo | None
    # What was judged by; None where there was no comparison with the live model.
    comparison: Comparison | None


def promote_checked(
    registry: ModelRegistry, tenant: str, model_version: str, *, accepts_worse: bool = False
) -> Promotion:
    """Make a model live, unless its card proves it worse than the live one.

    Raises:
        InvalidArgument: the registry has no such model, or its files were changed.
        SpaceMismatch, WorseThanLive: see core.promotion.check_promotion.
    """
    try:
        live = registry.live(tenant)
    except NotReady:
        live = None
    candidate = next(
        (one for one in registry.list(tenant) if one.model_version == model_version), None
    )
    if candidate is None:
        raise InvalidArgument("model_version", f"no model {model_version!r}; see ListModels")
    card = load_card(Path(registry.folder(tenant, model_version)))
    comparison = check_promotion(
        candidate,
        live,
        comparison_from_json(card.comparison) if card else None,
        accepts_worse=accepts_worse,
    )
    registry.promote(tenant, model_version)
    promoted = registry.live(tenant)
    previous = live if live is not None and live.model_version != model_version else None
    return Promotion(model=promoted, previous=previous, comparison=comparison)
