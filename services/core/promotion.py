"""Whether a candidate may become live: not where it is proven worse than what serves.

A comparison is of one run: both models rank the same questions (one data hash, one split), each user
is paired with themselves, and the interval is of the difference. It is kept in the candidate's card.
"""

from dataclasses import asdict, dataclass
from typing import Any

from services.core.errors import SpaceMismatch, WorseThanLive
from services.core.records import ModelInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A candidate beside the model that was live, on the same questions."""

    # The model that it was compared with.
    against: str
    # Of events and texts that both answered from.
    data_sha256: str
    # Origins and horizon, like "week 2026-W10 to 2026-W13, 1 ahead".
    split: str
    # Name of the figure, like ndcg_at_10.
    figure: str
    users: int
    candidate: float
    live: float
    # Candidate less live, mean over users, and its 95% interval.
    gain: float
    gain_low: float
    gain_high: float
    # Those of the two that had learned from the origins' periods: their figures flatter them.
    saw_the_answers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return asdict(self)


def comparison_from_json(values: dict[str, Any]) -> Comparison | None:
    """Return the comparison that to_json made values of; None for nothing."""
    if not values:
        return None
    return Comparison(**{**values, "saw_the_answers": tuple(values["saw_the_answers"])})


def check_promotion(
    candidate: ModelInfo,
    live: ModelInfo | None,
    comparison: Comparison | None,
    *,
    accepts_worse: bool = False,
) -> Comparison | None:
    """Refuse a model of another space than the live one, or one that is proven worse.

    Returns the comparison that was judged by; None where there is none with the model that is live
    now: then nothing is proven, and the promotion is the caller's judgement.

    Args:
        candidate: what is to be promoted.
        live: what serves; None for nothing.
        comparison: from the candidate's card.
        accepts_worse: promote although it is worse.

    Raises:
        SpaceMismatch: served vectors are of another space: that is a migration.
        WorseThanLive: the whole interval lies below 0.
    """
    if live is None or live.model_version == candidate.model_version:
        return None
    if live.space_id != candidate.space_id:
        raise SpaceMismatch(expected=live.space_id, actual=candidate.space_id)
    if comparison is None or comparison.against != live.model_version:
        return None
    if comparison.gain_high < 0 and not accepts_worse:
        raise WorseThanLive(
            candidate.model_version,
            live.model_version,
            f"{comparison.figure} {comparison.candidate:.4f} against {comparison.live:.4f}, paired "
            f"difference {comparison.gain_low:.4f} to {comparison.gain_high:.4f} of "
            f"{comparison.users} users ({comparison.split})",
        )
    return comparison
