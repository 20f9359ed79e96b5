import numpy as np

from services.core.burst_everyone import (
    PastBurst,
    PopulationBursts,
    UserBursts,
    follow_population,
    named_bursts,
    sum_moved,
)
from services.core.burst_follow import follow
from services.core.burst_state import BurstType
from services.core.bursts import detect, new_state
from services.core.periods import Period
from services.core.schema import Granularity
from tests.core.burst_model import batch, model, with_burst


def test_users_in_buckets_tell_what_all_of_them_together_do():
    m, b = model(), batch(users=12)
    for user in range(9):
        b = with_burst(b, user, [20, 21], topic=4, share=0.6)
    b = with_burst(b, 10, [25, 26], topic=2, share=0.6)
    whole = detect(m, b)
    buckets = [np.arange(0, 5), np.arange(5, 12)]
    followed = [follow(m, new_state(m, len(rows)), b.users(rows)) for rows in buckets]
    state, risen = follow_population(m, sum_moved(one.moved for one in followed))
    assert risen == {20: (4,), 21: (4,)}
    assert len(state.mean_G) == len(m.topics_GD)
    kinds = {}
    for rows, one in zip(buckets, followed, strict=True):
        for user, past_M4 in zip(rows.tolist(), one.state.past_UM4.tolist(), strict=True):
            (topic, first, _, kind) = past_M4[0]
            if topic >= 0:
                kinds[user] = named(topic, first, kind, risen)
    onsets = {int(u): BurstType(whole.kind[u, t]) for u, t in np.argwhere(whole.onset)}
    assert kinds == onsets
    assert kinds[3] is BurstType.POPULATION
    assert kinds[10] is BurstType.PERSONAL


def named(topic, first, kind, risen, version="m1"):
    def period(ordinal):
        return Period(Granularity.WEEK, ordinal)

    burst = PastBurst(
        kind=BurstType(kind),
        first=period(first),
        last=period(first),
        topic=topic,
        name="",
        share=0.5,
    )
    known = UserBursts(bursts=(burst,), model_version="m1", known_at=period(first))
    everyone = PopulationBursts(
        risen={period(at): topics for at, topics in risen.items()}, model_version=version
    )
    (one,) = named_bursts(known, everyone)
    return one.kind


def test_a_season_stays_one_and_another_models_topics_say_nothing():
    risen = {20: (4,)}
    assert named(4, 20, BurstType.PERSONAL, risen) is BurstType.POPULATION
    assert named(4, 20, BurstType.SEASONAL, risen) is BurstType.SEASONAL
    assert named(4, 21, BurstType.PERSONAL, risen) is BurstType.PERSONAL
    assert named(4, 20, BurstType.PERSONAL, risen, version="m2") is BurstType.PERSONAL
    burst = UserBursts(bursts=(), model_version="m1", known_at=Period(Granularity.WEEK, 1))
    assert named_bursts(burst, None) == ()
