"""SASRec of RecTools: trained once before the first origin, asked with each user's latest items.

Shape suffixes: E = events, A = users asked, N = items, L = length of a session, D = width.
"""

import copy
import logging
import warnings
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytorch_lightning as pl
import torch
from questions import Answer, Constants, Events, Questions
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel

# Epochs without a lower loss on what was held out, after which a fit ends.
PATIENCE = 2
# Users whose last item is held out of training, at most.
HELD_OUT = 4_000
# Up to here every item is in the loss's denominator; beyond it, so many drawn at random.
SOFTMAX_ITEMS, NEGATIVES = 10_000, 256
# Positions of a batch: sessions times their length.
BATCH_POSITIONS = 1_600
HEADS, BLOCKS, DROPOUT = 2, 2, 0.2


class KeepBest(pl.Callback):
    """Keeps the weights of the best epoch in memory, and stops after PATIENCE that are no better."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self._weights: dict[str, torch.Tensor] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Note the loss."""
        loss = float(trainer.callback_metrics["val_loss"])
        if loss < min(self.losses, default=np.inf):
            self._weights = copy.deepcopy(module.state_dict())
        self.losses.append(loss)
        print(f"epoch {len(self.losses)}: {loss:.4f} on what was held out", flush=True)
        trainer.should_stop = len(self.losses) - 1 - self.best >= PATIENCE

    @property
    def best(self) -> int:
        """The best epoch, from 0."""
        return int(np.argmin(self.losses))

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Put the best weights back."""
        module.load_state_dict(self._weights)


class Sasrec:
    """A trained model."""

    def __init__(self, questions: Questions, constants: Constants, seed: int) -> None:
        logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
        warnings.filterwarnings("ignore")
        pl.seed_everything(seed, verbose=False)
        self._length, self._seed = int(constants["length"]), seed
        self._item_count = questions.item_count
        sessions = self._sessions(in_sequence(questions.to_fit, seed))
        is_softmax = questions.item_count <= SOFTMAX_ITEMS
        self._model = SASRecModel(
            n_factors=int(constants["width"]), n_blocks=BLOCKS, n_heads=HEADS, dropout_rate=DROPOUT,
            session_max_len=self._length, lr=constants["learning_rate"],
            batch_size=max(8, BATCH_POSITIONS // self._length),
            loss="softmax" if is_softmax else "sampled_softmax", n_negatives=NEGATIVES,
            get_val_mask_func=held_out,
        )  # fmt: skip
        self._model._trainer = trainer(int(constants["epochs"]))  # as RecTools documents it
        self._model.fit(Dataset.construct(sessions))
        # It trains with a copy of the trainer.
        best = next(c for c in self._model.fit_trainer.callbacks if isinstance(c, KeepBest))
        self.said = {
            "library": f"RecTools {version('rectools')} SASRec",
            "sessions": int(sessions[Columns.User].nunique()),
            "epochs": len(best.losses),
            "best_epoch": best.best + 1,
            "held_out_loss": best.losses,
        }

    def answer(self, past: Events, users_A: np.ndarray) -> Answer:
        """Return the sessions' vectors at the end of each user's latest items, and the items'."""
        past = in_sequence(past, self._seed)
        known = self._model.data_preparator.get_known_item_ids().astype(np.int64)
        token_N = np.zeros(self._item_count, np.int64)
        token_N[known] = self._model.data_preparator.get_known_items_sorted_internal_ids()
        token_E = token_N[past.item]
        net = self._model.torch_model.eval()
        with torch.no_grad():
            tokens_ND = net.item_model.get_all_embeddings()
            users_AD = np.zeros((len(users_A), tokens_ND.shape[1]), np.float32)
            x_AL = latest(past.user[token_E > 0], token_E[token_E > 0], users_A, self._length)
            has = np.flatnonzero(x_AL[:, -1])
            for rows in np.array_split(has, max(1, len(has) // 256)):
                session = {"x": torch.from_numpy(x_AL[rows])}
                users_AD[rows] = net.encode_sessions(session, tokens_ND)[:, -1].numpy()
        items_ND = np.zeros((self._item_count, tokens_ND.shape[1]), np.float32)
        items_ND[known] = tokens_ND.numpy()[token_N[known]]
        return Answer(users=users_AD, items=items_ND, is_known=token_N > 0)

    def _sessions(self, events: Events) -> pd.DataFrame:
        """Cut each user's events into sessions of length + 1, each from where the one before ended.

        RecTools learns from a user's last session only: here that would leave most events unused.

        Args:
            events: by user, then time.

        Returns:
            What RecTools takes for users are sessions; a user's latest one has a negative number.
        """
        users, starts, counts = np.unique(events.user, return_index=True, return_counts=True)
        rows, sessions = [], []
        for user, start, count in zip(users, starts, counts, strict=True):
            # The last session is full; the oldest may be short.
            for end in range(count, 1, -self._length):
                rows.append(np.arange(start + max(0, end - self._length - 1), start + end))
                session = -1 - user if end == count else len(sessions)
                sessions.append(np.full(len(rows[-1]), session))
        row = np.concatenate(rows)
        return pd.DataFrame(
            {
                Columns.User: np.concatenate(sessions),
                Columns.Item: events.item[row],
                Columns.Weight: 1.0,
                # Any that keeps the order.
                Columns.Datetime: pd.to_datetime(np.arange(len(row)), unit="s"),
            }
        )


def trainer(epochs: int) -> pl.Trainer:
    """Return a trainer that writes no file."""
    return pl.Trainer(
        max_epochs=epochs, callbacks=[KeepBest()], accelerator="cpu", devices=1, deterministic=True,
        logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def held_out(interactions: pd.DataFrame) -> np.ndarray:
    """Mark the last item of the last session of up to HELD_OUT users, spread over all of them."""
    is_last_session = interactions[Columns.User].to_numpy() < 0
    last = interactions[is_last_session].groupby(Columns.User, sort=True).tail(1).index.to_numpy()
    mask = np.zeros(len(interactions), bool)
    mask[last[:: -(-len(last) // HELD_OUT)]] = True
    return mask


def in_sequence(events: Events, seed: int) -> Events:
    """Return the first event of a user, item and period; at random within one user and instant.

    Files order a basket by item: a sequence model would learn the alphabet.
    """
    key_E = (events.user * (events.item.max(initial=0) + 1) + events.item) * (
        events.period.max(initial=0) + 1
    ) + events.period
    first = events.take(np.sort(np.unique(key_E, return_index=True)[1]))
    draw_E = np.random.default_rng(seed).random(len(first.time))
    return first.take(np.lexsort((draw_E, first.time, first.user)))


def latest(user_E: np.ndarray, token_E: np.ndarray, users_A: np.ndarray, length: int) -> np.ndarray:
    """Return each asked user's last tokens [A, L], zeros in front; events go by user, then time."""
    x_AL = np.zeros((len(users_A), length), np.int64)
    ends = np.searchsorted(user_E, users_A, "right")
    starts = np.maximum(np.searchsorted(user_E, users_A, "left"), ends - length)
    for row, (start, end) in enumerate(zip(starts, ends, strict=True)):
        x_AL[row, length - (end - start) :] = token_E[start:end]
    return x_AL
