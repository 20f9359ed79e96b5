import numpy as np

from services.core.burst_topics import category_groups, cluster_groups, topic_vectors


def test_common_categories_are_topics_and_rare_ones_are_not():
    ids = [f"i{n:02}" for n in range(12)]
    of = dict.fromkeys(ids[:5], "tea") | dict.fromkeys(ids[5:10], "games") | {ids[10]: "rare"}
    popularity = np.array([10.0] * 5 + [0.0] * 5 + [10.0] * 2)
    group_N, names = category_groups(ids, of, popularity)
    assert names == ("tea",)
    assert group_N.tolist() == [0] * 5 + [-1] * 7


def test_a_topic_leans_on_what_its_items_are_had_for():
    items = np.eye(4, dtype=np.float32)
    (topic,) = topic_vectors(items, np.array([0, 0, -1, -1]), np.array([9.0, 1.0, 50.0, 0.0]))
    np.testing.assert_allclose(topic, np.array([3.0, 1.0, 0.0, 0.0]) / np.sqrt(10), atol=1e-6)


def test_items_without_categories_are_grouped_by_nearness():
    rng = np.random.default_rng(0)
    items = np.repeat(np.eye(2, 5), 20, axis=0) + 0.01 * rng.normal(size=(40, 5))
    group_N = cluster_groups(items.astype(np.float32), seed=0)
    assert not set(group_N[:20]) & set(group_N[20:])
