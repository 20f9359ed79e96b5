"""The raw reader of the online store that a configuration names."""

from services.store.feast_config import FeastConfig
from services.store.interest_reads import InterestReads
from services.store.layout import Layout
from services.store.redis_reader import RedisInterestReader
from services.store.sqlite_reader import SqliteInterestReader


def open_online_reader(
    config: FeastConfig, layout: Layout, *, serves: bool = False
) -> InterestReads:
    """Return a reader; it belongs to one event loop.

    Args:
        config: which store.
        layout: where its files are.
        serves: refuse to say that a user has no row where the store has lost its rows.
    """
    if config.is_sqlite:
        return SqliteInterestReader(layout)
    return RedisInterestReader(config.redis_url, published=layout if serves else None)
