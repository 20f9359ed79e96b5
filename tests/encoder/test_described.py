"""What is described is the same for as long as nothing is added, and only then."""

from datetime import UTC, datetime

from services.core.schema import DEFAULT_TENANT
from services.encoder.described import DescribedItems
from services.store.layout import Layout
from services.store.text_vectors import TextVectors
from tests.encoder.world import item, world

NOW = datetime(2026, 4, 1, tzinfo=UTC)


def test_what_was_added_to_is_another_thing_and_asking_so_is_no_failure(tmp_path):
    w = world(tmp_path)
    w.add_items(item("tea"))
    layout = Layout(tmp_path / "other", 2)
    live = w.encoder._stores.models.named(DEFAULT_TENANT, "")
    tables = w.encoder._stores.tables
    described = DescribedItems(tables, TextVectors(layout))
    first = described.at(DEFAULT_TENANT, live, NOW)
    w.add_items(item("milk"))
    second = described.at(DEFAULT_TENANT, live, NOW)
    assert first != second
    assert (first, "a") != (second, "a")
    assert second == second  # noqa: PLR0124 - it is itself
