"""A small model of bursts, and users who follow its first topic."""

from dataclasses import replace

import numpy as np

from services.core.burst_state import BurstModel
from services.core.local_level import LocalLevel
from services.core.trajectories import TrajectoryBatch

WIDTH, TOPICS = 8, 6
TOPIC_VECS = np.linalg.qr(np.random.default_rng(5).normal(size=(WIDTH, WIDTH)))[0][:TOPICS].astype(
    np.float32
)


def model(**changes):
    level = LocalLevel(
        centre_D=np.full(WIDTH, 0.1, np.float32),
        basis_DK=np.eye(WIDTH, dtype=np.float32),
        inverse_KD=np.eye(WIDTH, dtype=np.float32),
        rho_K=np.full(WIDTH, 0.98, np.float32),
        variance_K=np.full(WIDTH, 0.1, np.float32),
        noise_K=np.full(WIDTH, 0.3, np.float32),
        count_power=1.0,
    )
    given = {
        "level": level, "topics_GD": TOPIC_VECS, "count_offset": 1.0, "threshold": 10.0, "shift": 0.3,
        "seasons": (10,), "season_slack": 0,
    }  # fmt: skip
    return BurstModel(**given | changes)


def batch(users=6, periods=30, events=20, seed=1, mask=None):
    """Users who follow topic 0, with noise as large as their counts foretell."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(size=(users, periods, WIDTH)) * np.sqrt(0.3 / (events + 1))
    vec = TOPIC_VECS[0] + noise
    vec /= np.linalg.norm(vec, axis=2, keepdims=True)
    mask = np.ones((users, periods), bool) if mask is None else mask
    return TrajectoryBatch(
        vec_UTD=(vec * mask[:, :, None]).astype(np.float32), mask_UT=mask,
        count_UT=np.full((users, periods), events) * mask,
    )  # fmt: skip


def with_burst(b, user, columns, topic, share):
    vec = b.vec_UTD.copy()
    for t in columns:
        moved = (1 - share) * vec[user, t] + share * TOPIC_VECS[topic]
        vec[user, t] = moved / np.linalg.norm(moved)
    return replace(b, vec_UTD=vec * b.mask_UT[:, :, None])


def machine(b, user, column, events=900):
    """A period with far more events than the user's own."""
    count = b.count_UT.copy()
    count[user, column] = events
    return replace(b, count_UT=count)
