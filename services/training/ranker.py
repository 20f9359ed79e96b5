"""The item tower and the ranker as one module: the formula of core/ranking.py in torch.

Its examples are batches.py, its loss loss.py, the loop that trains it fit_ranker.py.

Shape suffixes: B = users of a batch, N = items, V = backbone width, D = item width, H = half-lives,
W = popularity windows, F = item features, C = items that a step scores, R = (user, item) repeats of
a batch.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from services.core.ranker import POPULARITY_FLOOR, Ranker
from services.core.tower import ItemTower
from services.training.batches import Batch
from services.training.repeats import FAR, MATRICES, RepeatTerm, logs, to_numpy


@dataclass(frozen=True, slots=True, kw_only=True)
class RankerConfig:
    """How the ranker is trained; constants were chosen on data before the test blocks."""

    # D.
    width: int = 128
    # Half-lives of the popularity windows, days.
    popularity_half_lives_days: tuple[float, ...] = (7.0, 28.0, 182.0)
    popularity_floor: float = POPULARITY_FLOOR
    # Hidden units of the nets; see core/ranking.py.
    popularity_hidden: int = 16
    query_hidden: int = 256
    # Of the query net's inputs and hidden units.
    query_dropout: float = 0.4
    # Share of a user's events that a step does not see.
    history_dropout: float = 0.4
    # Items get an embedding beside their text; a step leaves this share of them out.
    has_ids: bool = True
    id_dropout: float = 0.3
    # A step takes ids as if training had ended up to so many periods before its origin, drawn anew
    # each step: at serving, too, what came since the last training has none.
    id_lag: int = 6
    # False: rank without the interest vector, to see what it is worth.
    has_interest: bool = True
    repeat_recent_half_life_days: float = 7.0
    # Of the repeat net; see core/repeats.py.
    repeat_projected: int = 8
    repeat_hidden: int = 32
    # Favours items had by few, for coverage; see core/repeats.py.
    repeat_tail: float = 0.02
    # Periods before the end of the data that serve as examples, newest first.
    origins: int = 36
    # The truth of an origin is all of the next so many periods.
    ahead: int = 1
    # 0: that of `epoch_choices` which ranks the newest periods best (choose_epochs.py).
    epochs: int = 0
    epoch_choices: tuple[int, ...] = (1, 5)
    # Users a step.
    batch_users: int = 512
    # Items that a step's softmax looks at, about; drawn by popularity, corrected for it (logQ).
    # 0, or more than there are: all.
    sampled_items: int = 6000
    # Weight of the likelihood of new items among new items, beside that of all among all.
    new_weight: float = 0.3
    # Of the tower and query matrices, and of the scalars: these start far from where they end.
    matrix_rate: float = 3e-3
    scalar_rate: float = 3e-2
    # Pulls the query matrices and item-dependent repeats to their start.
    weight_decay: float = 1e-2
    # A user with n truths counts n ** user_power.
    user_power: float = 0.5
    seed: int = 0


class RankerModule(nn.Module):
    """Scores items for a batch of users."""

    def __init__(
        self,
        config: RankerConfig,
        half_lives_days: tuple[float, ...],
        tower: ItemTower,
        item_ids: Sequence[str],
    ) -> None:
        super().__init__()
        half_lives, windows = len(half_lives_days), len(config.popularity_half_lives_days)
        width, features = tower.width, windows + 1
        self.config, self.half_lives_days, self.known_ids = config, half_lives_days, tower.known_ids
        self.mean_V = nn.Buffer(torch.from_numpy(tower.mean_B))
        self.projection_VD = nn.Parameter(torch.from_numpy(tower.projection_BD.copy()))
        known_KD = (
            tower.known_KD if tower.known_KD is not None else np.zeros((0, width), np.float32)
        )
        self.known_KD = nn.Parameter(torch.from_numpy(known_KD.copy()))
        self.known_row_N = nn.Buffer(torch.from_numpy(tower.rows_of(item_ids)), persistent=False)
        self.query_scale_H = nn.Parameter(torch.ones(half_lives))
        self.query_HDD = nn.Parameter(torch.zeros(half_lives, width, width))
        self.query_bias_D = nn.Parameter(torch.zeros(width))
        self.query_log_prior_H = nn.Parameter(torch.zeros(half_lives))
        self.query_in = nn.Linear((width + 2) * half_lives, config.query_hidden)
        self.query_out = nn.Linear(config.query_hidden, width, bias=False)
        self.popularity_W = nn.Parameter(torch.full((windows,), 1.0 / windows))
        self.popularity_in = nn.Linear(features, config.popularity_hidden)
        self.popularity_out = nn.Linear(config.popularity_hidden, 1, bias=False)
        self.popularity_user_4F = nn.Parameter(torch.zeros(4, features))
        for layer in (self.query_out, self.popularity_out):
            nn.init.zeros_(layer.weight)
        self.repeat = RepeatTerm(
            width=width, half_lives=half_lives, windows=windows,
            recent_half_life_days=config.repeat_recent_half_life_days,
            projected=config.repeat_projected, hidden=config.repeat_hidden, tail=config.repeat_tail,
        )  # fmt: skip
        self.shift = nn.Parameter(torch.zeros(()))

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return what is trained at which rate."""
        of_matrices = ("projection_VD", "query_HDD", "query_bias_D", "query_in.weight",
                       "query_out.weight", *(f"repeat.{name}" for name in MATRICES))  # fmt: skip
        named = {n: p for n, p in self.named_parameters() if p.requires_grad}
        matrices = [p for name, p in named.items() if name in of_matrices]
        known = [p for name, p in named.items() if name == "known_KD"]
        scalars = [p for name, p in named.items() if name not in (*of_matrices, "known_KD")]
        rate = self.config.matrix_rate
        groups = [
            {"params": matrices, "lr": rate, "weight_decay": self.config.weight_decay},
            {"params": known, "lr": rate, "weight_decay": 0.0},
            {"params": scalars, "lr": self.config.scalar_rate, "weight_decay": 0.0},
        ]
        return [group for group in groups if group["params"]]

    def items(self, text_NV: Tensor, age_N: Tensor | None = None) -> Tensor:
        """Return item vectors [N, D].

        In training some ids are left out, and those of items that nobody had `lag` periods before
        the origin: a vector must be good without.
        """
        part_ND = functional.normalize(
            (text_NV - self.mean_V) @ self.projection_VD, dim=1, eps=1e-12
        )
        if not len(self.known_KD):
            return part_ND
        is_known_N = self.known_row_N >= 0
        if self.training:
            kept_N = torch.rand(len(part_ND), device=part_ND.device) >= self.config.id_dropout
            is_known_N = is_known_N & kept_N
            if age_N is not None:
                lag = torch.randint(self.config.id_lag + 1, (), device=age_N.device)
                is_known_N = is_known_N & (age_N >= lag)
        known_ND = self.known_KD[self.known_row_N.clamp_min(0)] * is_known_N[:, None]
        return functional.normalize(part_ND + known_ND, dim=1, eps=1e-12)

    def forward(
        self, batch: Batch, items_ND: Tensor, column_C: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scores [B, C], and their discovery part alone [B, C].

        Args:
            batch: users at an origin.
            items_ND: vectors of all items.
            column_C: items to score, ascending; all where not given.
        """
        query_BD = self._queries(batch, items_ND)
        column = slice(None) if column_C is None else column_C
        kept_R, at_R = columns_of_repeats(batch, column_C)
        cell = (batch.repeat_user_R[kept_R], at_R)
        interest_BC = query_BD @ items_ND[column].T
        discovery_BC = interest_BC + self._popularity(
            batch, batch.share_NW[column], batch.features_NF[column]
        )
        repeat_R = self.repeat(batch, items_ND, interest_BC[cell], kept_R)
        either_R = torch.logaddexp(discovery_BC[cell] + FAR * self.shift, repeat_R)
        return discovery_BC.index_put(cell, either_R), discovery_BC

    def _queries(self, batch: Batch, items_ND: Tensor) -> Tensor:
        if not self.config.has_interest:
            return items_ND.new_zeros(batch.size, items_ND.shape[1])
        query_BD = self.query_bias_D.expand(batch.size, -1)
        pooled = []
        for h, (index, offset, weight) in enumerate(batch.histories_H):
            sums_BD = functional.embedding_bag(
                index,
                items_ND,
                offset,
                mode="sum",
                per_sample_weights=functional.dropout(
                    weight, self.config.history_dropout, self.training
                ),
                include_last_offset=True,
            )
            prior = self.query_log_prior_H[h].exp()
            pooled.append(sums_BD / (batch.weights_BH[:, h] + prior)[:, None])
            query_BD = query_BD + self.query_scale_H[h] * pooled[h] + pooled[h] @ self.query_HDD[h]
        inputs = [*pooled, logs(batch.weights_BH), logs(batch.activity_BH)]
        rate = self.config.query_dropout
        hidden = self.query_in(functional.dropout(torch.cat(inputs, 1), rate, self.training))
        out: Tensor = self.query_out(
            functional.dropout(functional.silu(hidden), rate, self.training)
        )
        return query_BD + out

    def _popularity(self, batch: Batch, share_CW: Tensor, features_CF: Tensor) -> Tensor:
        log_share_CW = torch.log(share_CW + self.config.popularity_floor)
        hidden_CK = torch.tanh(self.popularity_in(features_CF))
        alike_C = log_share_CW @ self.popularity_W + self.popularity_out(hidden_CK)[:, 0]
        ends = [0, -1]
        user_B4 = torch.cat([logs(batch.weights_BH[:, ends]), logs(batch.activity_BH[:, ends])], 1)
        popularity_BC: Tensor = alike_C + user_B4 @ self.popularity_user_4F @ features_CF.T
        return popularity_BC

    def export(self) -> tuple[ItemTower, Ranker]:
        """Return what was learned as core types."""
        tower = ItemTower(
            mean_B=to_numpy(self.mean_V),
            projection_BD=to_numpy(self.projection_VD),
            known_ids=self.known_ids,
            known_KD=to_numpy(self.known_KD) if self.known_ids else None,
        )
        width, has = tower.width, float(self.config.has_interest)
        eye_DD = torch.eye(width, device=self.mean_V.device)
        scaled_HDD = self.query_scale_H[:, None, None] * eye_DD + self.query_HDD
        return tower, Ranker(
            half_lives_days=self.half_lives_days,
            popularity_half_lives_days=self.config.popularity_half_lives_days,
            query_HDD=to_numpy(has * scaled_HDD),
            query_prior_H=to_numpy(self.query_log_prior_H.exp()),
            query_bias_D=to_numpy(has * self.query_bias_D),
            query_in_ZK=to_numpy(self.query_in.weight.T),
            query_hidden_K=to_numpy(self.query_in.bias),
            query_out_KD=to_numpy(has * self.query_out.weight.T),
            popularity_weight_W=to_numpy(self.popularity_W),
            popularity_floor=self.config.popularity_floor,
            popularity_in_FK=to_numpy(self.popularity_in.weight.T),
            popularity_hidden_K=to_numpy(self.popularity_in.bias),
            popularity_out_K=to_numpy(self.popularity_out.weight[0]),
            popularity_user_4F=to_numpy(self.popularity_user_4F),
            **self.repeat.export(),
            repeat_discovery_shift=FAR * float(self.shift.detach()),
        )

    def load(self, tower: ItemTower, ranker: Ranker) -> None:
        """Take what was learned before: the inverse of export(), to float32 rounding."""
        known_KD = tower.known_KD if tower.known_KD is not None else to_numpy(self.known_KD)
        made: dict[str, np.ndarray | float] = {
            "mean_V": tower.mean_B,
            "projection_VD": tower.projection_BD,
            "known_KD": known_KD,
            "query_scale_H": np.zeros(len(self.half_lives_days)),
            "query_HDD": ranker.query_HDD,
            "query_bias_D": ranker.query_bias_D,
            "query_log_prior_H": np.log(ranker.query_prior_H),
            "query_in.weight": ranker.query_in_ZK.T,
            "query_in.bias": ranker.query_hidden_K,
            "query_out.weight": ranker.query_out_KD.T,
            "popularity_W": ranker.popularity_weight_W,
            "popularity_in.weight": ranker.popularity_in_FK.T,
            "popularity_in.bias": ranker.popularity_hidden_K,
            "popularity_out.weight": ranker.popularity_out_K[None],
            "popularity_user_4F": ranker.popularity_user_4F,
            "shift": ranker.repeat_discovery_shift / FAR,
        }
        of_repeat = RepeatTerm.state_of(ranker)
        made |= {f"repeat.{name}": value for name, value in of_repeat.items()}
        self.load_state_dict({name: _f(np.asarray(value)) for name, value in made.items()})


def columns_of_repeats(batch: Batch, column_C: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return which repeats have a column, and their columns; all of them where `column_C` is None."""
    if column_C is None:
        every_R = torch.arange(len(batch.repeat_item_R), device=batch.repeat_item_R.device)
        return every_R, batch.repeat_item_R
    at_R = torch.searchsorted(column_C, batch.repeat_item_R).clamp_max(len(column_C) - 1)
    kept_R = torch.nonzero(column_C[at_R] == batch.repeat_item_R)[:, 0]
    return kept_R, at_R[kept_R]


def _f(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
