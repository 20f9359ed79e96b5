"""The whole path by real processes: gateway -> inbox -> follower -> encoder -> Feast -> gateway."""

import pytest
from driftline import Client, NotFoundError, UserNotFoundError

from services.core.schema import DEFAULT_TENANT, Granularity, by_period_view
from services.pipeline.stores import open_stores
from tests.bench.freshness import followed_store, measure, wait_for

pytestmark = [pytest.mark.xdist_group("serve"), pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    with followed_store(tmp_path_factory.mktemp("path")) as running:
        yield running


def test_items_and_events_are_served_within_their_goals(stack):
    with Client(stack.gateway.target) as client:
        seconds = measure(client, rounds=2)
    assert max(seconds["item"]) <= 10
    assert max(seconds["event"]) <= 60


def test_a_user_of_the_small_store_has_everything(stack):
    with Client(stack.gateway.target) as client:
        # On busy cores this may come before the follower's first pass has ended.
        wait_for(lambda: has_interests(client, "u7"), 60)
        interest = client.get_interest("u7")
        assert interest.basis.space_id
        assert len(client.get_trajectory("u7").interests) > 1
        for granularity in Granularity:  # days too
            assert client.get_interest("u7", granularity=granularity).event_count >= 1
        wait_for(lambda: has_forecast(client, "u7"), 60)
        assert client.recommend("u7").items
        profile = client.get_profile("u7")
        assert profile.interests
        topic = profile.topics[0]
        assert topic.evidence.items
        assert topic.name in profile.summary
        client.correct_profile("u7", topic.topic_id, "not_interested")
        assert topic not in client.get_profile("u7").topics
        client.correct_profile("u7", topic.topic_id, "none")
        assert client.get_profile("u7").topics == profile.topics
        assert client.recommend("a stranger").basis.is_fallback


def test_an_erased_user_is_hidden_at_once_and_gone_after_the_next_pass(stack):
    stores = open_stores(stack.settings)
    with Client(stack.gateway.target) as client:
        wait_for(lambda: "u9" in stored_users(stores), 60)
        client.erase_user("u9")
        with pytest.raises(UserNotFoundError):
            client.get_interest("u9")
        wait_for(lambda: "u9" not in stored_users(stores), 60)
        assert "u9" not in set(stores.tables.read_events(DEFAULT_TENANT)["user_id"])
        assert client.get_interest("u8")


def has_interests(client, user_id):
    try:
        return all(client.get_interest(user_id, granularity=g).event_count for g in Granularity)
    except NotFoundError:
        return False


def has_forecast(client, user_id):
    try:
        return bool(client.get_forecast(user_id).steps)
    except NotFoundError:
        return False


def stored_users(stores):
    space_id = stores.models.live(DEFAULT_TENANT).space_id
    view = by_period_view(Granularity.WEEK, space_id)
    return {
        user
        for bucket in (0, 1)
        for user in stores.features.read_offline(DEFAULT_TENANT, view, bucket)["user_id"]
    }
