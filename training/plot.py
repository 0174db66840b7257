"""The loss plot of a training run; sole owner of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from matplotlib.figure import Figure


def save_loss_plot(log: Sequence[dict[str, Any]], title: str, path: Path, window: int) -> None:
    """Draw the training and the held-out loss (nats per completion token) over the steps as a PNG.

    Of the training each step is a dot, and a line the mean of the last `window` steps.
    """
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    steps, losses = _points(log, "loss")
    means = [fmean(losses[max(0, i + 1 - window) : i + 1]) for i in range(len(losses))]
    axes.plot(steps, losses, ".", color="C0", alpha=0.3)
    axes.plot(steps, means, "-", color="C0", label=f"training, mean of {window} steps")
    axes.plot(*_points(log, "eval_loss"), "o-", color="C1", label="held out")
    axes.set(title=title, xlabel="step", ylabel="nats per completion token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)


def _points(log: Sequence[dict[str, Any]], key: str) -> tuple[list[float], list[float]]:
    found = [(entry["step"], entry[key]) for entry in log if key in entry]
    return [step for step, _ in found], [value for _, value in found]
