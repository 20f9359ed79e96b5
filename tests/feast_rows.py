"""Rows as Feast's own writer wants them: the peer of our writers."""

from typing import Any

import pandas as pd
import polars as pl


def as_pandas(rows: pl.DataFrame) -> Any:
    """Return a pandas frame whose list columns hold numpy arrays, as Feast's writer wants them."""
    columns: dict[str, Any] = {}
    for column in rows.iter_columns():
        if isinstance(column.dtype, pl.List):
            columns[column.name] = [value.to_numpy() for value in column]
        elif column.dtype.is_temporal():
            columns[column.name] = pd.to_datetime(column.dt.timestamp("us"), unit="us", utc=True)
        else:
            columns[column.name] = column.to_list()
    return pd.DataFrame(columns)
