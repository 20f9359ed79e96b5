"""Classification (text -> label) and regression (text -> value): linear heads on text vectors.

The head is first fitted to the frozen backbone, exactly: logistic or ridge regression, its strength
of regularisation chosen on the stopping part. What tuning adds on top of it is then the backbone's.

Shape suffixes: N = texts, S = texts of a step, B = width, C = classes.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from services.core.errors import InvalidArgument
from services.core.heads import LabelHead, ValueHead
from services.core.pooling import F64, I64
from services.core.progress import Progress
from services.core.records import F32
from services.training.tuning.config import TuneConfig
from services.training.tuning.network import Network
from services.training.tuning.outcomes import Outcome, label_outcome, value_outcome
from services.training.tuning.signals import Signals, split_texts

# Texts to learn from that a label needs; rarer ones are left out.
LABEL_TEXTS = 5
# Penalties on squared weights that are tried.
PENALTIES = (1e-6, 1e-5, 1e-4, 1e-3)
RIDGES = (0.01, 0.1, 1.0, 10.0)
FIT_STEPS = 60


class ClassificationTask:
    """Labels."""

    metric = "macro_f1"
    is_head_exact = True

    def __init__(self, texts: Sequence[str], signals: Signals, config: TuneConfig) -> None:
        """Split the texts and number the labels.

        Raises:
            InvalidArgument: no labels, or too few texts.
        """
        if len(signals.labels) != len(texts):
            raise InvalidArgument("items", "classification needs a category for each item")
        self.config = config
        has_label_N = np.array([bool(label) for label in signals.labels])
        parts = split_texts(texts, has_label_N, config)
        counts = Counter(signals.labels[row] for row in parts.train)
        self.labels = tuple(sorted(name for name, n in counts.items() if n >= LABEL_TEXTS))
        if len(self.labels) < 2:
            raise InvalidArgument(
                "items", f"no two categories have {LABEL_TEXTS} items to learn from"
            )
        class_of = {label: index for index, label in enumerate(self.labels)}
        self._class_N = np.array([class_of.get(label, -1) for label in signals.labels])
        self._train, self._stop, self._held = (
            rows[self._class_N[rows] >= 0] for rows in (parts.train, parts.stop, parts.held_out)
        )
        self._left_out = int((has_label_N & (self._class_N < 0)).sum())
        self._weight = nn.Parameter(torch.zeros(0))
        self._bias = nn.Parameter(torch.zeros(len(self.labels)))
        self._penalty = PENALTIES[0]

    def parameters(self) -> list[nn.Parameter]:
        """Return weight and bias."""
        return [self._weight, self._bias]

    def prepare(self, network: Network, on_progress: Progress) -> None:
        """Fit logistic regression to the vectors as they are."""
        text_NB = torch.from_numpy(network.fixed_vectors())
        fits = []
        for done, penalty in enumerate(PENALTIES):
            weight, bias = self._fit(text_NB, penalty)
            with torch.no_grad():
                loss = float(self._cross_entropy(text_NB[self._stop] @ weight + bias, self._stop))
            fits.append((loss, penalty, weight, bias))
            on_progress("fit head", done + 1, len(PENALTIES))
        _, self._penalty, weight, bias = min(fits, key=lambda fit: fit[0])
        self._weight, self._bias = nn.Parameter(weight), nn.Parameter(bias)

    def start(self) -> None:
        """Do nothing: the head is the best one already."""

    def loss(self, network: Network, rng: np.random.Generator) -> Tensor:
        """Return the cross entropy of some texts, nats."""
        rows = _draw(self._train, self.config.batch_texts, rng)
        scores = network.vectors(rows) @ self._weight + self._bias
        return self._cross_entropy(scores, rows) + self._penalty * (self._weight**2).sum()

    def stop_loss(self, network: Network) -> float:
        """Return the cross entropy of the stopping part."""
        with torch.no_grad():
            scores = network.vectors(self._stop) @ self._weight + self._bias
            return float(self._cross_entropy(scores, self._stop))

    def baseline(self) -> Outcome:
        """Return the figures of saying the most frequent label always."""
        usual = np.bincount(self._class_N[self._train]).argmax()
        label_S = np.full(len(self._held), usual)
        return label_outcome(self._class_N[self._held], label_S, len(self.labels))

    def outcome(self, network: Network) -> Outcome:
        """Return macro F1 and the other figures of labels over the held-out texts."""
        label_S = self.head().predict(network.fixed_vectors(self._held))
        return label_outcome(self._class_N[self._held], label_S, len(self.labels))

    def head(self) -> LabelHead:
        """Return the label head."""
        return LabelHead(labels=self.labels, weight_BC=_np(self._weight), bias_C=_np(self._bias))

    def notes(self) -> dict[str, float]:
        """Return sizes and the penalty chosen."""
        return {
            "classes": len(self.labels),
            "train_texts": len(self._train),
            "texts_of_rare_labels_left_out": self._left_out,
            "penalty": self._penalty,
        }

    def _cross_entropy(self, scores_SC: Tensor, rows: I64) -> Tensor:
        return nn.functional.cross_entropy(scores_SC, torch.from_numpy(self._class_N[rows]))

    def _fit(self, text_NB: Tensor, penalty: float) -> tuple[Tensor, Tensor]:
        weight = torch.zeros(text_NB.shape[1], len(self.labels), requires_grad=True)
        bias = torch.zeros(len(self.labels), requires_grad=True)
        train_SB = text_NB[self._train]
        solver = torch.optim.LBFGS(
            [weight, bias], max_iter=FIT_STEPS, line_search_fn="strong_wolfe"
        )

        def closure() -> Tensor:
            solver.zero_grad()
            loss = self._cross_entropy(train_SB @ weight + bias, self._train)
            loss = loss + penalty * (weight**2).sum()
            loss.backward()  # type: ignore[no-untyped-call]
            return loss

        solver.step(closure)  # type: ignore[no-untyped-call]
        return weight.detach(), bias.detach()


class RegressionTask:
    """Values."""

    metric = "r2"
    is_head_exact = True

    def __init__(self, texts: Sequence[str], signals: Signals, config: TuneConfig) -> None:
        """Split the texts and centre the values.

        Raises:
            InvalidArgument: no values, too few texts, or one value for all.
        """
        if len(signals.value_N) != len(texts):
            raise InvalidArgument("events", "regression needs items' values")
        self.config = config
        parts = split_texts(texts, np.isfinite(signals.value_N), config)
        self._train, self._stop, self._held = parts.train, parts.stop, parts.held_out
        self._value_N = signals.value_N
        self._centre = float(signals.value_N[self._train].mean())
        self._scale = float(signals.value_N[self._train].std())
        if self._scale < 1e-9:
            raise InvalidArgument("events", "all items have one value: there is nothing to learn")
        self._weight, self._bias = nn.Parameter(torch.zeros(0)), nn.Parameter(torch.zeros(()))
        self._ridge = RIDGES[0]

    def parameters(self) -> list[nn.Parameter]:
        """Return weight and bias."""
        return [self._weight, self._bias]

    def prepare(self, network: Network, on_progress: Progress) -> None:
        """Fit ridge regression to the vectors as they are."""
        text_NB = network.fixed_vectors().astype(np.float64)
        wanted = (self._value_N - self._centre) / self._scale
        fits = []
        for ridge in RIDGES:
            weight, bias = _ridge(text_NB[self._train], wanted[self._train], ridge)
            error = text_NB[self._stop] @ weight + bias - wanted[self._stop]
            fits.append((float((error**2).mean()), ridge, weight, bias))
        _, self._ridge, weight, bias = min(fits, key=lambda fit: fit[0])
        self._weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))
        self._bias = nn.Parameter(torch.tensor(bias, dtype=torch.float32))
        on_progress("fit head", 1, 1)

    def start(self) -> None:
        """Do nothing: the head is the best one already."""

    def loss(self, network: Network, rng: np.random.Generator) -> Tensor:
        """Return the squared error of some texts, in variances."""
        rows = _draw(self._train, self.config.batch_texts, rng)
        error = network.vectors(rows) @ self._weight + self._bias - self._wanted(rows)
        return (error**2).mean() + self._ridge / len(self._train) * (self._weight**2).sum()

    def stop_loss(self, network: Network) -> float:
        """Return the squared error of the stopping part, in variances."""
        with torch.no_grad():
            value_S = network.vectors(self._stop) @ self._weight + self._bias
            return float(((value_S - self._wanted(self._stop)) ** 2).mean())

    def baseline(self) -> Outcome:
        """Return the figures of saying the mean always."""
        truth = self._value_N[self._held]
        return value_outcome(truth, np.full(len(truth), self._centre), self._centre)

    def outcome(self, network: Network) -> Outcome:
        """Return R2 and the other figures of values over the held-out texts."""
        value_S = self.head().predict(network.fixed_vectors(self._held))
        return value_outcome(self._value_N[self._held], value_S, self._centre)

    def head(self) -> ValueHead:
        """Return the value head."""
        return ValueHead(
            weight_B=_np(self._weight),
            bias=float(self._bias.detach()),
            centre=self._centre,
            scale=self._scale,
        )

    def notes(self) -> dict[str, float]:
        """Return sizes and spread."""
        return {
            "train_texts": len(self._train),
            "value_mean": self._centre,
            "value_std": self._scale,
            "ridge": self._ridge,
        }

    def _wanted(self, rows: I64) -> Tensor:
        wanted = (self._value_N[rows] - self._centre) / self._scale
        return torch.from_numpy(wanted.astype(np.float32))


def _draw(rows: I64, count: int, rng: np.random.Generator) -> I64:
    return np.sort(rng.choice(rows, min(count, len(rows)), replace=False))


def _ridge(text_SB: F64, wanted_S: F64, ridge: float) -> tuple[F64, float]:
    mean_B, mean = text_SB.mean(axis=0), float(wanted_S.mean())
    centred_SB = text_SB - mean_B
    gram_BB = centred_SB.T @ centred_SB + ridge * np.eye(text_SB.shape[1])
    weight_B: F64 = np.linalg.solve(gram_BB, centred_SB.T @ (wanted_S - mean))
    return weight_B, mean - float(mean_B @ weight_B)


def _np(parameter: nn.Parameter) -> F32:
    return np.asarray(parameter.detach().numpy(), np.float32).copy()
