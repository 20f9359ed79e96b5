from datetime import UTC, datetime

import numpy as np
import pyarrow.parquet as pq
import pytest

from services.core.schema import Granularity
from services.store import offline_parts
from services.store.frames import by_period_frame

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize("width", [8, 128, 4096])
def test_few_users_lie_in_few_bytes_however_wide_a_row_is(tmp_path, width):
    users = np.repeat([f"u{number:03}" for number in range(100)], 12)
    vec_PD = np.random.default_rng(0).normal(size=(len(users), width)).astype(np.float32)
    rows = by_period_frame(
        Granularity.WEEK, users.tolist(), np.tile(np.arange(12), 100), vec_PD, np.ones(len(users)),
        model_version="m1", known_times=[NOW] * len(users), computed_time=NOW,
    )  # fmt: skip
    path = tmp_path / "part.parquet"
    offline_parts.write(path, rows)
    groups = pq.ParquetFile(path).metadata
    most = max(groups.row_group(n).total_byte_size for n in range(groups.num_row_groups))
    row = 4 * width
    assert most <= max(2 * 131_072, 2 * 32 * row)
    # Not so small either that what is said of groups outweighs them.
    assert groups.num_row_groups <= max(len(users) * row // 65_536, 1) + 1
