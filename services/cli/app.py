"""The application that commands register with, and what they share."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperGroup

from services.core.errors import DiskUnavailable, InvalidArgument
from services.core.schema import Granularity
from services.store.disk import disk_path, told


class Commands(TyperGroup):
    """Knows commands of two words: `evaluate bursts` beside `evaluate FILE`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Take two words for one command where there is such a one."""
        if len(args) > 1 and f"{args[0]} {args[1]}" in self.commands:
            args = [f"{args[0]} {args[1]}", *args[2:]]
        return super().resolve_command(ctx, args)


app = typer.Typer(
    cls=Commands,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Long-term user interest as a service: import events, train, refresh, serve.\n\n"
    "Settings are DRIFTLINE_* variables (see services/runtime/settings.py). The usual order on a new store: "
    "import, train, up.",
)
console = Console()

Tenant = Annotated[str, typer.Option(help="Whose data; a-z, 0-9 and underscore.")]
PeriodLength = Annotated[Granularity, typer.Option(help="Length of a period.")]
Out = Annotated[Path, typer.Option(help="Folder for the report; made if absent.")]


def main() -> None:
    """Run the command line; an expected failure is one line, not a traceback."""
    try:
        app()
    except Exception as error:
        if (known := told(error)) is None:
            raise
        path = disk_path(error) if isinstance(known, DiskUnavailable) else None
        where = f" (at {escape(str(path))})" if path else ""
        Console(stderr=True).print(
            f"[red]error:[/] {escape(known.message)}{where}", highlight=False, soft_wrap=True
        )
        raise SystemExit(1) from None


def parse_horizons(said: str) -> tuple[int, ...]:
    """Return "1,4" as numbers.

    Raises:
        InvalidArgument: a part is no whole number.
    """
    try:
        return tuple(int(part) for part in said.split(","))
    except ValueError:
        raise InvalidArgument(
            "horizons", f"{said!r} is not a list of whole numbers; write it like 1,4"
        ) from None


def parse_date(said: str) -> datetime | None:
    """Return the instant that a date names, its first in UTC; nothing said is None.

    A time may stand behind the date, and a zone behind the time.

    Raises:
        InvalidArgument: not a date.
    """
    if not said:
        return None
    try:
        at = datetime.fromisoformat(said)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError:
        raise InvalidArgument(
            "until", f"{said!r} is not a date; write it like 2017-12-18"
        ) from None


def print_figures(title: str, figures: object) -> None:
    """Print a dataclass as a table, nested ones flattened."""
    table = Table(title=title, show_header=False)
    for name, value in flatten(figures):
        table.add_row(name, value)
    console.print(table)


def print_rows(title: str, rows: Sequence[object]) -> None:
    """Print dataclasses of one kind as a table, a row each; nothing where there is none."""
    from dataclasses import fields

    if not rows:
        return
    names = [item.name for item in fields(rows[0])]  # type: ignore[arg-type]
    table = Table(*names, title=title)
    for row in rows:
        table.add_row(*(escape(str(getattr(row, name))) for name in names))
    console.print(table)


def flatten(figures: object, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (name, text) of a dataclass's fields."""
    from dataclasses import fields, is_dataclass

    for item in fields(figures):  # type: ignore[arg-type]
        value = getattr(figures, item.name)
        if is_dataclass(value):
            yield from flatten(value, f"{prefix}{item.name}.")
        elif isinstance(value, dict):
            yield from ((f"{prefix}{item.name}.{key}", str(part)) for key, part in value.items())
        else:
            yield f"{prefix}{item.name}", str(value)
