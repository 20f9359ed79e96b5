from dataclasses import replace

import numpy as np
import torch

from services.training.batches import make_batch
from services.training.examples import make_origin, rows_between
from services.training.ranker import RankerModule
from services.training.start import start_tower, with_known_items
from tests.training.origins import POOLING, SMALL, WINDOWS, planted, served_parts, served_scores


def start(data, text):
    origin = make_origin(data, int(data.period_E.max()), POOLING, WINDOWS)
    return with_known_items(start_tower(text, 8), origin, data.item_ids)


def random_module(data, text):
    torch.manual_seed(0)
    module = RankerModule(SMALL, POOLING.half_lives_days, start(data, text), data.item_ids).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape))
    return module


def test_the_trained_formula_is_the_served_one():
    data, text = planted()
    module = random_module(data, text)
    period = int(data.period_E.max())
    tower, ranker = module.export()
    served = served_scores(data, tower.item_vectors(text, data.item_ids), ranker, period)
    origin = make_origin(data, period, POOLING, WINDOWS)
    users = np.array([0, 3, 4, 17])
    with torch.no_grad():
        trained, _ = module(make_batch(origin, users), module.items(torch.from_numpy(text)))
    np.testing.assert_allclose(trained.numpy(), served[users], atol=1e-4)
    assert np.ptp(served) > 1.0


def test_a_loaded_module_scores_as_the_exported_one():
    data, text = planted()
    module = random_module(data, text)
    loaded = RankerModule(SMALL, POOLING.half_lives_days, start(data, text), data.item_ids).eval()
    loaded.load(*module.export())
    batch = make_batch(
        make_origin(data, int(data.period_E.max()), POOLING, WINDOWS), np.arange(data.user_count)
    )
    with torch.no_grad():
        scores = [m(batch, m.items(torch.from_numpy(text)))[0] for m in (module, loaded)]
    torch.testing.assert_close(*scores, atol=1e-4, rtol=0.0)


def test_scores_of_some_columns_are_those_of_all():
    data, text = planted()
    module = random_module(data, text)
    batch = make_batch(
        make_origin(data, int(data.period_E.max()), POOLING, WINDOWS), np.arange(data.user_count)
    )
    columns = torch.arange(1, data.item_count, 3)
    with torch.no_grad():
        items = module.items(torch.from_numpy(text))
        whole, some = module(batch, items), module(batch, items, columns)
    for all_of_them, part in zip(whole, some, strict=True):
        torch.testing.assert_close(all_of_them[:, columns], part, atol=1e-5, rtol=0.0)


def test_an_item_that_nobody_had_yet_is_learned_from_its_text_alone():
    data, text = planted()
    module = random_module(data, text).train()
    unseen = torch.full((data.item_count,), -1)
    parts = torch.nn.functional.normalize(
        (torch.from_numpy(text) - module.mean_V) @ module.projection_VD, dim=1
    )
    torch.testing.assert_close(module.items(torch.from_numpy(text), unseen), parts)
    assert not torch.allclose(module.items(torch.from_numpy(text), unseen + 100), parts)


def test_a_young_item_is_mostly_learned_from_its_text_and_an_old_one_never_for_its_age():
    data, text = planted()
    module = random_module(data, text)
    module.config = replace(module.config, id_dropout=0.0, id_lag=6)
    torch.manual_seed(0)
    kept = {}
    for age in (0, 3, 6):
        age_N = torch.full((data.item_count,), age)
        with_ids = module.eval().items(torch.from_numpy(text))
        steps = [module.train().items(torch.from_numpy(text), age_N) for _ in range(200)]
        kept[age] = np.mean([torch.allclose(items, with_ids) for items in steps])
    # One lag of seven leaves an item of its first period its id, four of seven one of three.
    assert kept[6] == 1.0
    assert 0.07 < kept[0] < 0.22
    assert 0.46 < kept[3] < 0.69


def test_the_age_of_an_item_counts_periods_since_its_first_event():
    data, _ = planted()
    period = int(data.period_E.max())
    origin = make_origin(data, period, POOLING, WINDOWS)
    for item in range(data.item_count):
        before = data.period_E[(data.item_ix_E == item) & (data.period_E < period)]
        assert origin.age_N[item] == (period - 1 - before.min() if len(before) else -1)


def test_without_interest_no_score_depends_on_a_vector():
    data, text = planted()
    config = replace(SMALL, has_interest=False)
    module = RankerModule(config, POOLING.half_lives_days, start(data, text), data.item_ids)
    module.load(*random_module(data, text).export())
    tower, ranker = module.export()
    period = int(data.period_E.max())
    items = tower.item_vectors(text, data.item_ids)
    interests = served_parts(data, items, ranker, period).interest_UN
    np.testing.assert_array_equal(interests, np.zeros_like(interests))


def test_an_origin_knows_nothing_of_its_own_period_but_the_truth():
    data, _ = planted()
    period = int(data.period_E.max()) - 2
    cut = data.where(data.period_E < period)
    full, blind = (make_origin(d, period, POOLING, WINDOWS) for d in (data, cut))
    for name in ("weights_UH", "activity_UH", "share_NW", "repeat_counts_RH", "repeat_age_days_R"):
        np.testing.assert_array_equal(getattr(full, name), getattr(blind, name))
    for a, b in zip(full.histories_H, blind.histories_H, strict=True):
        assert (a != b).nnz == 0
    assert len(full.truth_item_ix_T) > 0
    assert len(blind.truth_item_ix_T) == 0
    truth = data.where((data.period_E == period) & (data.user_ix_E == 5)).item_ix_E
    assert full.truth_item_ix_T[full.truth_ptr[5] : full.truth_ptr[6]].tolist() == sorted(
        set(truth)
    )


def test_rows_of_some_users_stand_together():
    rows, owner = rows_between(np.array([0, 2, 2, 5]), np.array([2, 0, 1]))
    assert rows.tolist() == [2, 3, 4, 0, 1]
    assert owner.tolist() == [0, 0, 0, 1, 1]
