"""A result as people read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.table import Table

from benchmarks.frame import Figure, Result, Spread, short


def table(result: Result) -> Table:
    """Figures by contender; below them what was measured, on what, and what that does not show."""
    shown = Table(title=_title(result), caption=_caption(result), box=box.SIMPLE_HEAD, caption_justify="left")
    for name in ("figure", "contender"):
        shown.add_column(name, no_wrap=True)
    for name in ("median", "min", "max", "n", "first ÷ this (min–max)"):
        shown.add_column(name, justify="right", no_wrap=True)
    for figure in result.figures:
        for place, (contender, spread) in enumerate(figure.contenders.items()):
            shown.add_row("" if place else figure.name, contender, *_cells(spread), _ratio(figure, contender))
        shown.add_section()
    return shown


def _title(result: Result) -> str:
    state = "" if result.complete else f"INCOMPLETE ({result.error}): "
    return f"{state}{result.title}"


def _caption(result: Result) -> str:
    machine, disturbed = result.machine, max((m.others for m in result.measurements), default=0)
    lines = [
        f"rounds: {result.rounds}, warm-up rounds before: {result.warmup_rounds}, {_pairs(result.workload)}",
        f"{machine['processor']}, {machine['memory_gib']} GiB, Python {machine['python']}, {machine['cores']} cores, "
        f"of which others took {disturbed:.0%} at most before a measurement.",
        "What this does not show:",
        *(f"- {sentence}" for sentence in result.does_not_show),
    ]
    return "\n".join(lines)


def _pairs(workload: Mapping[str, Any]) -> str:
    return ", ".join(f"{key.replace('_', ' ')}: {value}" for key, value in workload.items())


def _cells(spread: Spread) -> tuple[str, ...]:
    return short(spread.median), short(spread.min), short(spread.max), str(spread.count)


def _ratio(figure: Figure, contender: str) -> str:
    ratio = figure.ratios.get(contender)
    return f"{short(ratio.median)} ({short(ratio.min)}–{short(ratio.max)})" if ratio else ""
