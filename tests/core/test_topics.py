"""Topics on planted groups of items: three directions, ten items each."""

from dataclasses import replace

import numpy as np

from services.core.topics import NO_TOPIC, assign_topics, map_topics, refresh_topics

GROUPS = {"dairy": "milk yogurt", "tools": "hammer drill", "toys": "puzzle doll"}


def shop(a_group=10, seed=0, groups=tuple(GROUPS)):
    """Return vectors, titles and categories; a group is an axis with little noise."""
    rng = np.random.default_rng(seed)
    vectors, titles, categories = [], [], []
    for name in groups:
        axis = np.eye(len(GROUPS))[list(GROUPS).index(name)]
        for n in range(a_group):
            row = axis + rng.normal(0, 0.05, len(GROUPS))
            vectors.append(row / np.linalg.norm(row))
            titles.append(f"The {GROUPS[name].split()[n % 2]} number {n}")
            categories.append(("everything", name))
    return np.array(vectors, np.float32), titles, categories


def topics_of(groups=tuple(GROUPS), a_group=10, former=None, **changes):
    return refresh_topics(former, *shop(a_group, groups=groups), **changes)


def test_planted_groups_are_found_whole():
    items_ND, *_ = shop(a_group=10)
    topic_N = assign_topics(items_ND, topics_of().centroids_TD).reshape(3, 10)
    for group in topic_N:
        mine = set(group.tolist())
        assert not mine & set(np.setdiff1d(topic_N, group).tolist())
    # sqrt(30 / 2) topics
    assert len(topics_of()) == 4


def test_a_topic_is_named_by_what_sets_it_apart_and_no_two_names_are_alike():
    topics = topics_of()
    assert len(set(topics.names)) == len(topics)
    for group, words in GROUPS.items():
        row = int(np.argmax(topics.centroids_TD[:, list(GROUPS).index(group)]))
        assert topics.categories[row][0] == group
        assert set(words.split()) & set(topics.terms[row])
        assert topics.names[row].startswith(f"{group}: ")
    assert all("number" not in words for words in topics.terms)
    assert all("everything" not in labels for labels in topics.categories)


def test_the_same_items_give_the_same_topics():
    one, two = topics_of(), topics_of()
    assert (one.ids, one.names) == (two.ids, two.names)
    assert np.array_equal(one.centroids_TD, two.centroids_TD)


def test_topics_stay_as_they_are_while_few_items_came():
    former = topics_of(a_group=10)
    assert topics_of(a_group=11, former=former) is former
    assert topics_of(a_group=20, former=former) is not former


def test_ids_last_through_a_refresh_that_learns_anew():
    former = topics_of(a_group=40)
    again = topics_of(a_group=60, former=former)
    assert again is not former
    kept = set(former.ids) & set(again.ids)
    assert len(kept) >= len(former) - 2
    for name in kept:
        before = former.centroids_TD[former.ids.index(name)]
        assert before @ again.centroids_TD[again.ids.index(name)] > 0.95
    assert len(set(again.ids)) == len(again)
    full = topics_of(a_group=40, former=former, is_full=True)
    assert set(full.ids) == set(former.ids)


def test_a_group_that_is_new_gets_an_id_of_its_own_and_a_gone_one_leaves_its_id_unused():
    former = topics_of(groups=("dairy", "tools"), a_group=30)
    was_there = np.repeat([True, False], 45)
    again = topics_of(groups=("tools", "toys"), a_group=45, former=former, is_old_N=was_there)
    rows = {g: np.flatnonzero(again.centroids_TD[:, i] > 0.8) for i, g in enumerate(GROUPS)}
    assert not any(again.ids[row] in former.ids for row in rows["toys"])
    old_dairy = {former.ids[r] for r in np.flatnonzero(former.centroids_TD[:, 0] > 0.8)}
    assert not old_dairy & set(again.ids)
    assert {again.ids[row] for row in rows["tools"]} & set(former.ids)


def test_one_item_makes_no_topics_and_an_item_without_direction_has_none():
    items_ND, titles, categories = shop()
    assert refresh_topics(None, items_ND[:1], titles[:1], categories[:1]) is None
    items_ND[0] = 0
    topics = refresh_topics(None, items_ND, titles, categories)
    assert assign_topics(items_ND, topics.centroids_TD)[0] == NO_TOPIC


def test_equal_items_make_one_topic():
    items_ND = np.tile(np.array([1, 0], np.float32), (50, 1))
    assert len(refresh_topics(None, items_ND, ["jam"] * 50, [("food",)] * 50)) == 1


def test_the_populations_shares_are_those_of_the_items_popularity():
    items_ND, *_ = shop(a_group=10)
    topics = topics_of()
    share_N = np.zeros(30, np.float32)
    share_N[[0, 1]] = 0.25  # dairy
    share_N[29] = 0.5  # toys
    made = map_topics(topics, items_ND, share_N)
    assert made.prior_T.sum() == 1
    assert made.prior_T[made.topic_N[29]] == 0.5
    nobody = map_topics(replace(topics), items_ND, np.zeros(30, np.float32))
    assert nobody.prior_T.tolist() == (np.bincount(made.topic_N, minlength=4) / 30).tolist()
