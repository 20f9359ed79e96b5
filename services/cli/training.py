"""Models: trained, tuned."""

from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.table import Table

from services.cli.app import Tenant, app, console, parse_date
from services.core.schema import DEFAULT_TENANT, Granularity
from services.runtime.settings import load_settings
from services.terminal import StageBars
from services.training.tuning.config import Mode, Objective, TuneConfig


@app.command()
def train(
    until: Annotated[
        str, typer.Option(help="Use events before this date (YYYY-MM-DD). Default: now.")
    ] = "",
    promote: Annotated[bool, typer.Option(help="Make the model live at once.")] = True,
    fresh: Annotated[
        bool, typer.Option(help="Ignore what a killed training left, and kept text vectors.")
    ] = False,
    from_live: Annotated[
        bool,
        typer.Option(help="Go on from the live model in its space: no vector moves, seconds."),
    ] = False,
    base: Annotated[str, typer.Option(help="Go on from this model version instead.")] = "",
    workers: Annotated[
        int, typer.Option(help="Processes that share the ranker's steps, by Ray Train; 1: no Ray.")
    ] = 1,
    gpu: Annotated[bool, typer.Option("--gpu", help="Train the ranker on a GPU a worker.")] = False,
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Train item tower, ranker and forecaster on the stored events, and add the model to the registry.

    Killed at any moment, the same command goes on where it stood.
    """
    from services.pipeline.preprocess import preprocess
    from services.pipeline.stores import open_stores
    from services.training.command import TrainRequest, train_from_store
    from services.training.workers import ComputeConfig, check_compute

    settings = load_settings()
    compute = ComputeConfig(workers=workers, gpu=gpu)
    check_compute(compute)
    request = TrainRequest(
        until=parse_date(until) or settings.clock(),
        promote=promote,
        fresh=fresh,
        base=base,
        from_live=from_live,
        compute=compute,
        tenant=tenant,
    )
    with StageBars(console) as bars:
        # What was imported may still lie in the inbox: the first training comes before any refresh.
        preprocess(open_stores(settings).tables, settings, tenant=tenant)
        stores = open_stores(settings)
        before = {one.space_id for one in stores.models.list(tenant) if one.stage == "live"}
        info = train_from_store(settings, request, on_progress=bars.report)
    console.print(f"model [bold]{info.model_version}[/] in space {info.space_id}: {info.stage}")
    if before - {info.space_id}:
        console.print(
            "its space is another one than that of the live model before: "
            + (
                "users have no vector in it until a refresh is through; next time "
                "`--no-promote`, then `driftline migrate --to`, fills it first"
                if promote
                else f"`driftline migrate --to {info.model_version}` fills it, then switches"
            )
        )


@app.command()
def tune(
    objective: Annotated[
        Objective, typer.Option(help="What the weights are moved by: see above.")
    ] = Objective.CONTRASTIVE,
    mode: Annotated[
        Mode,
        typer.Option(
            help="Which weights move. head: none of the backbone's, a head on top; lora: low-rank additions, "
            "merged in the end; full: all."
        ),
    ] = Mode.LORA,
    backbone: Annotated[
        str,
        typer.Option(
            help="Text model to start from: folder, GGUF file or hub name; smollm2-135m-instruct-q4_1 is a "
            "packaged decoder. Default: DRIFTLINE_BACKBONE, else MiniLM."
        ),
    ] = "",
    until: Annotated[
        str, typer.Option(help="Use events before this date (YYYY-MM-DD). Default: now.")
    ] = "",
    granularity: Annotated[
        Granularity, typer.Option(help="Length of the periods in which next items are looked for.")
    ] = Granularity.WEEK,
    hold_out: Annotated[
        int,
        typer.Option(
            min=1,
            help="Last periods that are measured on; the two before them decide when to stop.",
        ),
    ] = 8,
    steps: Annotated[
        int, typer.Option(min=0, help="Steps at most; 0: 400 of a head, else 120.")
    ] = 0,
    batch_texts: Annotated[
        int, typer.Option(min=2, help="Texts a step; its time goes by them.")
    ] = 192,
    seed: Annotated[int, typer.Option(min=0, help="Of draws and first weights.")] = 0,
    out: Annotated[
        Path,
        typer.Option(
            help="Folder of the tuned backbone; made if absent, replaced if an older one."
        ),
    ] = Path("build/backbone"),
    tenant: Tenant = DEFAULT_TENANT,
) -> None:
    """Tune the text model on the stored events and items; say what it gained.

    Objectives: contrastive, what a user had comes nearer what the user has
    next; classification, text to the item's first category; regression, text
    to the item's mean rating, or mean log quantity where nothing is rated;
    mlm (encoders) and causal (decoders), the language of the items' texts.

    Held out are the last periods (contrastive; and retrieval, shown whenever
    the backbone moves) or a fifth of the texts. Another part decides when to
    stop and which weights are kept. Printed: each figure before and after,
    and whether its change is proven, by a bootstrap over users or texts.

    FOLDER then holds whole weights, heads and tuning.json (figures, curves,
    cost, hashes). MiniLM takes about 3 s a step on one core.

    To use it: DRIFTLINE_BACKBONE=FOLDER driftline train. Its vectors are a
    space of their own. To evaluate with it, tune with --until the first
    origin: a backbone that saw the test block is refused.
    """
    from services.pipeline.preprocess import preprocess
    from services.pipeline.stores import open_stores
    from services.training.tuning.command import run_tune
    from services.training.tuning.result import COLUMNS, result_lines, result_rows

    settings = load_settings()
    with StageBars(console) as bars:
        tables = open_stores(settings).tables
        preprocess(tables, settings, tenant=tenant)
        result = run_tune(
            tables,
            settings,
            TuneConfig(
                mode=mode,
                objective=objective,
                steps=steps,
                seed=seed,
                batch_texts=batch_texts,
                held_out_periods=hold_out,
            ),
            until=parse_date(until) or settings.clock(),
            out=out,
            backbone=backbone,
            granularity=granularity,
            tenant=tenant,
            on_progress=bars.report,
        )
    table = Table(*COLUMNS, title=f"objective {objective}, method {mode}", box=SIMPLE)
    for row in result_rows(result):
        table.add_row(*row)
    console.print(table)
    for line in result_lines(result):
        console.print(line, highlight=False)
