"""What can be chosen when a backbone is tuned."""

from dataclasses import dataclass
from enum import StrEnum

from services.core.errors import InvalidArgument


class Mode(StrEnum):
    """Which weights move."""

    # None of the backbone's: a head on frozen vectors.
    HEAD = "head"
    # Low-rank additions to its linear layers, merged into them afterwards.
    LORA = "lora"
    # All.
    FULL = "full"


class Objective(StrEnum):
    """What the weights are moved by."""

    # A user's pooled items against what the user has next.
    CONTRASTIVE = "contrastive"
    # Text -> category.
    CLASSIFICATION = "classification"
    # Text -> mean value (rating, quantity) of the item.
    REGRESSION = "regression"
    # Filling gaps in the catalogue's texts (encoders).
    MLM = "mlm"
    # Continuing the catalogue's texts (decoders).
    CAUSAL = "causal"


# By mode, where the configuration says 0. A head alone is cheap and starts far from its end.
STEPS = {Mode.HEAD: 400, Mode.LORA: 120, Mode.FULL: 120}
RATES = {Mode.HEAD: 0.0, Mode.LORA: 1e-3, Mode.FULL: 5e-5}


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneConfig:
    """How a backbone is tuned; MiniLM on one core takes about 3 s a step of 192 short texts."""

    mode: Mode = Mode.LORA
    objective: Objective = Objective.CONTRASTIVE
    # At most; 0 means STEPS of the mode.
    steps: int = 0
    # Texts drawn a step, each encoded once, with gradient.
    batch_texts: int = 192
    # Of the backbone's weights; 0 means RATES of the mode.
    rate: float = 0.0
    # Of heads.
    head_rate: float = 1e-3
    weight_decay: float = 0.01
    # Largest norm of a step's gradient.
    clip: float = 1.0
    lora_rank: int = 8
    lora_alpha: int = 16
    # How often the stopping part is looked at, and how many looks without a gain end it.
    checks: int = 8
    patience: int = 3
    # Shares of the texts that early stopping looks at, and that the metric is measured on. Both
    # are kept from training.
    stop_share: float = 0.1
    held_out_share: float = 0.2
    # The same of contrastive tuning and of retrieval: periods before the end, the last are held out.
    stop_periods: int = 2
    held_out_periods: int = 8
    # Periods before those that serve as examples, newest first, and how many of them a step reads.
    origins: int = 16
    origins_a_step: int = 8
    # A user's items fade by half in this many periods.
    half_life_periods: float = 12.0
    # Where the softmax's scale starts: cosines are divided by it.
    temperature: float = 0.05
    # Add the log of an item's share of the past to its score while training: what vectors then say
    # is taste beyond popularity, which a ranker knows anyway.
    is_popularity_given: bool = False
    # Longer texts are cut.
    max_tokens: int = 64
    # Forward passes in bfloat16 (1.3x faster on an EPYC with AVX512-BF16).
    is_bf16: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Check what would fail late.

        Raises:
            InvalidArgument: a number is out of range.
        """
        for name in ("batch_texts", "checks", "patience", "stop_periods", "held_out_periods",
                     "origins", "origins_a_step", "max_tokens", "lora_rank"):  # fmt: skip
            if getattr(self, name) < 1:
                raise InvalidArgument(name, f"{getattr(self, name)} is too few; at least 1")
        if self.steps < 0:
            raise InvalidArgument("steps", "cannot be negative; 0 means the mode's own number")
        if not 0 < self.stop_share + self.held_out_share < 1:
            raise InvalidArgument("held_out_share", "must leave texts to train on")

    @property
    def planned_steps(self) -> int:
        """Steps, the mode's own number filled in."""
        return self.steps or STEPS[self.mode]

    @property
    def backbone_rate(self) -> float:
        """Rate of the backbone's weights, the mode's own filled in."""
        return self.rate or RATES[self.mode]
