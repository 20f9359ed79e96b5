"""Origins of planted data, and how the gateway would score them."""

from services.core.dataset import dataset_from_frame, period_start
from services.core.pooling import PoolingConfig, pool_rank_states
from services.core.ranking import popularity_shares, score_items
from services.core.schema import Granularity
from services.training.examples import make_origin
from services.training.ranker import RankerConfig
from tests.planted import WordEncoder, planted_events

POOLING = PoolingConfig()
WINDOWS = (7.0, 28.0)
SMALL = RankerConfig(
    width=8, epochs=6, origins=4, popularity_half_lives_days=WINDOWS, query_hidden=8,
    popularity_hidden=4, query_dropout=0.1, history_dropout=0.1, matrix_rate=5e-3,
)  # fmt: skip


def planted(**kwargs):
    data = dataset_from_frame(planted_events(**kwargs), Granularity.WEEK, POOLING)
    return data, WordEncoder().encode(data.texts)


def origins_of(data, count, last=None):
    last = int(data.period_E.max()) if last is None else last
    return [make_origin(data, p, POOLING, WINDOWS) for p in range(last - count + 1, last + 1)]


def served_scores(data, items_ND, ranker, period):
    return served_parts(data, items_ND, ranker, period).score_UN


def served_parts(data, items_ND, ranker, period):
    now = period_start(data.granularity, period)
    past = data.before(now)
    states = pool_rank_states(
        past.user_ix_E, past.time_E, past.item_ix_E, past.item_ix_E, past.weight_E, items_ND,
        data.user_count, POOLING,
    )  # fmt: skip
    stats = popularity_shares(past.item_ix_E, past.time_E, now, data.item_count, WINDOWS)
    return score_items(states, stats, items_ND, ranker, now)
