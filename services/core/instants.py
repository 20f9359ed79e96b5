"""Reads instants out of columns of any type: ISO text, epoch numbers, dates, datetimes."""

import polars as pl

# How every time is stored: UTC microseconds.
TIME = pl.Datetime("us", "UTC")

_ZONE = r"(?i)\s*(Z|UTC|GMT|[+-]\d{2}:?\d{2})$"
_FORMATS = (
    "%Y-%m-%d %H:%M:%S%.f",
    "%Y-%m-%d %H:%M",
    "%Y-%m-%d",
)
_NUMBER = r"^[+-]?\d+(\.\d*)?([eE][+-]?\d+)?$"
_MICROS = 1_000_000
# Numbers below are seconds, then milliseconds, microseconds, nanoseconds: each reaches year 5138.
_SECONDS_BELOW = 10**11
_MILLIS_BELOW = 10**14
_MICROS_BELOW = 10**17
# Numbers in this range are dates like 20261124: as seconds they would be two weeks of August 1970.
_DATE_LOW, _DATE_HIGH = 19700101, 21001231
# Beyond this many microseconds (year 9999) nothing is an instant.
_LIMIT_US = 253_402_300_799 * _MICROS


def instants(column: pl.Series) -> pl.Series:
    """Return a column as UTC microseconds; null where it cannot be read.

    Text is ISO 8601 (date, minutes, seconds, fractions; with or without a zone) or a number.
    Numbers count from 1970 in seconds, ms, us or ns, told apart by size. No zone means UTC.
    """
    frame, dtype = column.to_frame("at"), column.dtype
    at = pl.col("at")
    if isinstance(dtype, pl.Datetime):
        zoned = at if dtype.time_zone else at.dt.replace_time_zone("UTC")
        read = zoned.dt.convert_time_zone("UTC").cast(TIME)
    elif dtype == pl.Date:
        read = at.cast(TIME)
    elif dtype.is_integer():
        read = _from_integer(at.cast(pl.Int64, strict=False))
    elif dtype.is_numeric():
        read = _from_number(at.cast(pl.Float64))
    elif dtype == pl.String:
        return _from_text(frame)
    else:  # lists, booleans, bytes, nothing at all
        return pl.repeat(None, len(column), dtype=TIME, eager=True).alias("at")
    return frame.select(read.alias("at")).to_series()


def _from_text(frame: pl.DataFrame) -> pl.Series:
    at = pl.col("at").str.strip_chars()
    zone = at.str.extract(_ZONE, 1).str.to_uppercase()
    # A date alone ends like a zone ("2017-01-01"): a zone comes only after a time.
    zone = pl.when(at.str.contains(":")).then(zone)
    bare = pl.when(zone.is_null()).then(at).otherwise(at.str.replace(_ZONE, ""))
    bare = bare.str.replace(r"^(\d{4})/(\d{2})/(\d{2})", "$1-$2-$3").str.replace(
        r"^(\d{4}-\d{2}-\d{2})[Tt]", "$1 "
    )
    parts = frame.select(bare.alias("at"), zone.alias("zone"))
    reads = [
        pl.col("at").str.to_datetime(form, strict=False, time_unit="us").dt.replace_time_zone("UTC")
        for form in _FORMATS
    ]
    number = pl.when(pl.col("at").str.contains(_NUMBER)).then(pl.col("at"))
    reads.append(_from_number(number.cast(pl.Float64, strict=False)))
    return parts.select((pl.coalesce(*reads) - _offset()).cast(TIME).alias("at")).to_series()


def _offset() -> pl.Expr:
    """Return the zone as a duration east of UTC; nothing where there is none."""
    digits = pl.col("zone").str.replace(":", "")
    minutes = digits.str.slice(1, 2).cast(pl.Int64, strict=False) * 60 + digits.str.slice(
        3, 2
    ).cast(pl.Int64, strict=False)
    sign = pl.when(digits.str.starts_with("-")).then(-1).otherwise(1)
    return pl.duration(minutes=(sign * minutes).fill_null(0))


def _from_integer(number: pl.Expr) -> pl.Expr:
    size = number.abs()
    micros = (
        pl.when(number.is_between(_DATE_LOW, _DATE_HIGH))
        .then(_date_micros(number))
        .when(size < _SECONDS_BELOW)
        .then(number * _MICROS)
        .when(size < _MILLIS_BELOW)
        .then(number * 1000)
        .when(size < _MICROS_BELOW)
        .then(number)
        .otherwise(number // 1000)
    )
    return pl.when(micros.abs() <= _LIMIT_US).then(micros).cast(TIME)


def _from_number(number: pl.Expr) -> pl.Expr:
    number = pl.when(number.is_finite() & (number.abs() < 2.0**63)).then(number)
    size = number.abs()
    micros = (
        pl.when(size < _SECONDS_BELOW)
        .then(number * _MICROS)
        .when(size < _MILLIS_BELOW)
        .then(number * 1000)
        .when(size < _MICROS_BELOW)
        .then(number)
        .otherwise(number / 1000)
    )
    is_date = number.is_between(_DATE_LOW, _DATE_HIGH) & (number == number.floor())
    exact = micros.round().cast(pl.Int64, strict=False)
    read = pl.when(is_date).then(_date_micros(number.cast(pl.Int64, strict=False))).otherwise(exact)
    return pl.when(read.abs() <= _LIMIT_US).then(read).cast(TIME)


def _date_micros(number: pl.Expr) -> pl.Expr:
    text = number.cast(pl.String)
    return text.str.to_datetime("%Y%m%d", strict=False, time_unit="us").cast(pl.Int64)
