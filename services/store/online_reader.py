"""The raw reader of the online store that a configuration names."""

from services.store.feast_config import FeastConfig
from services.store.interest_reads import InterestReads
from services.store.layout import Layout
from services.store.redis_reader import RedisInterestReader
from services.store.sqlite_reader import SqliteInterestReader


def open_online_reader(config: FeastConfig, layout: Layout) -> InterestReads:
    """Return a reader; it belongs to one event loop."""
    return (
        SqliteInterestReader(layout) if config.is_sqlite else RedisInterestReader(config.redis_url)
    )
