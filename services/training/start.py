"""The item tower that training starts from: texts' components, and who had what.

Shape suffixes: U = users, N = items, V = backbone width, D = item width, K = known items.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from scipy import sparse

from services.core.records import F32
from services.core.tower import ItemTower
from services.training.examples import Origin


def start_tower(text_NV: F32, width: int) -> ItemTower:
    """Return the tower to start from: the texts' principal components, brought nearer in size."""
    mean_V = text_NV.mean(axis=0)
    _, sizes, components = np.linalg.svd(text_NV - mean_V, full_matrices=False)
    kept = min(width, len(sizes))
    scale = np.sqrt(sizes[:kept] / sizes[0]) + 1e-3
    projection = np.zeros((text_NV.shape[1], width), np.float32)
    projection[:, :kept] = (components[:kept] / scale[:, None]).T
    return ItemTower(mean_B=mean_V.astype(np.float32), projection_BD=projection)


def with_known_items(tower: ItemTower, origin: Origin, item_ids: Sequence[str]) -> ItemTower:
    """Give each item that somebody had before an origin its place by who had it.

    These are the right singular vectors of the matrix of who had what, each row and column of it
    scaled by its size; of unit norm, as the text parts that they are added to.
    """
    had_UN = origin.histories_H[-1].sign()
    width = min(tower.width, *had_UN.shape)
    by_user = sparse.diags((np.asarray(had_UN.sum(axis=1)).ravel() + 1.0) ** -0.5)
    by_item = sparse.diags((np.asarray(had_UN.sum(axis=0)).ravel() + 1.0) ** -0.5)
    scaled_UN = (by_user @ had_UN @ by_item).tocoo().astype(np.float32)
    cell = torch.from_numpy(np.stack([scaled_UN.row, scaled_UN.col]).astype(np.int64))
    matrix_UN = torch.sparse_coo_tensor(
        cell, torch.from_numpy(scaled_UN.data), scaled_UN.shape, check_invariants=True
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        _, size_D, right_ND = torch.svd_lowrank(matrix_UN, q=width, niter=4)
    known_ND = np.zeros((len(item_ids), tower.width), np.float32)
    known_ND[:, :width] = (right_ND * size_D.sqrt()).numpy()
    known_ND /= np.maximum(np.linalg.norm(known_ND, axis=1, keepdims=True), 1e-9)
    rows = np.flatnonzero(origin.age_N >= 0)
    return replace(
        tower,
        known_ids=tuple(item_ids[int(row)] for row in rows),
        known_KD=known_ND[rows],
    )
