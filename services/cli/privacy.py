"""What people may ask: to be erased, what was erased, and what is held about them."""

import asyncio
import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.cli.app import Tenant, app, console
from services.core.errors import InvalidArgument
from services.core.receipts import PENDING, Receipt
from services.core.schema import DEFAULT_TENANT
from services.runtime.settings import load_settings

if TYPE_CHECKING:
    from services.store.receipts import SignedReceipt


@app.command()
def erase(
    user_ids: Annotated[list[str] | None, typer.Argument(help="Whom to erase.")] = None,
    file: Annotated[Path | None, typer.Option(help="More of them, one id a line.")] = None,
    later: Annotated[
        bool, typer.Option(help="Record it only; the next refresh carries it out.")
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Erase users: hidden at once, removed from every table, view and cache, and told what went where.

    A receipt is PENDING while bytes may still lie somewhere (a backup, a long read); `driftline refresh` looks
    again, and `driftline receipts show` tells.
    """
    from services.pipeline.erasure import erase_requested, request_erasures
    from services.pipeline.preprocess import preprocess
    from services.pipeline.stores import open_stores
    from services.store.layout import Layout
    from services.store.receipts import Receipts

    settings = load_settings()
    users = [*(user_ids or ()), *_lines(file)]
    requests = request_erasures(settings, tenant, users)
    if later:
        for erasure_id in requests.values():
            console.print(f"erasure {erasure_id} is recorded; `driftline refresh` carries it out")
        return
    stores = open_stores(settings)
    preprocess(stores.tables, settings, tenant=tenant)
    erase_requested(
        stores.tables, stores.features, stores.models, stores.overlays, settings, tenant
    )
    layout = Layout(settings.data_dir, settings.bucket_count)
    kept = Receipts(layout).get(tenant, requests.values())
    for erasure_id in requests.values():
        _show(kept[erasure_id].receipt)


@app.command("receipts show")
def show_receipts(
    erasure_ids: Annotated[list[str] | None, typer.Argument(help="Which; none: all.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Show receipts of erasures: what was removed where, and what is pending."""
    for signed in _found(erasure_ids, tenant):
        _show(signed.receipt)


@app.command("receipts verify")
def verify_receipts(
    which: Annotated[
        list[str] | None, typer.Argument(help="Ids, or JSON files of receipts; none: all.")
    ] = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Check receipts by this store's key; fails where one was altered or is another store's."""
    from services.store.layout import Layout
    from services.store.receipts import verify

    settings = load_settings()
    layout = Layout(settings.data_dir, settings.bucket_count)
    files = [Path(name) for name in which or () if Path(name).is_file()]
    ids = [name for name in which or () if not Path(name).is_file()]
    found = [_read(path) for path in files] + (_found(ids, tenant) if ids or not files else [])
    for signed in found:
        receipt = verify(layout, signed)
        console.print(f"{receipt.erasure_id} {receipt.state} signed by {signed.key_id}: holds")


@app.command("receipts write")
def write_receipt(erasure_id: str, out: Path, tenant: Tenant = DEFAULT_TENANT) -> None:
    """Write a receipt with its signature to a JSON file, to hand over."""
    [signed] = _found([erasure_id], tenant)
    content = {
        "receipt": signed.content, "signature": signed.signature.hex(), "key_id": signed.key_id
    }  # fmt: skip
    out.write_text(json.dumps(content, indent=1) + "\n")
    console.print(f"{out} holds it; `driftline receipts verify {out}` checks it")


@app.command("export")
def export_user(
    user_id: str,
    out: Annotated[Path | None, typer.Option(help="Zip file; default USER.zip.")] = None,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Write all that is held about a user to a zip: JSON lines by place, and a README."""
    from services.pipeline.user_export import export_user as export

    path = out or Path(f"{user_id.replace('/', '_')}.zip")
    counts = asyncio.run(export(load_settings(), tenant, user_id, path))
    for source, count in counts.items():
        console.print(f"{source}: {count}")
    console.print(f"{path} holds {sum(counts.values())} records")


def _lines(file: Path | None) -> list[str]:
    if file is None:
        return []
    try:
        return [line for line in file.read_text().splitlines() if line]
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidArgument("file", f"{file} cannot be read ({error})") from None


def _found(erasure_ids: "list[str] | None", tenant: str) -> "list[SignedReceipt]":
    from services.core.errors import ErasureNotFound
    from services.store.layout import Layout
    from services.store.receipts import Receipts

    settings = load_settings()
    receipts = Receipts(Layout(settings.data_dir, settings.bucket_count))
    if not erasure_ids:
        return receipts.list(tenant)
    found = receipts.get(tenant, erasure_ids)
    for erasure_id in erasure_ids:
        if erasure_id not in found:
            raise ErasureNotFound(erasure_id)
    return list(found.values())


def _read(path: Path) -> "SignedReceipt":
    from services.store.receipts import SignedReceipt

    try:
        said = json.loads(path.read_text())
        return SignedReceipt(
            content=said["receipt"],
            signature=bytes.fromhex(said["signature"]),
            key_id=said["key_id"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InvalidArgument("receipt", f"{path} holds none ({error})") from None


def _show(receipt: Receipt) -> None:
    state = f"[yellow]{receipt.state}[/]" if receipt.state == PENDING else receipt.state
    console.print(f"erasure {receipt.erasure_id}: {state}", highlight=False)
    for place in receipt.places:
        until = f", gone by {_day(place.gone_by)}" if place.gone_by else ""
        why = f" ([yellow]pending[/]: {place.pending}{until})" if place.pending else ""
        console.print(f"  {place.name}: {place.removed} removed{why}", highlight=False)
    if receipt.predated_models:
        names = ", ".join(receipt.predated_models)
        console.print(f"  models that had learned from the user: {names}; train anew to drop it")


def _day(time: datetime) -> str:
    return time.isoformat(timespec="minutes")
