"""Encoder and forecaster in this process: what a call to their deployments does, without Ray and without a wire.

The deployments, a Ray task (workers.py) and this all call the same functions of a bucket.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from driftline.v1 import encoder_service_pb2, forecaster_service_pb2

from services.core.tower import BackboneSpec
from services.encoder import opening as encoder_stores
from services.encoder import translate as encoder_translate
from services.encoder.encoder import Encoder
from services.forecaster import opening as forecaster_stores
from services.forecaster import translate as forecaster_translate
from services.forecaster.forecaster import InterestForecaster
from services.runtime.settings import Settings
from services.store.ports import TextEncoder
from services.store.turns import never


class InThisProcess:
    """See the port Compute. Blocking; safe between threads."""

    def __init__(
        self,
        settings: Settings,
        tenant: str,
        load_encoder: Callable[[BackboneSpec], TextEncoder] | None = None,
    ) -> None:
        """Open the stores.

        Args:
            settings: the data folder, and what decides results.
            tenant: whose data.
            load_encoder: loads the text model that a model names; unset: as the encoder does.
        """
        stores = encoder_stores.open_stores(settings)
        if load_encoder is not None:
            stores = replace(stores, load_encoder=load_encoder)
        self._tenant = tenant
        self._encoder = Encoder(stores, settings)
        self._forecaster = InterestForecaster(forecaster_stores.open_stores(settings), settings)

    def refresh_items(
        self, *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshItemsResponse:
        """See Encoder.refresh_items."""
        summary = self._encoder.refresh_items(
            self._tenant, is_full=is_full, cancelled=never, model_version=model_version
        )
        return encoder_translate.items_summary_to_pb(summary)

    def refresh_interests(
        self, buckets: Sequence[int], *, is_full: bool = False, model_version: str = ""
    ) -> encoder_service_pb2.RefreshInterestsResponse:
        """See Encoder.refresh_interests."""
        summary = self._encoder.refresh_interests(
            self._tenant, buckets, is_full=is_full, cancelled=never, model_version=model_version
        )
        return encoder_translate.interests_summary_to_pb(summary)

    def refresh_forecasts(
        self, buckets: Sequence[int], *, is_full: bool = False, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshForecastsResponse:
        """See InterestForecaster.refresh_forecasts."""
        summary = self._forecaster.refresh_forecasts(
            self._tenant, buckets, is_full=is_full, cancelled=never, model_version=model_version
        )
        return forecaster_translate.summary_to_pb(summary)

    def refresh_population(
        self, *, model_version: str = ""
    ) -> forecaster_service_pb2.RefreshPopulationResponse:
        """See InterestForecaster.refresh_population."""
        rises = self._forecaster.refresh_population(self._tenant, model_version=model_version)
        return forecaster_translate.population_to_pb(rises)
