"""`python -m tests.bench.page`: one page of every result in build/bench."""

import html
import json
import math
from pathlib import Path
from typing import Any

from tests.bench.pairs import OUT

_WIDTH, _LEFT, _ROW = 860, 170, 30
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse;width:100%;margin:1rem 0}"
    "td,th{border-bottom:1px solid #ddd;padding:.3rem .5rem;text-align:left;vertical-align:top}"
    "td.n{text-align:right;font-variant-numeric:tabular-nums}.no{color:#a33}.yes{color:#176b3a}"
)


def results(folder: Path) -> list[dict[str, Any]]:
    """Return every result of a folder that has a ratio, by name."""
    found = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    return [one for one in found if isinstance(one.get("ratio"), int | float)]


def render(found: list[dict[str, Any]]) -> str:
    """Return the page."""
    blocks = "".join(_block(one) for one in found)
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>Driftline benchmarks</title>"
        f"<style>{_STYLE}</style><h1>Benchmarks</h1><p>Each dot is one pair of runs: ours to the "
        "peer's, above 1 where ours is better. The bar is the goal.</p>"
        f"{_plot(found)}{blocks}</html>\n"
    )


def _plot(found: list[dict[str, Any]]) -> str:
    if not found:
        return "<p>Nothing was measured yet.</p>"
    values = [v for one in found for v in (*_dots(one), one["ratio"], _goal(one)) if v and v > 0]
    low, high = math.log(min(*values, 1.0) * 0.8), math.log(max(*values, 1.0) * 1.25)

    def x(value: float) -> float:
        return _LEFT + (math.log(value) - low) / (high - low) * (_WIDTH - _LEFT - 90)

    height = _ROW * len(found) + 30
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="ratio of every bench">',
        f'<line x1="{x(1):.1f}" x2="{x(1):.1f}" y1="0" y2="{height - 22}" stroke="#bbb"/>',
        f'<text x="{x(1):.1f}" y="{height - 6}" font-size="12" text-anchor="middle">1x</text>',
    ]
    for row, one in enumerate(found):
        y = row * _ROW + _ROW / 2
        colour = "#a33" if one.get("reached") is False else "#176b3a"
        parts.append(
            f'<text x="0" y="{y + 4:.1f}" font-size="14">{html.escape(one["name"])}</text>'
        )
        if goal := _goal(one):
            parts.append(
                f'<line x1="{x(goal):.1f}" x2="{x(goal):.1f}" y1="{y - 10:.1f}" '
                f'y2="{y + 10:.1f}" stroke="#333" stroke-width="3"/>'
            )
        parts += [
            f'<circle cx="{x(v):.1f}" cy="{y:.1f}" r="4" fill="{colour}" fill-opacity=".45"/>'
            for v in _dots(one)
        ]
        parts.append(
            f'<text x="{_WIDTH - 80}" y="{y + 4:.1f}" font-size="14" fill="{colour}">'
            f"{one['ratio']:.2f}x</text>"
        )
    return "".join([*parts, "</svg>"])


def _dots(one: dict[str, Any]) -> list[float]:
    figure = next(iter(one.get("goal") or {}), "")
    runs, less = one.get("runs"), figure.endswith("_ms") or figure.startswith("cpu_")
    if not runs or not figure or figure not in runs["ours"][0]:
        return [float(one["ratio"])]
    pairs = zip(runs["ours"], runs["peer"], strict=True)
    return [b[figure] / a[figure] if less else a[figure] / b[figure] for a, b in pairs]


def _goal(one: dict[str, Any]) -> float | None:
    goals = one.get("goal")
    return float(next(iter(goals.values()))) if isinstance(goals, dict) and goals else None


def _block(one: dict[str, Any]) -> str:
    rows = ""
    for name, goal in (one.get("goal") or {}).items():
        ratio, ok = one["ratios"][name], one["reached_each"][name]
        rows += (
            f"<tr><td>{html.escape(name)}<td class=n>{one['ours'][name]:.3g}"
            f"<td class=n>{one['peer'][name]:.3g}<td class=n>{ratio['median']:.2f}x"
            f"<td class=n>{ratio['low']:.2f} to {ratio['high']:.2f}<td class=n>{goal:g}x"
            f"<td class={'yes' if ok else 'no'}>{'reached' if ok else 'not reached'}"
        )
    notes = "".join(f"<li>{html.escape(note)}" for note in one.get("notes", ()))
    where = html.escape(json.dumps({k: one.get(k) for k in ("machine", "versions")}))
    return (
        f"<h2>{html.escape(one['name'])}</h2><p>{html.escape(str(one.get('what', '')))}. Peer: "
        f"{html.escape(str(one.get('peer_name', '')))}. {one.get('pairs', '?')} pairs.</p>"
        "<table><tr><th>figure<th>ours<th>peer<th>ratio<th>spread<th>goal<th>"
        f"{rows}</table><ul>{notes}</ul><details><summary>machine, versions</summary>"
        f"<code>{where}</code></details>"
    )


def write_page(folder: Path = OUT) -> Path:
    """Write report.html beside the results."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "report.html"
    path.write_text(render(results(folder)))
    return path


if __name__ == "__main__":
    print(write_page())
