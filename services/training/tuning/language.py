"""Continued pre-training on the catalogue's texts: filling gaps (encoders), continuing (decoders).

An encoder that was made for vectors has no head that names words: a new one is learned first, on
the frozen backbone. Tuning is measured against that head taught as many steps more without it, so
that what is gained is the backbone's.

Shape suffixes: S = texts of a step, T = tokens, G = tokens asked for, B = width, V = vocabulary.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from services.core.errors import InvalidArgument
from services.core.pooling import F64, I64
from services.core.progress import Progress
from services.store.backbone import length_batches, pad_right
from services.store.heads import Head
from services.training.tuning.config import Mode, Objective, TuneConfig
from services.training.tuning.loop import run_steps
from services.training.tuning.network import Network
from services.training.tuning.outcomes import Outcome, perplexity_outcome
from services.training.tuning.signals import split_texts

# Of a text's words, at least one is asked for; of those, so many are hidden, and changed.
GAP_SHARE = 0.15
HIDDEN, CHANGED = 0.8, 0.1


class GapHead(nn.Module):
    """Names a hidden token from its state, through the backbone's own embeddings."""

    def __init__(self, width: int, embedding: Tensor) -> None:
        super().__init__()
        self.dense = nn.Linear(width, embedding.shape[1])
        if width == embedding.shape[1]:
            with torch.no_grad():
                self.dense.weight.copy_(torch.eye(width))
                self.dense.bias.zero_()
        self.norm = nn.LayerNorm(embedding.shape[1])
        self.bias_V = nn.Parameter(torch.zeros(embedding.shape[0]))

    def forward(self, state_GB: Tensor, embedding_VB: Tensor) -> Tensor:
        """Return scores of all tokens [G, V]."""
        named_GB = self.norm(nn.functional.gelu(self.dense(state_GB)))
        scores_GV: Tensor = named_GB @ embedding_VB.T + self.bias_V
        return scores_GV


class LanguageTask:
    """Both objectives; they differ in what is hidden and in what names it."""

    metric = "perplexity"
    is_head_exact = False

    def __init__(self, texts: Sequence[str], network: Network, config: TuneConfig) -> None:
        """Split the texts.

        Raises:
            InvalidArgument: too few texts of two tokens or more, or head mode where the head is
                the backbone's own.
        """
        self.config = config
        self._is_causal = config.objective is Objective.CAUSAL
        special = set(network.tokenizer.all_special_ids)
        self._words = [
            np.array([at for at, token in enumerate(ids) if token not in special], np.int64)
            for ids in network.token_ids
        ]
        enough = np.array([len(words) > (1 if self._is_causal else 0) for words in self._words])
        parts = split_texts(texts, enough, config)
        self._train, self._stop, self._held = parts.train, parts.stop, parts.held_out
        self._token_ids = network.token_ids
        self._vocabulary = len(network.embedding())
        self._head: GapHead | None = None
        self._at_start: dict[str, Tensor] = {}
        if not self._is_causal:
            self._head = GapHead(network.width, network.embedding())
        elif config.mode is Mode.HEAD:
            raise InvalidArgument(
                "mode", "a decoder names words by its own weights: choose lora or full"
            )

    def parameters(self) -> list[nn.Parameter]:
        """Return the new head's weights; a decoder's head is its own and stays."""
        return [] if self._head is None else list(self._head.parameters())

    def prepare(self, network: Network, on_progress: Progress) -> None:
        """Learn the head on the frozen backbone, for as long as tuning will have taught it.

        Twice the steps: one half goes before tuning, and `start` goes back to its end; the other is
        what the head would have learned meanwhile without the backbone moving.
        """
        if self._head is None or self.config.mode is Mode.HEAD:
            return
        for stage in ("fit head", "go on with head alone"):
            self._at_start = {
                name: value.detach().clone() for name, value in self._head.state_dict().items()
            }
            run_steps(
                self, network, [], self.config,
                steps=self.config.planned_steps, on_progress=on_progress, stage=stage,
            )  # fmt: skip

    def start(self) -> None:
        """Go back to the head as it was after the first half."""
        if self._head is not None and self._at_start:
            self._head.load_state_dict(self._at_start)

    def loss(self, network: Network, rng: np.random.Generator) -> Tensor:
        """Return the mean negative log likelihood of the tokens asked for, nats."""
        count = min(self.config.batch_texts, len(self._train))
        rows = np.sort(rng.choice(self._train, count, replace=False))
        nll, tokens = torch.zeros(()), 0
        for _, part in self._nats(network, rows, rng):
            nll, tokens = nll + part.sum(), tokens + len(part)
        return nll / max(tokens, 1)

    def stop_loss(self, network: Network) -> float:
        """Return the same on the stopping part, its gaps always the same."""
        nll_N, tokens_N = self._measure(network, self._stop)
        return float(nll_N.sum() / tokens_N.sum())

    def baseline(self) -> Outcome:
        """Return perplexity by each token's frequency in the texts learned from."""
        seen = np.concatenate(
            [np.array(self._token_ids[row])[self._words[row]] for row in self._train]
        )
        count_V = np.bincount(seen, minlength=self._vocabulary) + 1.0
        nats_V = -np.log(count_V / count_V.sum())
        nll = [
            float(nats_V[np.array(self._token_ids[row])[self._words[row]]].sum())
            for row in self._held
        ]
        tokens = [len(self._words[row]) for row in self._held]
        return perplexity_outcome(np.array(nll), np.array(tokens, np.float64))

    def outcome(self, network: Network) -> Outcome:
        """Return perplexity over the held-out texts."""
        return perplexity_outcome(*self._measure(network, self._held))

    def head(self) -> Head | None:
        """Return None: words are not what is served."""
        return None

    def notes(self) -> dict[str, float]:
        """Return sizes."""
        return {
            "train_texts": len(self._train),
            "train_tokens": int(sum(len(self._words[row]) for row in self._train)),
        }

    def _measure(self, network: Network, rows: I64) -> tuple[F64, F64]:
        # The same gaps whatever the weights and whenever it is asked.
        rng = np.random.default_rng(self.config.seed)
        nll_N, tokens_N = np.zeros(len(rows)), np.zeros(len(rows))
        with torch.no_grad():
            for owner, part in self._nats(network, rows, rng):
                np.add.at(nll_N, owner, part.numpy().astype(np.float64))
                np.add.at(tokens_N, owner, 1.0)
        return nll_N, tokens_N

    def _nats(
        self, network: Network, rows: I64, rng: np.random.Generator
    ) -> list[tuple[I64, Tensor]]:
        """Return, batch by batch, which of `rows` a token belongs to and its nats."""
        out = []
        for batch in length_batches([len(self._token_ids[row]) for row in rows]):
            ids_ST, mask_ST = pad_right(
                [self._token_ids[rows[place]] for place in batch], network.tokenizer.pad_token_id
            )
            asked = [self._asked(rows[place], rng) for place in batch]
            text_G = np.repeat(np.arange(len(batch)), [len(at) for at in asked])
            at_G = np.concatenate(asked)
            token_G = ids_ST[text_G, at_G]
            if self._head is not None:
                ids_ST = self._with_gaps(ids_ST, text_G, at_G, network, rng)
                states = network.states(ids_ST, mask_ST)[text_G, at_G]
                scores_GV = self._head(states, network.embedding())
            else:
                # A token is named from the state before it.
                states = network.states(ids_ST, mask_ST)[text_G, at_G - 1]
                scores_GV = network.next_token_head()(states)
            nats_G = nn.functional.cross_entropy(scores_GV, token_G, reduction="none")
            out.append((np.array(batch)[text_G], nats_G))
        return out

    def _asked(self, row: int, rng: np.random.Generator) -> I64:
        words = self._words[row]
        if self._is_causal:
            return words[words > 0]
        count = max(1, round(GAP_SHARE * len(words)))
        return np.sort(rng.choice(words, count, replace=False))

    def _with_gaps(
        self, ids_ST: Tensor, text_G: I64, at_G: I64, network: Network, rng: np.random.Generator
    ) -> Tensor:
        chance_G = rng.random(len(at_G))
        other_G = torch.from_numpy(rng.integers(self._vocabulary, size=len(at_G)))
        token_G = ids_ST[text_G, at_G]
        hidden = torch.full_like(token_G, network.tokenizer.mask_token_id)
        is_changed = torch.from_numpy(chance_G < HIDDEN + CHANGED)
        token_G = torch.where(is_changed, other_G, token_G)
        token_G = torch.where(torch.from_numpy(chance_G < HIDDEN), hidden, token_G)
        ids_ST = ids_ST.clone()
        ids_ST[text_G, at_G] = token_G
        return ids_ST
