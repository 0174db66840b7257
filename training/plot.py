"""The loss plot of a training run; sole owner of matplotlib."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


def save_loss_plot(log: Sequence[dict[str, Any]], title: str, path: Path) -> None:
    """Draw the training and the held-out loss (nats per completion token) over the steps as a PNG."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    for key, label, style in (("loss", "training", "-"), ("eval_loss", "held out", "o-")):
        points = [(entry["step"], entry[key]) for entry in log if key in entry]
        axes.plot([step for step, _ in points], [loss for _, loss in points], style, label=label)
    axes.set(title=title, xlabel="step", ylabel="nats per completion token")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=120)
