from dataclasses import replace

import numpy as np
import torch

from services.training.batches import make_batch
from services.training.loss import loss_of, sample_columns
from services.training.ranker import RankerModule
from services.training.start import start_tower
from tests.training.origins import POOLING, SMALL, origins_of, planted

PLAIN = replace(
    SMALL, query_dropout=0.0, history_dropout=0.0, id_dropout=0.0, id_lag=0, has_ids=False
)


def scene(config):
    data, text = planted()
    torch.manual_seed(0)
    module = RankerModule(config, POOLING.half_lives_days, start_tower(text, 8), data.item_ids)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape))
    return module, make_batch(origins_of(data, 1)[0], np.arange(20)), torch.from_numpy(text)


def test_a_sample_as_large_as_the_catalogue_is_not_drawn():
    module, batch, text = scene(replace(PLAIN, sampled_items=0))
    full = loss_of(module, batch, text)
    module.config = replace(PLAIN, sampled_items=len(text))
    assert loss_of(module, batch, text) == full
    module.config = replace(PLAIN, sampled_items=len(text) // 2)
    assert loss_of(module, batch, text) != full


def test_a_large_sample_holds_every_item_for_sure():
    _, batch, text = scene(PLAIN)
    column_C, log_kept_C = sample_columns(batch, 10_000_000)
    assert column_C.tolist() == list(range(len(text)))
    assert not log_kept_C.any()


def test_samples_stand_for_the_sum_over_all_items():
    module, batch, text = scene(PLAIN)
    with torch.no_grad():
        weights = module(batch, module.items(text))[0].exp()
        sums = []
        for _ in range(2000):
            column_C, log_kept_C = sample_columns(batch, 10)
            sums.append((weights[:, column_C] * (-log_kept_C).exp()).sum(1))
    assert len(column_C) < len(text)
    torch.testing.assert_close(torch.stack(sums).mean(0), weights.sum(1), rtol=0.05, atol=0.0)


def test_the_likelihood_among_new_items_comes_on_top_with_its_weight():
    losses = []
    for weight in (0.0, 0.3, 0.6):
        module, batch, text = scene(replace(PLAIN, new_weight=weight))
        losses.append(float(loss_of(module, batch, text).detach()))
    assert losses[1] > losses[0]
    np.testing.assert_allclose(losses[2] - losses[1], losses[1] - losses[0], rtol=1e-4)
