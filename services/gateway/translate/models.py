"""ModelService's messages <-> core types."""

from driftline.v1 import model_service_pb2 as pb

from services.core.promotion import Comparison
from services.core.records import ModelInfo
from services.gateway.answers import ModelsAnswer, ModelsQuery, PromoteQuery
from services.gateway.translate.instants import instant_to_pb
from services.store.promotion import Promotion

DEFAULT_PAGE_SIZE = 20

_STAGES = {
    "candidate": pb.MODEL_STAGE_CANDIDATE,
    "live": pb.MODEL_STAGE_LIVE,
    "previous": pb.MODEL_STAGE_PREVIOUS,
}


def models_query_from_pb(request: pb.ListModelsRequest) -> ModelsQuery:
    """Return the query; a token is the last model of the page before."""
    return ModelsQuery(limit=request.page_size or DEFAULT_PAGE_SIZE, after=request.page_token)


def models_to_pb(answer: ModelsAnswer) -> pb.ListModelsResponse:
    """Return the response."""
    token = answer.models[-1].model_version if answer.has_more else ""
    return pb.ListModelsResponse(
        models=[_model_to_pb(model) for model in answer.models], next_page_token=token
    )


def promote_query_from_pb(request: pb.PromoteModelRequest) -> PromoteQuery:
    """Return the query."""
    return PromoteQuery(model_version=request.model_version, accepts_worse=request.accepts_worse)


def promotion_to_pb(promotion: Promotion) -> pb.PromoteModelResponse:
    """Return the response."""
    previous = promotion.previous
    return pb.PromoteModelResponse(
        model=_model_to_pb(promotion.model),
        previous_model_version=previous.model_version if previous else "",
        comparison=_comparison_to_pb(promotion.comparison) if promotion.comparison else None,
    )


def _comparison_to_pb(comparison: Comparison) -> pb.Comparison:
    return pb.Comparison(
        live_model_version=comparison.against,
        data_sha256=comparison.data_sha256,
        split=comparison.split,
        figure=comparison.figure,
        user_count=comparison.users,
        candidate_value=comparison.candidate,
        live_value=comparison.live,
        gain=comparison.gain,
        gain_low=comparison.gain_low,
        gain_high=comparison.gain_high,
        learned_from_answers=comparison.saw_the_answers,
    )


def _model_to_pb(model: ModelInfo) -> pb.Model:
    return pb.Model(
        model_version=model.model_version,
        space_id=model.space_id,
        stage=_STAGES.get(model.stage, pb.MODEL_STAGE_UNSPECIFIED),
        trained_time=instant_to_pb(model.trained_time),
        data_sha256=model.data_sha256,
        trained_until_time=instant_to_pb(model.trained_until),
        metrics=[
            pb.Metric(name=name, value=value) for name, value in sorted(model.metrics.items())
        ],
    )
