"""`driftline`: the commands of an operator and of a data scientist."""

from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.table import Table

from services.core.errors import CoreError, InvalidArgument
from services.core.schema import DEFAULT_TENANT, Granularity
from services.runtime.settings import load_settings
from services.terminal import StageBars, wait_for_stop
from services.training.tuning.config import Mode, Objective, TuneConfig

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Long-term user interest as a service: import events, train, refresh, serve.\n\n"
    "Settings are DRIFTLINE_* variables (see services/runtime/settings.py). The usual order on a new store: "
    "import, train, up.",
)
console = Console()

Files = Annotated[list[Path], typer.Argument(help="CSV, JSONL or Parquet files of events.")]
Out = Annotated[Path, typer.Option(help="Folder for the report; made if absent.")]


def main() -> None:
    """Run the command line; an expected failure is one line, not a traceback."""
    try:
        app()
    except CoreError as error:
        Console(stderr=True).print(f"[red]error:[/] {error.message}", highlight=False)
        raise SystemExit(1) from None


@app.command("import")
def import_(
    files: Files, kind: Annotated[str, typer.Option(help="Kind of events that name none.")] = ""
) -> None:
    """Take files of events (and the items they name) into the inbox.

    Columns are recognised by their usual names: user_id/user, item_id/item, event_time/ts/timestamp, kind/event,
    value/rating/quantity, text/title, categories. Rows that cannot be used go to the rejects with file, line and
    reason; importing a file again changes nothing. Run `driftline refresh` afterwards.
    """
    from services.pipeline.importer import import_files

    with StageBars(console) as bars:
        summary = import_files(files, load_settings(), kind=kind or None, on_progress=bars.report)
    print_figures("imported", summary)
    if summary.failed_files:
        raise SystemExit(1)


@app.command()
def refresh(
    follow: Annotated[bool, typer.Option(help="Keep going until Ctrl-C.")] = False,
    full: Annotated[bool, typer.Option(help="Make every vector again.")] = False,
) -> None:
    """Take all that came in to served features: clean, encode, forecast, publish.

    Incremental and idempotent; needs a live model (`driftline train`) and a running encoder and forecaster
    (`driftline up`, or k8s).
    """
    from services.pipeline.compute import open_compute
    from services.pipeline.follow import Follower
    from services.pipeline.refresh import refresh as run_refresh
    from services.pipeline.stores import open_stores

    settings = load_settings()
    with open_compute(settings, DEFAULT_TENANT) as compute:
        stores = open_stores(settings)
        if not follow:
            with StageBars(console) as bars:
                summary = run_refresh(
                    stores, compute, settings, is_full=full, on_progress=bars.report
                )
            print_figures("refreshed", summary)
            return
        follower = Follower(stores=stores, compute=compute, settings=settings)
        follower.start()
        wait_for_stop(console, "following the inbox; Ctrl-C stops")
        follower.stop()


@app.command()
def status() -> None:
    """Show what is stored, what waits, what was rejected and why, and which model is live."""
    from services.pipeline.status import status as read_status
    from services.pipeline.stores import open_stores

    settings = load_settings()
    print_figures("status", read_status(settings))
    for model in open_stores(settings).models.list(DEFAULT_TENANT):
        console.print(f"model {model.model_version} in space {model.space_id}: {model.stage}")


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
) -> None:
    """Train item tower, ranker and forecaster on the stored events, and add the model to the registry.

    Killed at any moment, the same command goes on where it stood.
    """
    from services.pipeline.preprocess import preprocess
    from services.pipeline.stores import open_stores
    from services.training.command import TrainRequest, parse_until, train_from_store
    from services.training.workers import ComputeConfig, check_compute

    settings = load_settings()
    compute = ComputeConfig(workers=workers, gpu=gpu)
    check_compute(compute)
    request = TrainRequest(
        until=parse_until(until or None, settings),
        promote=promote,
        fresh=fresh,
        base=base,
        from_live=from_live,
        compute=compute,
    )
    with StageBars(console) as bars:
        # What was imported may still lie in the inbox: the first training comes before any refresh.
        preprocess(open_stores(settings).tables, settings)
        info = train_from_store(settings, request, on_progress=bars.report)
    console.print(f"model [bold]{info.model_version}[/] in space {info.space_id}: {info.stage}")


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
    from services.training.command import parse_until
    from services.training.tuning.command import run_tune
    from services.training.tuning.result import COLUMNS, result_lines, result_rows

    settings = load_settings()
    with StageBars(console) as bars:
        tables = open_stores(settings).tables
        preprocess(tables, settings)
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
            until=parse_until(until or None, settings),
            out=out,
            backbone=backbone,
            granularity=granularity,
            on_progress=bars.report,
        )
    table = Table(*COLUMNS, title=f"objective {objective}, method {mode}", box=SIMPLE)
    for row in result_rows(result):
        table.add_row(*row)
    console.print(table)
    for line in result_lines(result):
        console.print(line, highlight=False)


@app.command()
def evaluate(
    events: Annotated[
        Path | None, typer.Argument(help="Parquet with user_id,item_id,event_time,kind,text.")
    ] = None,
    complete_journey: Annotated[
        bool, typer.Option(help="Use the demo's data instead of a file.")
    ] = False,
    granularity: Annotated[
        Granularity, typer.Option(help="Length of a period.")
    ] = Granularity.WEEK,
    origins: Annotated[int, typer.Option(min=1, help="Last full periods to predict.")] = 8,
    horizons: Annotated[str, typer.Option(help="Periods ahead, comma-separated.")] = "1,4",
    every: Annotated[
        int, typer.Option(min=1, help="Periods between origins; 3 with months makes quarters.")
    ] = 1,
    until: Annotated[
        str, typer.Option(help="Use events before this date (YYYY-MM-DD). Default: all.")
    ] = "",
    users: Annotated[int, typer.Option(min=1, help="Users asked at an origin, at most.")] = 5000,
    leave_one_out: Annotated[
        bool, typer.Option(help="Leave-one-out too, of a second model. It leaks.")
    ] = False,
    seeds: Annotated[
        int, typer.Option(min=1, help="Models of ours, each trained with another seed.")
    ] = 1,
    ablate: Annotated[
        bool,
        typer.Option(
            help="A model of ours without the interest vector too, and forecasts of frozen vectors."
        ),
    ] = False,
    peers: Annotated[
        bool, typer.Option(help="RecTools and implicit too; they live in .venv-peers.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of samples and intervals.")] = 0,
    out: Out = Path("build/eval"),
) -> None:
    """Train before the first origin, rank all items at each origin, and compare with every baseline."""
    from services.evaluation.command import run_evaluate
    from services.evaluation.peers import peer_venv
    from services.store.backbone import load_backbone
    from services.training.evaluated import EvaluatedTrainer, FrozenTrainer, variants

    if (events is None) != complete_journey:
        raise typer.BadParameter("name a file of events, or --complete-journey")
    process = peer_venv() if peers else None
    if events is None:
        from services.pipeline.complete_journey import complete_journey_events

        source: Any = complete_journey_events()
    else:
        source = events
    with StageBars(console) as bars:
        report = run_evaluate(
            source,
            granularity=granularity,
            origins=origins,
            horizons=parse_horizons(horizons),
            every=every,
            until=parse_date(until),
            user_limit=users,
            leave_one_out=leave_one_out,
            peers=process,
            seed=seed,
            out=out,
            backbone=load_backbone(load_settings().backbone),
            trainer=EvaluatedTrainer(),
            variants=variants(seeds=seeds, is_ablated=ablate),
            frozen=FrozenTrainer(seed=seed) if ablate else None,
            on_progress=bars.report,
        ).report
    if leave_one_out:
        console.print(f"[yellow]warning:[/] {report['leave_one_out']['warning']}")
    console.print(f"report: {out / 'report.html'}")


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
    """Return the start of a day in UTC; nothing said is None.

    Raises:
        InvalidArgument: not a date.
    """
    if not said:
        return None
    try:
        return datetime.combine(date.fromisoformat(said), datetime.min.time(), UTC)
    except ValueError:
        raise InvalidArgument(
            "until", f"{said!r} is not a date; write it like 2017-12-18"
        ) from None


@app.command()
def erase(user_id: str) -> None:
    """Erase a user: hidden at once, removed from every table, view and index by the next refresh."""
    from services.pipeline.erasure import request_erasure

    erasure_id = request_erasure(load_settings(), DEFAULT_TENANT, user_id)
    console.print(f"erasure {erasure_id} is recorded; `driftline refresh` carries it out")


@app.command()
def up() -> None:
    """Start encoder, forecaster, gateway and the follower on this machine; Ctrl-C stops them all."""
    from services.local import local_stack
    from services.pipeline.compute import open_compute
    from services.pipeline.follow import Follower
    from services.pipeline.stores import open_stores

    settings = load_settings()
    open_stores(settings).models.live(
        DEFAULT_TENANT
    )  # fails with what to do before anything starts
    with console.status("starting Ray Serve and the gateway (about a minute)"):
        stack = local_stack(settings, settings.data_dir / "logs")
        running = stack.__enter__()
    try:
        with open_compute(running.settings, DEFAULT_TENANT) as compute:
            follower = Follower(
                stores=open_stores(running.settings), compute=compute, settings=running.settings
            )
            follower.start()
            console.print(
                f"gateway on [bold]{running.gateway.target}[/], metrics on {running.gateway.metrics_url}"
            )
            wait_for_stop(console, "Ctrl-C stops")
            follower.stop()
    finally:
        with console.status("stopping"):
            stack.__exit__(None, None, None)


@app.command()
def demo(
    out: Out = Path("build/demo"),
    keep: Annotated[
        bool, typer.Option(help="Leave the services up and say how to call them.")
    ] = False,
) -> None:
    """A year of real purchases through the whole path, ending in build/demo/report.html."""
    from services.demo.run import run_demo

    run_demo(out, keep=keep, console=console)


def print_figures(title: str, figures: object) -> None:
    """Print a dataclass as a table, nested ones flattened."""
    table = Table(title=title, show_header=False)
    for name, value in flatten(figures):
        table.add_row(name, value)
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


if __name__ == "__main__":
    main()
