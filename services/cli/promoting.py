"""Which model serves."""

from pathlib import Path
from typing import Annotated

import typer

from services.cli.app import PeriodLength, Tenant, app, console, print_figures
from services.core.schema import DEFAULT_TENANT, Granularity
from services.runtime.settings import load_settings
from services.terminal import StageBars

Version = Annotated[str, typer.Argument(help="Model version; see `driftline status`.")]


@app.command()
def compare(
    model: Version,
    granularity: PeriodLength = Granularity.WEEK,
    origins: Annotated[int, typer.Option(min=1, help="Last full periods to predict.")] = 4,
    users: Annotated[int, typer.Option(min=1, help="Users asked at an origin, at most.")] = 5000,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and intervals.")] = 0,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Rank the last periods by a model and by the live one, pair them user by user, keep it in the model's card.

    `driftline promote` and PromoteModel refuse a model whose whole paired interval lies below 0. For a fair
    comparison let neither have seen those periods: `driftline train --no-promote --until DATE`.
    """
    from services.evaluation.paired import compare_models
    from services.pipeline.stores import open_stores
    from services.store.backbone import load_spec
    from services.store.erasures import drop_erased
    from services.store.model_card import attach_comparison
    from services.store.model_folder import load_model
    from services.training.command import item_texts

    stores = open_stores(load_settings())
    models, tables = stores.models, stores.tables
    folder = Path(models.folder(tenant, model))
    live = load_model(Path(models.folder(tenant, models.live(tenant).model_version)))
    with StageBars(console) as bars:
        found = compare_models(
            drop_erased(tables, tenant, tables.read_events(tenant)),
            item_texts(tables.read_items(tenant)).sort("updated_time", descending=True),
            load_model(folder),
            live,
            load_spec,
            granularity=granularity,
            origins=origins,
            user_limit=users,
            seed=seed,
            on_progress=bars.report,
        )
    attach_comparison(folder, found.to_json())
    print_figures(f"{model} beside the live {live.model_version}", found)


@app.command()
def promote(
    model: Version,
    although_worse: Annotated[
        bool,
        typer.Option("--although-worse", help="Promote even what is proven worse than the live."),
    ] = False,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Make a model of the live space live; gateways follow at their next poll.

    Refused where `driftline compare` has proven it worse than the live model. To another space leads
    `driftline migrate`.
    """
    from services.pipeline.stores import open_stores
    from services.store.promotion import promote_checked

    registry = open_stores(load_settings()).models
    made = promote_checked(registry, tenant, model, accepts_worse=although_worse)
    console.print(f"model [bold]{made.model.model_version}[/] is live")
    if made.comparison is None:
        console.print("it was not compared with the model that was live: `driftline compare` does")
    else:
        print_figures("judged by", made.comparison)
