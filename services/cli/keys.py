"""API keys: who may call the gateway, for which tenant, and what."""

from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Column, Table

from services.cli.app import Tenant, app, console
from services.core.access import Scope
from services.core.errors import InvalidArgument
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import load_settings
from services.store.api_keys import ApiKey, KeyFile, NewKey
from services.store.layout import Layout

KeyId = Annotated[str, typer.Argument(help="Id of a key, the part between the underscores.")]


@app.command("keys create")
def keys_create(
    name: Annotated[str, typer.Option(help="For people: which application holds it.")],
    scope: Annotated[
        list[Scope],
        typer.Option(help="What it allows; more than once for more. None includes another."),
    ],
    tenant: Tenant = DEFAULT_TENANT,
    expires_days: Annotated[
        int, typer.Option(min=0, help="Ends after so many days; 0: never.")
    ] = 0,
    calls_per_s: Annotated[
        float,
        typer.Option(min=0, help="Calls a second of one gateway process; default: the server's."),
    ] = 0,
    at_once: Annotated[
        int,
        typer.Option(min=0, help="Calls at once of one gateway process; default: the server's."),
    ] = 0,
) -> None:
    """Make an API key and show it, this once. A tenant that is not there yet is made.

    A gateway asks everyone for a key as soon as it starts with one in the file; running gateways take a new key in
    within seconds.
    """
    settings, now = load_settings(), datetime.now(UTC)
    if not name.isprintable() or not 0 < len(name) <= 64:
        raise InvalidArgument("name", "must be 1 to 64 printable characters")
    Layout(settings.data_dir, settings.bucket_count).make_tenant(tenant)
    made = KeyFile(settings.keys_path()).create(
        tenant=tenant,
        scopes=frozenset(scope),
        name=name,
        now=now,
        expires_time=now + timedelta(days=expires_days) if expires_days else None,
        calls_per_s=calls_per_s or None,
        max_concurrent_calls=at_once or None,
    )
    _show(made)


@app.command("keys list")
def keys_list() -> None:
    """Show every key: id, tenant, scopes and state; never a secret, for none is stored."""
    now = datetime.now(UTC)
    # What is copied from here stays whole in a narrow terminal.
    table = Table(
        Column("id", no_wrap=True, min_width=16),
        *(Column(of, overflow="fold") for of in ("tenant", "scopes", "name", "created", "expires")),
        Column("state", no_wrap=True),
    )
    for key in KeyFile(load_settings().keys_path()).list():
        table.add_row(
            key.key_id,
            key.tenant,
            _scopes(key),
            escape(key.name),
            f"{key.created_time:%Y-%m-%d}",
            f"{key.expires_time:%Y-%m-%d %H:%M}" if key.expires_time else "never",
            key.state(now),
        )
    console.print(table)


@app.command("keys rotate")
def keys_rotate(
    key_id: KeyId,
    grace_hours: Annotated[
        float, typer.Option(min=0, help="The old key still works for so long.")
    ] = 24.0,
) -> None:
    """Make a key like another and show it; the old one ends after the grace."""
    made = KeyFile(load_settings().keys_path()).rotate(
        key_id, now=datetime.now(UTC), grace=timedelta(hours=grace_hours)
    )
    _show(made)
    console.print(f"{key_id} ends in {grace_hours:g} h")


@app.command("keys revoke")
def keys_revoke(key_id: KeyId) -> None:
    """End a key now; gateways refuse it within DRIFTLINE_POLL_S."""
    key = KeyFile(load_settings().keys_path()).revoke(key_id, now=datetime.now(UTC))
    console.print(f"{key.key_id} is revoked")


def _show(made: NewKey) -> None:
    """Print a secret by itself on standard output, so that a script can take it; the rest to people."""
    row = made.row
    until = f"{row.expires_time:%Y-%m-%d}" if row.expires_time else "it is revoked"
    typer.echo(
        f"key {row.key_id} of tenant {row.tenant} ({_scopes(row)}), until {until}; it is not shown again:",
        err=True,
    )
    typer.echo(made.secret)


def _scopes(key: ApiKey) -> str:
    return " ".join(sorted(key.scopes))
