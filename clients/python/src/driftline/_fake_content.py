"""The demand for content that a test put into a fake gateway, and its answers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from . import errors as e
from ._requests import instant
from .v1 import content_service_pb2 as pb
from .v1 import vector_pb2

LEAST_USERS = 20
_EVERYONE = "all"


@dataclass
class FakeDemand:
    """By cohort: its users, and its topics by id."""

    users: dict[str, int] = field(default_factory=dict)
    topics: dict[str, dict[str, pb.TopicDemand]] = field(default_factory=dict)

    def put(
        self, cohort: str, users: int, topic: pb.TopicDemand,
        audience_volume: Mapping[str, tuple[float, float]],
    ) -> None:  # fmt: skip
        """Give a topic its forecasts, nearest period first; intervals are 10% and 20% to each side."""
        for horizon, (period, (audience, volume)) in enumerate(audience_volume.items(), start=1):
            topic.forecasts.add(
                period=period,
                horizon=horizon,
                audience=_range(audience),
                volume=_range(volume),
            )
        self.users[cohort] = users
        self.topics.setdefault(cohort, {})[topic.topic_id] = topic

    def forecast(
        self, request: pb.ForecastTopicDemandRequest, now: datetime, space_id: str
    ) -> pb.ForecastTopicDemandResponse:
        cohort = request.cohort or _EVERYONE
        topics = self._shared(cohort)
        for topic_id in request.topic_ids:
            self._known(topics, topic_id)
        reply = pb.ForecastTopicDemandResponse(
            topics=[one for key, one in topics.items() if key in (request.topic_ids or topics)],
            cohorts=[self._cohort(name) for name in self.users],
            basis=_basis(cohort, now, space_id),
        )
        del reply.topics[request.page_size or len(reply.topics) :]
        for topic in reply.topics:
            del topic.forecasts[request.horizon_count or len(topic.forecasts) :]
            kept = topic.history[max(len(topic.history) - request.history_count, 0) :]
            del topic.history[:]
            topic.history.extend(kept)
        return reply

    def brief(
        self, request: pb.DraftBriefRequest, now: datetime, space_id: str
    ) -> pb.DraftBriefResponse:
        cohort = request.cohort or _EVERYONE
        topics = self._shared(cohort)
        if request.topic_id:
            self._known(topics, request.topic_id)
        asked = [one for key, one in topics.items() if request.topic_id in ("", key)]
        statements = [
            pb.BriefStatement(
                part=pb.BRIEF_PART_WHO,
                text=f"At least {self.users[cohort]} users.",
                figures=[
                    pb.BriefFigure(
                        cohort=cohort,
                        measure=pb.BRIEF_MEASURE_COHORT_USERS,
                        value=self.users[cohort],
                    )
                ],
            )
        ]
        for topic in asked:
            share = topic.forecasts[0].share
            statements.append(
                pb.BriefStatement(
                    part=pb.BRIEF_PART_NEXT,
                    text=f"{topic.name} is expected to have {100 * share.mean:.0f}%.",
                    figures=[
                        pb.BriefFigure(
                            topic_id=topic.topic_id,
                            cohort=cohort,
                            measure=pb.BRIEF_MEASURE_SHARE,
                            value=share.mean,
                            low=share.low_80,
                            high=share.high_80,
                            first_period=topic.forecasts[0].period,
                            last_period=topic.forecasts[0].period,
                        )
                    ],
                )
            )
        return pb.DraftBriefResponse(
            statements=statements,
            text=" ".join(one.text for one in statements),
            basis=_basis(cohort, now, space_id),
        )

    def _shared(self, cohort: str) -> dict[str, pb.TopicDemand]:
        """Return a cohort's topics with their shares, the most wanted next first."""
        if not self.users:
            raise e.NotReadyError(
                "no content demand yet; run `driftline refresh`",
                code="UNAVAILABLE",
                reason="NOT_READY",
                metadata={"missing": "content demand"},
            )
        if cohort not in self.users:
            raise _invalid("cohort", f"{cohort!r} is not one of the cohorts")
        if self.users[cohort] < LEAST_USERS:
            raise e.CohortTooSmallError(
                f"cohort {cohort} has too few users: its size is below {LEAST_USERS}",
                code="FAILED_PRECONDITION",
                reason="COHORT_TOO_SMALL",
                metadata={"cohort": cohort, "least_users": str(LEAST_USERS)},
            )
        topics = self.topics[cohort]
        total: dict[str, float] = {}
        for topic in topics.values():
            for step in topic.forecasts:
                total[step.period] = total.get(step.period, 0.0) + step.volume.mean
        for topic in topics.values():
            for step in topic.forecasts:
                share = _range(step.volume.mean / (total[step.period] or 1.0))
                step.share.CopyFrom(share)
        order = sorted(topics, key=lambda key: (-topics[key].forecasts[0].volume.mean, key))
        return {key: topics[key] for key in order}

    def _known(self, topics: Mapping[str, pb.TopicDemand], topic_id: str) -> None:
        if topic_id not in topics:
            raise _invalid("topic_id", f"{topic_id!r} is no topic")

    def _cohort(self, name: str) -> pb.Cohort:
        is_served = self.users[name] >= LEAST_USERS
        users = self.users[name] if is_served else 0
        return pb.Cohort(name=name, least_user_count=users, is_served=is_served)


def _range(mean: float) -> pb.DemandRange:
    return pb.DemandRange(
        mean=mean,
        low_80=mean * 0.9,
        high_80=mean * 1.1,
        low_95=mean * 0.8,
        high_95=mean * 1.2,
        method="fake",
    )


def _basis(cohort: str, now: datetime, space_id: str) -> pb.DemandBasis:
    return pb.DemandBasis(
        granularity=vector_pb2.GRANULARITY_WEEK,
        published_time=instant(now, "now"),
        space_id=space_id,
        cohort=cohort,
        terms=pb.ReleaseTerms(epsilon=1.0, event_cap=8, least_cohort_users=LEAST_USERS, edition=1),
    )


def _invalid(field_path: str, problem: str) -> e.InvalidArgumentError:
    return e.InvalidArgumentError(
        f"{field_path}: {problem}",
        field=field_path,
        reason="INVALID_ARGUMENT",
        metadata={"field": field_path},
    )
