"""Reads CSV, JSONL and Parquet in chunks of raw rows, bad lines told apart from bad files.

A chunk is a frame of the file's columns and LINE: the line (CSV, JSONL) or row (Parquet), from 1.
Text files give text columns only; core/cleaning.py makes sense of them.
"""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import polars as pl

from services.core.cleaning import EXCERPT, LINE, RAW, REASON
from services.core.errors import InvalidArgument

CHUNK_ROWS = 200_000
# A quote that is not closed within so many lines is taken to be a fault of its line.
_MAX_RECORD_LINES = 100
_BAD_LINES = {LINE: pl.Int64(), REASON: pl.String(), RAW: pl.String()}
_PARQUET = b"PAR1"
_ENDINGS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv",
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl",
    ".parquet": "parquet", ".pq": "parquet",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Some rows of a file."""

    rows: pl.DataFrame
    # Lines that are no rows: line, reason, raw.
    bad_lines: pl.DataFrame
    # Bytes (Parquet: rows) read so far, and in all.
    done: int
    total: int


def read_chunks(path: Path, chunk_rows: int = CHUNK_ROWS) -> Iterator[Chunk]:
    """Yield a file's rows.

    Raises:
        InvalidArgument: the file is not what its name says, damaged, or empty; says what to do.
    """
    match _format(path):
        case "csv":
            yield from _csv_chunks(path, chunk_rows)
        case "jsonl":
            yield from _jsonl_chunks(path, chunk_rows)
        case _:
            yield from _parquet_chunks(path, chunk_rows)


def _format(path: Path) -> str:
    if not path.is_file():
        raise InvalidArgument("file", f"{path} is not there; check the name")
    said = _ENDINGS.get(path.suffix.lower())
    if said is None:
        raise InvalidArgument(
            "file", f"{path} is of no known type; give it as .csv, .jsonl or .parquet"
        )
    with path.open("rb") as file:
        head = file.read(1 << 16)
    if not head:
        raise InvalidArgument("file", f"{path} is empty; export it again")
    is_parquet = head[:4] == _PARQUET
    if said == "parquet" and not is_parquet:
        looks = "text" if _is_text(head) else "binary data"
        raise InvalidArgument(
            "file",
            f"{path} is not Parquet but {looks}; export it again, or rename it to what it is",
        )
    if said != "parquet" and is_parquet:
        raise InvalidArgument("file", f"{path} is Parquet; rename it to .parquet")
    if said != "parquet" and not _is_text(head):
        raise InvalidArgument(
            "file", f"{path} is binary, not {said.upper()}; export it again as UTF-8 text"
        )
    return said


def _is_text(head: bytes) -> bool:
    if b"\0" in head:
        return False
    control = sum(byte < 32 and byte not in b"\t\n\r\f\x1b" for byte in head[:4096])
    undecodable = head[:4096].decode("utf-8", "replace").count("\ufffd")
    return control + undecodable <= len(head[:4096]) // 20


def _parquet_chunks(path: Path, chunk_rows: int) -> Iterator[Chunk]:
    try:
        scan = pl.scan_parquet(path, hive_partitioning=False, glob=False)
        total = int(scan.select(pl.len()).collect().item())
        for start in range(0, total, chunk_rows):
            rows = scan.slice(start, chunk_rows).collect()
            rows = rows.with_columns(pl.int_range(start + 1, start + rows.height + 1).alias(LINE))
            yield Chunk(rows=rows, bad_lines=_no_bad_lines(), done=start + rows.height, total=total)
        if not total:
            rows = scan.collect().with_columns(pl.lit(0).alias(LINE))
            yield Chunk(rows=rows, bad_lines=_no_bad_lines(), done=0, total=0)
    # A damaged file may make the reader panic, which is no Exception.
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        problem = str(error).splitlines()[0][:160]
        raise InvalidArgument(
            "file", f"{path} is damaged or half written ({problem}); export it again"
        ) from error


def _csv_chunks(path: Path, chunk_rows: int) -> Iterator[Chunk]:
    total = path.stat().st_size
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header_line = file.readline()
        delimiter = max(",;\t|", key=header_line.count)
        names = next(csv.reader([header_line], delimiter=delimiter), [])
        if len(set(names)) != len(names) or not any(name.strip() for name in names):
            raise InvalidArgument("file", f"{path} needs a first line of distinct column names")
        records = _Records(file, delimiter, width=len(names))
        while True:
            found = list(islice(records, chunk_rows))
            lines = [line for line, _ in found]
            columns = list(zip(*(row for _, row in found), strict=True)) or [()] * len(names)
            data = {
                name: pl.Series(name, values, dtype=pl.String)
                for name, values in zip(names, columns, strict=True)
            }
            rows = pl.DataFrame(data).with_columns(pl.Series(LINE, lines, dtype=pl.Int64))
            yield Chunk(rows=rows, bad_lines=records.take_bad(), done=_place(file), total=total)
            if len(found) < chunk_rows:
                return


class _Records:
    """Iterates over (line, fields); what cannot be one is kept aside, and only that."""

    def __init__(self, file: TextIO, delimiter: str, width: int) -> None:
        self._file, self._delimiter, self._width = file, delimiter, width
        self._line = 2  # the header was the first
        self._again: list[str] = []
        self._taken: list[str] = []
        self._bad: list[tuple[int, str, str]] = []

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        while True:
            reader = csv.reader(self._lines(), delimiter=self._delimiter, strict=True)
            try:
                for fields in reader:
                    line, self._line = self._line, self._line + len(self._taken)
                    raw, self._taken = self._taken, []
                    if len(fields) == self._width:
                        yield line, fields
                    elif fields:
                        problem = f"{len(fields)} fields where the header has {self._width}"
                        self._bad.append((line, problem, "".join(raw)))
                return
            except csv.Error:
                # The first line is at fault; those after it are read again.
                self._bad.append((self._line, "quotes do not match", self._taken[0]))
                self._line += 1
                self._again = self._taken[1:] + self._again
                self._taken = []

    def take_bad(self) -> pl.DataFrame:
        """Return the bad lines since the last call."""
        bad, self._bad = self._bad, []
        return _bad_lines(bad)

    def _lines(self) -> Iterator[str]:
        while True:
            line = self._again.pop(0) if self._again else self._file.readline()
            if not line:
                return
            if len(self._taken) >= _MAX_RECORD_LINES:
                self._again.insert(0, line)
                raise csv.Error("a record of too many lines")
            self._taken.append(line)
            yield line


def _jsonl_chunks(path: Path, chunk_rows: int) -> Iterator[Chunk]:
    total = path.stat().st_size
    names: dict[str, None] = {}
    first = 1
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        while True:
            lines = list(islice(file, chunk_rows))
            found: list[tuple[int, dict[str, Any]]] = []
            bad: list[tuple[int, str, str]] = []
            for line, text in enumerate(lines, first):
                if not text.strip():
                    continue
                row = _json_object(text)
                if isinstance(row, str):
                    bad.append((line, row, text))
                else:
                    found.append((line, row))
                    names.update(dict.fromkeys(row))
            if first == 1 and bad and not found:
                raise InvalidArgument(
                    "file", f"{path} is not JSONL: no line of the first {len(lines)} is a JSON "
                    "object; write one object a line"
                )  # fmt: skip
            first += len(lines)
            rows = pl.DataFrame(
                {name: _json_column(name, [row.get(name) for _, row in found]) for name in names}
                or {"": pl.Series([], dtype=pl.String)}
            ).with_columns(pl.Series(LINE, [line for line, _ in found], dtype=pl.Int64))
            yield Chunk(rows=rows, bad_lines=_bad_lines(bad), done=_place(file), total=total)
            if len(lines) < chunk_rows:
                return


def _json_object(text: str) -> dict[str, Any] | str:
    """Return the object on a line, or what is wrong with the line."""
    try:
        row = json.loads(text)
    except (ValueError, RecursionError):
        return "not JSON" if text.endswith("\n") else "not JSON: the line is cut short"
    if not isinstance(row, dict):
        return "not a JSON object"
    return {_without_surrogates(name): value for name, value in row.items()}


def _json_column(name: str, values: list[Any]) -> pl.Series:
    if any(isinstance(value, list) for value in values):
        lists = [
            [_as_text(part) for part in value if part is not None]
            if isinstance(value, list)
            else _as_list(value)
            for value in values
        ]
        return pl.Series(name, lists, dtype=pl.List(pl.String))
    return pl.Series(name, [_as_text(value) for value in values], dtype=pl.String)


def _as_list(value: Any) -> list[str | None] | None:
    return None if value is None else [_as_text(value)]


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return _without_surrogates(value)
    return json.dumps(value) if isinstance(value, dict | list) else str(value)


def _without_surrogates(value: str) -> str:
    # JSON may escape half of a surrogate pair, which is no text.
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _bad_lines(bad: list[tuple[int, str, str]]) -> pl.DataFrame:
    cut = [(line, reason, raw.rstrip("\r\n")[:EXCERPT]) for line, reason, raw in bad]
    return pl.DataFrame(cut, schema=_BAD_LINES, orient="row")


def _no_bad_lines() -> pl.DataFrame:
    return pl.DataFrame(schema=_BAD_LINES)


def _place(file: TextIO) -> int:
    return file.buffer.tell()  # tell() of the text itself is refused while iterating
