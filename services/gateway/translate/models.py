"""ModelService's messages <-> core types."""

from driftline.v1 import model_service_pb2 as pb

from services.core.records import ModelInfo
from services.gateway.answers import ModelsAnswer, ModelsQuery
from services.gateway.translate.instants import instant_to_pb

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
