"""ALS and BM25 neighbours of `implicit`.

Shape suffixes: U = users, N = items, A = users asked.
"""

import implicit
import numpy as np
from implicit.als import AlternatingLeastSquares
from implicit.nearest_neighbours import BM25Recommender
from questions import Answer, Constants, Events, Questions
from scipy import sparse

SWEEPS = 15


class Als:
    """Factors of items are fitted once, before the first origin; users are solved when asked."""

    def __init__(self, questions: Questions, constants: Constants, seed: int) -> None:
        self._shape = questions.user_count, questions.item_count
        self._half_life = constants["half_life"]
        self._model = AlternatingLeastSquares(
            factors=int(constants["factors"]),
            regularization=constants["regularisation"],
            alpha=constants["alpha"],
            iterations=SWEEPS,
            random_state=seed,
        )
        fit_UN = decayed_periods(questions.to_fit, self._shape, self._half_life)
        self._is_known_N = np.bincount(fit_UN.indices, minlength=self._shape[1]) > 0
        self._model.fit(fit_UN, show_progress=False)
        self.said = {"library": f"implicit {implicit.__version__} ALS", "sweeps": SWEEPS}

    def answer(self, past: Events, users_A: np.ndarray) -> Answer:
        """Solve the users asked from their own past."""
        own_AN = decayed_periods(past, self._shape, self._half_life)[users_A]
        return Answer(
            users=self._model.recalculate_user(users_A, own_AN),
            items=self._model.item_factors,
            is_known=self._is_known_N,
        )


class Bm25:
    """Neighbours are found at every origin, from all that happened before it."""

    def __init__(self, questions: Questions, constants: Constants, seed: int) -> None:
        self._shape = questions.user_count, questions.item_count
        self._constants = constants
        self.said = {"library": f"implicit {implicit.__version__} BM25"}

    def answer(self, past: Events, users_A: np.ndarray) -> Answer:
        """Return each user's own weights, and the items' neighbours."""
        constants = self._constants
        past_UN = decayed_periods(past, self._shape, constants["half_life"])
        model = BM25Recommender(
            K=int(constants["neighbours"]), K1=constants["k1"], B=constants["b"]
        )
        model.fit(past_UN, show_progress=False)
        near_NN = model.similarity
        return Answer(
            users=past_UN[users_A],
            items=sparse.csr_matrix(near_NN.T),
            is_known=np.bincount(past_UN.indices, minlength=self._shape[1]) > 0,
        )


def decayed_periods(events: Events, shape: tuple[int, int], half_life: float) -> sparse.csr_matrix:
    """Sum 2 ** (-age / half_life) over the distinct periods in which a user had an item [U, N].

    The same weights as the project's own rivals get; ages count from the newest period.
    """
    newest = int(events.period.max(initial=0))
    key = np.unique((events.user * shape[1] + events.item) * (newest + 1) + events.period)
    cell, period = np.divmod(key, newest + 1)
    weight = np.exp2(-(newest - period) / half_life).astype(np.float32)
    return sparse.csr_matrix((weight, np.divmod(cell, shape[1])), shape=shape)
