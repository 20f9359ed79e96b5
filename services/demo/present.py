"""One user on the terminal, as the SDK answered."""

from collections.abc import Iterable, Sequence

from driftline import Forecast, Interest, Profile, RankedItems, Trajectory, cosine, norm
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

TICKS = "▁▂▃▄▅▆▇█"
BAR_WIDTH = 24


def print_user(
    console: Console,
    *,
    interest: Interest,
    trajectory: Trajectory,
    forecast: Forecast,
    recommendations: RankedItems,
    profile: Profile,
    bought_next: Iterable[str] = (),
) -> None:
    """Print where a user's interest is, was and goes, what to show them, and their portrait.

    Args:
        console: where to.
        interest: their newest vector.
        trajectory: their weeks.
        forecast: weeks ahead.
        recommendations: best first.
        profile: their portrait.
        bought_next: ids of items they really took next, to mark hits; none marks nothing.
    """
    console.rule(f"[bold]user {interest.user_id}[/]", align="left")
    _print_interest(console, interest)
    _print_trajectory(console, trajectory)
    _print_forecast(console, interest, forecast)
    _print_recommendations(console, recommendations, set(bought_next))
    _print_profile(console, profile)


def sparkline(values: Sequence[float]) -> str:
    """Return one tick per value, from the least to the greatest; all alike are all middling."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if high - low < 1e-12:
        return TICKS[3] * len(values)
    return "".join(TICKS[round((v - low) / (high - low) * (len(TICKS) - 1))] for v in values)


def _print_interest(console: Console, interest: Interest) -> None:
    basis = interest.basis
    stale = "  [yellow]stale[/]" if basis.is_stale else ""
    console.print(
        f"interest   {interest.period}: {interest.event_count} events, {len(interest.vector)} "
        f"numbers in space {interest.vector.space_id}, model {basis.model_version}{stale}",
        highlight=False,
    )


def _print_trajectory(console: Console, trajectory: Trajectory) -> None:
    if not len(trajectory):
        return
    newest = trajectory.interests[-1].vector
    likeness = [cosine(one.vector, newest) for one in trajectory]
    counts = [float(one.event_count) for one in trajectory]
    first, last = trajectory.periods[0], trajectory.periods[-1]
    _print_text(console, f"weeks      {first} … {last}, {len(trajectory)} with events")
    _print_text(console, f"  events   {sparkline(counts)}  {min(counts):.0f} to {max(counts):.0f}")
    _print_text(
        console,
        f"  likeness {sparkline(likeness)}  cosine to {last}: "
        f"{min(likeness):.2f} to {max(likeness):.2f}",
    )


def _print_forecast(console: Console, interest: Interest, forecast: Forecast) -> None:
    table = _table("forecast by " + forecast.forecaster)
    for name in ("period", "ahead", "cosine to now", "length of mean", "mean scale"):
        table.add_column(name, justify="left" if name == "period" else "right")
    for step in forecast:
        scale = sum(map(float, step.scale)) / max(len(step.scale), 1)
        table.add_row(
            step.period,
            str(step.horizon),
            f"{cosine(step.mean, interest.vector):.3f}",
            f"{norm(step.mean):.3f}",
            f"{scale:.3f}",
        )
    console.print(table)


def _print_recommendations(console: Console, ranked: RankedItems, bought: set[str]) -> None:
    kind = "popular items: nothing is known of this user" if ranked.basis.is_fallback else "for you"
    table = _table(f"recommendations, {kind}")
    for name in ("", "item", "category", "score", "interest", "popularity", "repeat"):
        table.add_column(name, justify="left" if name in ("", "item", "category") else "right")
    for rank, item in enumerate(ranked, start=1):
        parts = item.parts
        numbers = (parts.interest, parts.popularity, parts.repeat) if parts else ()
        hit = item.item_id in bought
        table.add_row(
            f"{rank} ✓" if hit else str(rank),
            Text(item.title or item.item_id),
            Text(item.categories[0] if item.categories else ""),
            f"{item.score:.2f}",
            *(f"{value:.2f}" for value in numbers),
            style="green" if hit else "",
        )
    console.print(table)
    if bought:
        hits = sum(item.item_id in bought for item in ranked)
        _print_text(console, f"  ✓ {hits} of {len(ranked)} were really taken next")


def _print_profile(console: Console, profile: Profile) -> None:
    table = _table(f"portrait, from {profile.event_count:,} events")
    for name, justify in (("interest", "left"), ("", "left"), ("share", "right")):
        table.add_column(name, justify=justify)  # type: ignore[arg-type]
    table.add_column("last 4 weeks", justify="right")
    for one in profile.interests:
        bar = "█" * max(1, round(one.share * BAR_WIDTH))
        table.add_row(Text(one.label), bar, f"{one.share:.0%}", f"{one.recent_share:.0%}")
    console.print(table)
    if profile.is_suspected_bot:
        console.print("  [yellow]acts like a bot or a bulk buyer; its bulk days enter no vector[/]")


def _table(title: str) -> Table:
    return Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)


def _print_text(console: Console, text: str) -> None:
    # Labels of a catalogue may look like markup.
    console.print(Text(text))
