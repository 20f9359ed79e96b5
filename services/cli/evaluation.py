"""What models are worth."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.box import SIMPLE
from rich.table import Table

from services.cli.app import Out, PeriodLength, app, console, parse_date, parse_horizons
from services.core.schema import Granularity
from services.runtime.settings import load_settings
from services.terminal import StageBars

OfDemo = Annotated[bool, typer.Option(help="Use the demo's data instead of a file.")]


@app.command()
def evaluate(
    events: Annotated[
        Path | None, typer.Argument(help="Parquet with user_id,item_id,event_time,kind,text.")
    ] = None,
    complete_journey: OfDemo = False,
    granularity: PeriodLength = Granularity.WEEK,
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

    source = _source(events, is_demo=complete_journey)
    process = peer_venv() if peers else None
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


@app.command("evaluate bursts")
def evaluate_bursts(
    events: Annotated[
        Path | None, typer.Argument(help="Parquet with user_id,item_id,event_time,text,categories.")
    ] = None,
    complete_journey: OfDemo = False,
    granularity: PeriodLength = Granularity.WEEK,
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder whose item space and forecaster are used; else texts' own."
        ),
    ] = None,
    least_events: Annotated[
        int, typer.Option(min=1, help="Median events of an active period that a user needs.")
    ] = 10,
    users: Annotated[int, typer.Option(min=50, help="Users at most, sampled.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, help="Of bursts, samples, intervals.")] = 0,
    out: Out = Path("build/eval-bursts"),
) -> None:
    """Plant bursts of interest into real trajectories and look for them.

    Bursts differ in size, length, onset and type (personal, population-wide, seasonal, automated); a third of the
    users stay as they are. 40% of the users choose each method's constants, at most 0.1 alarms a user-year as they
    are (rivals 0.15); figures are of the others: ours, a z-score on category shares, ruptures where it is there.
    report.json has F1, false alarms, delay, type macro-F1 with intervals, and forecasts' likelihood inside and
    outside bursts.
    """
    from services.evaluation.burst_command import run_burst_benchmark
    from services.store.backbone import load_backbone
    from services.training.bursts import fit_burst_detection

    source = _source(events, is_demo=complete_journey)
    with StageBars(console) as bars:
        run_burst_benchmark(
            source,
            load_backbone(load_settings().backbone),
            fit_burst_detection,
            granularity=granularity,
            model=model,
            out=out,
            least_events=least_events,
            user_limit=users,
            seed=seed,
            on_progress=bars.report,
        )
    console.print(f"report: {out / 'report.html'}")


@app.command("evaluate portraits")
def evaluate_portraits(
    events: Annotated[
        Path | None, typer.Argument(help="Parquet with user_id,item_id,event_time,text.")
    ] = None,
    complete_journey: OfDemo = False,
    weeks: Annotated[
        int, typer.Option(min=4, help="Stretch to halve; its end is the data's.")
    ] = 52,
    until: Annotated[str, typer.Option(help="Use events before this date (YYYY-MM-DD).")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of topics and intervals.")] = 0,
    out: Out = Path("build/eval-portraits"),
) -> None:
    """Judge portraits: how well half a year of a user predicts the topics of the next half."""
    from services.evaluation.portraits import run_portraits
    from services.store.backbone import load_backbone

    source = _source(events, is_demo=complete_journey)
    with StageBars(console) as bars:
        report = run_portraits(
            source,
            encoder=load_backbone(load_settings().backbone),
            out=out,
            weeks=weeks,
            until=parse_date(until),
            seed=seed,
            on_progress=bars.report,
        )
    for kind, made in report["portraits"].items():
        title = f"shares of {made['labels']} {kind}, {made['users']} users"
        table = Table("method", "rank correlation", "error", title=title, box=SIMPLE)
        for name, figures in made["methods"].items():
            said = (
                "{:.3f} [{:.3f}, {:.3f}]".format(figures[f], *figures[f"{f}_ci"])
                for f in ("rank_correlation", "error")
            )
            table.add_row(name, *said)
        console.print(table)
    console.print(f"report: {out / 'portraits.json'}")


@app.command("evaluate demand")
def evaluate_demand(
    events: Annotated[
        Path | None, typer.Argument(help="Parquet with user_id,item_id,event_time,text.")
    ] = None,
    complete_journey: OfDemo = False,
    granularity: PeriodLength = Granularity.WEEK,
    origins: Annotated[int, typer.Option(min=2, help="Last full periods to foretell.")] = 12,
    horizons: Annotated[str, typer.Option(help="Periods ahead, comma-separated.")] = "1,4",
    until: Annotated[str, typer.Option(help="Use events before this date (YYYY-MM-DD).")] = "",
    seed: Annotated[int, typer.Option(min=0, help="Of topics, noise and intervals.")] = 0,
    out: Out = Path("build/eval-demand"),
) -> None:
    """Judge the forecasts of demand for topics, beside the last period and the seasonal naive.

    Terms (partition, epsilon, event cap) are those of the settings.
    """
    from services.evaluation.demand import DemandProtocol, run_demand
    from services.store.backbone import load_backbone

    source = _source(events, is_demo=complete_journey)
    settings = load_settings()
    protocol = DemandProtocol(
        terms=replace(settings.release_terms(), granularity=granularity),
        horizons=parse_horizons(horizons),
        origins=origins,
        seed=seed,
    )
    with StageBars(console) as bars:
        report = run_demand(
            source,
            encoder=load_backbone(settings.backbone),
            protocol=protocol,
            out=out,
            until=parse_date(until),
            on_progress=bars.report,
        )
    for horizon, figures in report["demand"].items():
        title = f"{horizon[1:]} ahead, {report['dataset']['topics']} topics"
        table = Table("figure", "method", "MAE", "ours less", "80%", "95%", title=title, box=SIMPLE)
        for figure, rows in figures.items():
            for name, row in rows.items():
                table.add_row(figure, name, *_demand_row(row))
        console.print(table)
    for said in report["losses"]:
        console.print(f"[yellow]loss:[/] {said}")
    console.print(f"report: {out / 'report.html'}")


def _demand_row(row: dict[str, Any]) -> list[str]:
    low, high = row["mae_ci"]
    said = [f"{row['mae']:.4g} [{low:.4g}, {high:.4g}]"]
    if "driftline_difference" in row:
        low, high = row["driftline_difference_ci"]
        return [*said, f"{row['driftline_difference']:+.3g} [{low:+.3g}, {high:+.3g}]", "", ""]
    held = (f"{row[f'coverage_{n}']:.3f} ({row[f'coverage_{n}_published']:.3f})" for n in (80, 95))
    return [*said, "", *held]


def _source(events: Path | None, *, is_demo: bool) -> Any:
    """Return the file that was named, or the demo's events; one of the two must be asked for."""
    if (events is None) != is_demo:
        raise typer.BadParameter("name a file of events, or --complete-journey")
    if events is not None:
        return events
    from services.pipeline.complete_journey import complete_journey_events

    return complete_journey_events()
