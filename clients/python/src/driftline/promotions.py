"""What a promotion of a model takes and returns."""

from dataclasses import dataclass

from .types import Model


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two models on the same questions: one data hash, one split, each user paired with themselves."""

    live_model_version: str
    # SHA-256 of the data that both answered from, hexadecimal.
    data_sha256: str
    # Origins and horizon, like "week 2026-W10 to 2026-W13, 1 ahead".
    split: str
    # Name of the figure, like ndcg_at_10.
    figure: str
    user_count: int
    # Means over users.
    candidate_value: float
    live_value: float
    # Candidate less live, and its 95% interval.
    gain: float
    gain_low: float
    gain_high: float
    # Those of the two that had learned from the origins' periods: their figures flatter them.
    learned_from_answers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Promotion:
    """A model that was made live."""

    model: Model
    # Live before; empty where nothing was.
    previous_model_version: str
    # What it was judged by; None where it was never compared with the model that was live.
    comparison: Comparison | None
