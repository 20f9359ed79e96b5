"""Topics as a JSON document beside a catalogue's generation."""

import base64
from typing import Any

import numpy as np

from services.core.topics import Topics

TOPICS = "topics.json"


def topics_to_json(topics: Topics) -> dict[str, Any]:
    """Return JSON values; centroids as base64 of little-endian float32."""
    return {
        "ids": list(topics.ids),
        "names": list(topics.names),
        "terms": [list(words) for words in topics.terms],
        "categories": [list(words) for words in topics.categories],
        "width": int(topics.centroids_TD.shape[1]),
        "centroids": base64.b64encode(topics.centroids_TD.astype("<f4").tobytes()).decode(),
        "item_count": topics.item_count,
    }


def topics_from_json(said: dict[str, Any]) -> Topics:
    """Return the topics in a document. Raises KeyError or ValueError where it is damaged."""
    flat = np.frombuffer(base64.b64decode(said["centroids"]), "<f4")
    return Topics(
        ids=tuple(said["ids"]),
        names=tuple(said["names"]),
        terms=tuple(tuple(words) for words in said["terms"]),
        categories=tuple(tuple(words) for words in said["categories"]),
        centroids_TD=flat.reshape(len(said["ids"]), said["width"]).astype(np.float32),
        item_count=said["item_count"],
    )
