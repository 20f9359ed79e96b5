import numpy as np

from services.core.dataset import dataset_from_frame
from services.core.pooling import DAY_S, PoolingConfig
from services.core.schema import Granularity
from services.evaluation import factors
from services.evaluation.factors import EaseFit, ials
from services.evaluation.matrices import incidence
from tests.evaluation.test_scorers import NOW, PAST
from tests.planted import planted_events

HAD = np.array([[1, 1, 0], [1, 0, 1], [0, 0, 1]], float)


def test_ease_with_its_diagonal_is_the_ridge_regression_of_each_item_on_all():
    method = EaseFit(PAST, np.inf, 1.0).method(keeps_diagonal=True)
    weight = np.linalg.solve(HAD.T @ HAD + np.eye(3), HAD.T @ HAD)
    np.testing.assert_allclose(method(PAST, NOW)(np.arange(3)), HAD @ weight, atol=1e-5)


def test_ease_without_its_diagonal_predicts_each_item_from_the_others():
    method = EaseFit(PAST, np.inf, 1.0).method(keeps_diagonal=False)
    weight = np.zeros((3, 3))
    for item in range(3):
        others = [i for i in range(3) if i != item]
        x = HAD[:, others]
        weight[others, item] = np.linalg.solve(x.T @ x + np.eye(2), x.T @ HAD[:, item])
    np.testing.assert_allclose(method(PAST, NOW)(np.arange(3)), HAD @ weight, atol=1e-5)


def test_ease_beyond_its_limit_scores_the_most_popular_items_only():
    fit = EaseFit(PAST, np.inf, 1.0, limit=2)
    assert fit.items_M.tolist() == [0, 2]
    scores = fit.method(keeps_diagonal=True)(PAST, NOW)(np.arange(3))
    assert (scores[:, 1] == 0).all()
    assert (scores[:, [0, 2]] != 0).any()


def test_ials_solves_each_row_of_its_objective(monkeypatch):
    data = dataset_from_frame(planted_events(), Granularity.WEEK, PoolingConfig())
    had = incidence(data)
    other = np.random.default_rng(0).normal(size=(data.item_count, 4)).astype(np.float32)
    confidence = 3.0 * had.astype(np.float32)
    solved = factors._solve(confidence, other, 0.5)
    monkeypatch.setattr(factors, "GATHERED", 1)
    np.testing.assert_allclose(factors._solve(confidence, other, 0.5), solved, atol=1e-4)
    for user in range(3):
        row = had[user].toarray()[0]
        weight = 1.0 + 3.0 * row
        left = (other * weight[:, None]).T @ other + 0.5 * row.sum() ** 0.5 * np.eye(4)
        np.testing.assert_allclose(
            solved[user], np.linalg.solve(left, other.T @ (weight * row)), atol=1e-3
        )


def test_ials_finds_the_planted_topic_and_folds_in_new_events():
    data = dataset_from_frame(planted_events(weeks=8), Granularity.WEEK, PoolingConfig())
    half = float(np.median(data.time_E))
    method = ials(data.before(half), np.inf, 4, 1.0, 4.0)
    topic = np.array([name.split("-")[0] for name in data.item_ids])
    scorer = method(data, float(data.time_E[-1]) + DAY_S)
    best = scorer(np.arange(data.user_count)).argmax(axis=1)
    own = np.array([topic[data.item_ix_E[data.user_ix_E == u][0]] for u in range(data.user_count)])
    assert (topic[best] == own).mean() > 0.95
    nobody = ials(data.before(half), np.inf, 4, 1.0, 4.0)(data.before(0.0), half)
    assert not nobody(np.arange(2)).any()
