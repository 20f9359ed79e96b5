"""Topics: what the items of a space are about, learned from their vectors, with ids that last.

Spherical k-means from a seeded start. A refresh starts from the former topics and hands their ids
on to the topics that keep most of their items; a topic without a forerunner gets an id of its own.

Shape suffixes: N = items, T = topics, S = former topics, D = width, W = words.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.core.pooling import I64
from services.core.records import F32

# An item without a topic.
NO_TOPIC = -1
# Topics of a catalogue of N items: sqrt(N / 2), within these.
FEWEST_TOPICS, MOST_TOPICS = 2, 64
# Items that topics are learned from, at most; all are assigned.
SAMPLE_ITEMS = 20_000
# Topics are learned anew once this part of the items came or went.
STALE_PART = 0.1
# A topic passes its id on to one that shares this part of their joint items.
SAME_TOPIC = 1 / 3

_ROUNDS = 50
_ROWS_A_CHUNK = 8_192
_WORD = re.compile(r"[^\W\d_]{3,}")
_TERMS, _TERMS_IN_NAME = 5, 2
# Words that name nothing.
_EMPTY = frozenset({"all", "and", "any", "for", "from", "non", "not", "other", "the", "with"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of a space."""

    # Unique; never given to another topic of the space.
    ids: tuple[str, ...]
    # Unique, like "dairy: yogurt, milk".
    names: tuple[str, ...]
    # Words that set the topic's titles apart, strongest first.
    terms: tuple[tuple[str, ...], ...]
    # Categories that set its items apart, strongest first.
    categories: tuple[tuple[str, ...], ...]
    # Unit norm.
    centroids_TD: F32
    # Items that they were learned from.
    item_count: int

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicMap:
    """The topics of a catalogue: which item belongs where, and how large each is."""

    topics: Topics
    # Rows of `topics`, in catalogue order.
    topic_N: I64
    # The population's share of each topic; sums to 1.
    prior_T: NDArray[np.float64]


def map_topics(topics: Topics, items_ND: F32, share_N: F32) -> TopicMap:
    """Assign a catalogue's items; `share_N` is their popularity, all zero where nobody had any."""
    topic_N = assign_topics(items_ND, topics.centroids_TD)
    known_N = topic_N != NO_TOPIC
    size_T = np.bincount(topic_N[known_N], share_N[known_N], minlength=len(topics))
    if size_T.sum() <= 0:
        size_T = np.bincount(topic_N[known_N], minlength=len(topics)).astype(np.float64)
    return TopicMap(topics=topics, topic_N=topic_N, prior_T=size_T / max(size_T.sum(), 1e-12))


def refresh_topics(
    former: Topics | None,
    items_ND: F32,
    titles: Sequence[str],
    categories: Sequence[Sequence[str]],
    *,
    is_old_N: NDArray[np.bool_] | None = None,
    is_full: bool = False,
    seed: int = 0,
) -> Topics | None:
    """Return the topics of a catalogue; the former ones while the items are much the same.

    Args:
        former: topics of the same space before; None where there were none.
        items_ND: unit-norm vectors of the catalogue.
        titles: of the items.
        categories: of the items, broadest first.
        is_old_N: items that were there when the former topics were in force; None means all. An id is
            handed on by these alone.
        is_full: learn them anew whatever changed.
        seed: of the sample and of the start.

    Returns:
        The topics; None where there are fewer than two items.
    """
    count = len(items_ND)
    if count < FEWEST_TOPICS:
        return None
    if former is not None and not is_full:
        moved = abs(count - former.item_count)
        if moved <= STALE_PART * former.item_count:
            return former
    wanted = int(np.clip(round(np.sqrt(count / 2)), FEWEST_TOPICS, MOST_TOPICS))
    start_SD = former.centroids_TD if former is not None else None
    centroids_TD = _cluster(np.asarray(items_ND), wanted, start_SD, seed)
    topic_N = assign_topics(items_ND, centroids_TD)
    is_old_N = np.ones(count, bool) if is_old_N is None else is_old_N
    ids = _ids(former, items_ND, topic_N, is_old_N, len(centroids_TD))
    terms = _telling([_words(title) for title in titles], topic_N, len(centroids_TD))
    labels = _telling([set(names) for names in categories], topic_N, len(centroids_TD))
    return Topics(
        ids=ids,
        names=_names(terms, labels),
        terms=terms,
        categories=labels,
        centroids_TD=centroids_TD,
        item_count=count,
    )


def assign_topics(items_ND: F32, centroids_TD: F32) -> I64:
    """Return the row of each item's nearest topic; NO_TOPIC for an item without a direction."""
    topic_N = np.full(len(items_ND), NO_TOPIC, np.int64)
    for start in range(0, len(items_ND), _ROWS_A_CHUNK):
        rows_ND = np.asarray(items_ND[start : start + _ROWS_A_CHUNK], np.float32)
        near_N = np.argmax(rows_ND @ centroids_TD.T, axis=1)
        has_direction_N = np.any(rows_ND != 0, axis=1)
        topic_N[start : start + len(rows_ND)] = np.where(has_direction_N, near_N, NO_TOPIC)
    return topic_N


def _cluster(items_ND: F32, wanted: int, start_SD: F32 | None, seed: int) -> F32:
    """Return unit-norm centroids of spherical k-means, none of them empty."""
    rng = np.random.default_rng(seed)
    pool_ND = items_ND[np.any(items_ND != 0, axis=1)]
    if len(pool_ND) > SAMPLE_ITEMS:
        pool_ND = pool_ND[np.sort(rng.choice(len(pool_ND), SAMPLE_ITEMS, replace=False))]
    centroids_TD = _start(pool_ND, wanted, start_SD, rng)
    topic_N = assign_topics(pool_ND, centroids_TD)
    for _ in range(_ROUNDS):
        centroids_TD = _means(pool_ND, topic_N, centroids_TD)
        next_N = assign_topics(pool_ND, centroids_TD)
        if np.array_equal(next_N, topic_N):
            break
        topic_N = next_N
    return centroids_TD[np.unique(topic_N)]


def _start(pool_ND: F32, wanted: int, start_SD: F32 | None, rng: np.random.Generator) -> F32:
    """Return the former centroids, and items drawn by their distance from all before (k-means++)."""
    if start_SD is not None:
        chosen = list(start_SD[:wanted])
    else:
        chosen = [pool_ND[rng.integers(len(pool_ND))]] if len(pool_ND) else []
    if not chosen:
        return np.zeros((0, pool_ND.shape[1]), np.float32)
    nearest_N = np.max(pool_ND @ np.stack(chosen).T, axis=1)
    while len(chosen) < wanted:
        far_N = np.maximum(1 - nearest_N.astype(np.float64), 0)
        far_N[far_N < 1e-6] = 0
        if far_N.sum() == 0:
            break
        row = pool_ND[rng.choice(len(pool_ND), p=far_N / far_N.sum())]
        chosen.append(row)
        nearest_N = np.maximum(nearest_N, pool_ND @ row)
    return np.stack(chosen)


def _means(pool_ND: F32, topic_N: I64, before_TD: F32) -> F32:
    """Return the direction of each topic's items; where there are none, or they cancel, as before."""
    is_of_TN = topic_N[None, :] == np.arange(len(before_TD))[:, None]
    sum_TD = is_of_TN.astype(np.float32) @ pool_ND
    norm_T = np.linalg.norm(sum_TD, axis=1, keepdims=True)
    mean_TD = np.where(norm_T > 1e-9, sum_TD / np.maximum(norm_T, 1e-9), before_TD)
    return mean_TD.astype(np.float32)


def _ids(
    former: Topics | None,
    items_ND: F32,
    topic_N: I64,
    is_old_N: NDArray[np.bool_],
    count: int,
) -> tuple[str, ...]:
    """Return the former id where most items stayed together, best match first; else a new one."""
    ids = [""] * count
    if former is not None:
        before_N = assign_topics(items_ND, former.centroids_TD)
        both_TS = np.zeros((count, len(former)), np.int64)
        kept_N = is_old_N & (topic_N != NO_TOPIC) & (before_N != NO_TOPIC)
        np.add.at(both_TS, (topic_N[kept_N], before_N[kept_N]), 1)
        joint_TS = both_TS.sum(1)[:, None] + both_TS.sum(0)[None] - both_TS
        same_TS = both_TS / np.maximum(joint_TS, 1)
        for flat in np.argsort(-same_TS, axis=None, kind="stable").tolist():
            topic, old = divmod(flat, len(former))
            if same_TS[topic, old] < SAME_TOPIC:
                break
            if not ids[topic] and former.ids[old] not in ids:
                ids[topic] = former.ids[old]
    taken = set(ids) | set(former.ids if former else ())
    for topic in range(count):
        if not ids[topic]:
            members = np.flatnonzero(topic_N == topic)
            ids[topic] = _new_id(np.ascontiguousarray(items_ND[members]).tobytes(), taken)
            taken.add(ids[topic])
    return tuple(ids)


def _new_id(content: bytes, taken: set[str]) -> str:
    number = 0
    while True:
        digest = hashlib.sha256(content + number.to_bytes(4, "big")).hexdigest()
        if f"t{digest[:8]}" not in taken:
            return f"t{digest[:8]}"
        number += 1


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.lower())) - _EMPTY


def _telling(
    words_N: Sequence[Collection[str]], topic_N: I64, count: int
) -> tuple[tuple[str, ...], ...]:
    """Return the words that set each topic apart: part within it times log of its lift."""
    held = [Counter[str]() for _ in range(count)]
    everywhere: Counter[str] = Counter()
    for words, topic in zip(words_N, topic_N.tolist(), strict=True):
        everywhere.update(words)
        if topic != NO_TOPIC:
            held[topic].update(words)
    total = max(len(words_N), 1)
    sizes = np.bincount(topic_N[topic_N != NO_TOPIC], minlength=count)
    found = []
    for topic in range(count):
        size = max(int(sizes[topic]), 1)
        score = {
            word: n / size * np.log((n / size) / (everywhere[word] / total))
            for word, n in held[topic].items()
        }
        best = sorted((word for word in score if score[word] > 0), key=lambda w: (-score[w], w))
        found.append(tuple(best[:_TERMS]))
    return tuple(found)


def _names(terms: Sequence[Sequence[str]], categories: Sequence[Sequence[str]]) -> tuple[str, ...]:
    """Return a name each, like "dairy: yogurt, milk"; more terms where two would be alike."""
    names: list[str] = []
    for words, labels in zip(terms, categories, strict=True):
        label = labels[0] if labels else ""
        own = [word for word in words if word not in _words(label)]
        for shown in range(_TERMS_IN_NAME, _TERMS + 1):
            name = ": ".join(part for part in (label, ", ".join(own[:shown])) if part) or "other"
            if name not in names:
                break
        number = 2
        while name in names:
            name, number = f"{name.removesuffix(f' ({number - 1})')} ({number})", number + 1
        names.append(name)
    return tuple(names)
