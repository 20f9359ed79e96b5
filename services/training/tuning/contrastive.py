"""Next-item contrastive tuning: a user's pooled items against what the user has next and never had.

A step draws texts and encodes each once. At several origins, every user whose past and whose next
period both touch the drawn texts is an example: the mean of the user's drawn past items must score
what the user has next above the other drawn texts. A drawn text stands for those not drawn, so its
score is lowered by the log of its chance to be drawn (logQ), and a target weighs 1 over that chance.

Shape suffixes: N = texts, D = drawn texts, U = users, B = width, T = targets.
"""

from dataclasses import dataclass

import numpy as np
import torch
from scipy import sparse
from torch import Tensor, nn

from services.core.errors import InvalidArgument
from services.core.heads import Projection
from services.core.pooling import F64, I64
from services.core.progress import Progress
from services.core.records import F32
from services.store.heads import Head
from services.training.tuning.config import Mode, TuneConfig
from services.training.tuning.network import Network
from services.training.tuning.outcomes import Outcome
from services.training.tuning.retrieval import (
    METRIC,
    Examples,
    examples_at,
    popularity_outcome,
    retrieval_outcome,
    split_periods,
    users_asked,
)
from services.training.tuning.signals import Signals

# Texts that stand for the catalogue where the stopping part is looked at.
STOP_TEXTS = 1024
# No target weighs more than this many times the lightest: rare draws would rule the step.
WEIGHT_LIMIT = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class _Origin:
    """Examples with columns that are quick to draw."""

    history: sparse.csc_matrix
    new: sparse.csc_matrix
    log_share_N: F32


class ContrastiveTask:
    """The objective; in head mode a projection on top of frozen vectors."""

    metric = METRIC
    is_head_exact = False

    def __init__(self, texts: int, signals: Signals, config: TuneConfig) -> None:
        """Build the examples of every origin.

        Raises:
            InvalidArgument: no histories, or too few periods of them.
        """
        if signals.histories is None:
            raise InvalidArgument("events", "contrastive tuning needs users' histories")
        histories = signals.histories
        self.config = config
        parts = split_periods(histories, config)
        train, stop, self.held_out = (
            [examples_at(histories, period, texts, config.half_life_periods) for period in periods]
            for periods in (parts.train, parts.stop, parts.held_out)
        )
        self._train = [_columns(examples) for examples in train]
        self._stop = [_columns(examples) for examples in stop]
        some = np.random.default_rng(config.seed).permutation(texts)[:STOP_TEXTS]
        self._stop_texts = np.sort(some)
        target_N = np.sum(
            [np.asarray(examples.new_UN.sum(axis=0)).ravel() for examples in train], axis=0
        )
        if target_N.sum() == 0 or not any(len(users_asked(e)) for e in self.held_out):
            raise InvalidArgument("events", "no user has anything new after the first period")
        self._chance_N = _draw_chances(target_N)
        self._log_scale = nn.Parameter(
            torch.tensor(-np.log(config.temperature), dtype=torch.float32)
        )
        self._projection_BB: nn.Parameter | None = None
        self._mean_B = torch.zeros(0)

    def parameters(self) -> list[nn.Parameter]:
        """Return the softmax's scale, and the projection where there is one."""
        return [self._log_scale, *([] if self._projection_BB is None else [self._projection_BB])]

    def prepare(self, network: Network, on_progress: Progress) -> None:
        """Start the projection at the identity around the texts' mean."""
        if self.config.mode is Mode.HEAD:
            self._mean_B = torch.from_numpy(network.fixed_vectors().mean(axis=0))
            self._projection_BB = nn.Parameter(torch.eye(network.width))

    def start(self) -> None:
        """Do nothing: a scale learns at once."""

    def loss(self, network: Network, rng: np.random.Generator) -> Tensor:
        """Return the mean negative log likelihood of what users had next, in nats."""
        drawn = np.unique(
            rng.choice(len(self._chance_N), self.config.batch_texts, p=self._chance_N)
        )
        in_draw_D = -np.expm1(self.config.batch_texts * np.log1p(-self._chance_N[drawn]))
        log_q_D = torch.from_numpy(np.log(in_draw_D).astype(np.float32))
        weight_D = torch.from_numpy(_weights(in_draw_D).astype(np.float32))
        item_DB = self._project(network.vectors(drawn))
        few = min(self.config.origins_a_step, len(self._train))
        total, weights = torch.zeros(()), torch.zeros(())
        for index in rng.choice(len(self._train), few, replace=False):
            history, new = _asked(self._train[index], drawn)
            log_p = self._log_p(self._train[index], drawn, history, item_DB, log_q_D)
            weight = new * weight_D
            total = total - (weight * log_p).sum()
            weights = weights + weight.sum()
        if not float(weights):
            # A draw that touches no example: a step that moves nothing.
            return 0.0 * item_DB.sum() + 0.0 * self._log_scale
        return total / weights

    def stop_loss(self, network: Network) -> float:
        """Return nats per target over a fixed sample of the catalogue."""
        total, targets = 0.0, 0
        with torch.no_grad():
            item_DB = self._project(network.vectors(self._stop_texts))
            for origin in self._stop:
                history, new = _asked(origin, self._stop_texts)
                log_p = self._log_p(origin, self._stop_texts, history, item_DB, None)
                total -= float((new * log_p).sum())
                targets += int(new.sum())
        return total / max(targets, 1)

    def baseline(self) -> Outcome:
        """Return the figures of what is popular, the same for all."""
        return popularity_outcome(self.held_out)

    def outcome(self, network: Network) -> Outcome:
        """Return NDCG@10 of new items in the held-out periods, by mean-pooled cosine."""
        with torch.no_grad():
            item_NB = self._project(torch.from_numpy(network.fixed_vectors())).numpy()
        return retrieval_outcome(self.held_out, item_NB)

    def head(self) -> Head | None:
        """Return the projection."""
        if self._projection_BB is None:
            return None
        return Projection(
            mean_B=self._mean_B.numpy().copy(),
            projection_BD=self._projection_BB.detach().numpy().copy(),
        )

    def notes(self) -> dict[str, float]:
        """Return how many examples there are, and the scale the softmax ended at."""
        pairs = sum(origin.new.nnz for origin in self._train)
        return {"train_pairs": pairs, "temperature": float(torch.exp(-self._log_scale.detach()))}

    def _project(self, vec_DB: Tensor) -> Tensor:
        if self._projection_BB is None:
            return vec_DB
        return nn.functional.normalize((vec_DB - self._mean_B) @ self._projection_BB, dim=1)

    def _log_p(
        self, origin: _Origin, drawn: I64, history_UD: Tensor, item_DB: Tensor,
        log_q_D: Tensor | None,
    ) -> Tensor:  # fmt: skip
        """Return log P(text | user) among the drawn texts that the user never had [U, D]."""
        user_UB = nn.functional.normalize(history_UD @ item_DB, dim=1)
        score_UD = torch.exp(self._log_scale) * (user_UB @ item_DB.T)
        if log_q_D is not None:
            score_UD = score_UD - log_q_D
        if self.config.is_popularity_given:
            score_UD = score_UD + torch.from_numpy(origin.log_share_N[drawn])
        unseen_UD = score_UD.masked_fill(history_UD > 0, -torch.inf)
        return score_UD - torch.logsumexp(unseen_UD, 1, keepdim=True)


def _asked(origin: _Origin, drawn: I64) -> tuple[Tensor, Tensor]:
    """Return history and news [U, D] of the users who have both among the drawn texts."""
    history_UD, new_UD = origin.history[:, drawn].toarray(), origin.new[:, drawn].toarray()
    users = np.flatnonzero(history_UD.any(axis=1) & new_UD.any(axis=1))
    return (
        torch.from_numpy(history_UD[users].astype(np.float32)),
        torch.from_numpy(new_UD[users].astype(np.float32)),
    )


def _columns(examples: Examples) -> _Origin:
    return _Origin(
        history=examples.history_UN.tocsc(),
        new=examples.new_UN.tocsc(),
        log_share_N=np.log(examples.share_N).astype(np.float32),
    )


def _draw_chances(target_N: F64) -> F64:
    """Return each text's chance in one draw: by the root of its targets, one more for all."""
    root_N = np.sqrt(target_N + 1.0)
    chance_N: F64 = root_N / root_N.sum()
    return chance_N


def _weights(in_draw_D: F64) -> F64:
    weight_D = in_draw_D.max() / in_draw_D
    limited_D: F64 = np.minimum(weight_D, WEIGHT_LIMIT)
    return limited_D
