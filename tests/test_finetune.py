"""What fine-tuning does beside calling TRL: the order of batches, and the loss that is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import torch

from training.finetune import LATELY, _Batches, _Pulse
from training.plot import save_loss_plot

BATCH = 4


def batches(lengths: list[int], seed: int = 0) -> list[list[int]]:
    order = list(_Batches(BATCH, lengths=lengths, generator=torch.Generator().manual_seed(seed)))
    return [order[i : i + BATCH] for i in range(0, len(order), BATCH)]


def test_every_example_comes_once_and_a_batch_that_is_not_full_comes_last() -> None:
    found = batches(list(range(403)))
    assert sorted(i for batch in found for i in batch) == list(range(403))
    assert [len(batch) for batch in found] == [BATCH] * 100 + [3]
    assert batches([5, 6]) in ([[0, 1]], [[1, 0]])


def test_a_batch_is_of_like_length_but_those_that_follow_one_another_are_not() -> None:
    long, short = 300, 100
    lengths = [long if i % 2 else short for i in range(400)]
    found = [{lengths[i] for i in batch} for batch in batches(lengths)]
    assert sum(len(kinds) == 1 for kinds in found) >= 95
    changes = sum(a != b for a, b in pairwise(found))
    assert changes >= 30
    assert batches(lengths) == batches(lengths) != batches(lengths, seed=1)


def test_the_loss_that_is_told_is_the_mean_of_the_last_steps() -> None:
    told: list[tuple[int, int, float | None]] = []
    pulse = _Pulse(lambda step, steps, loss: told.append((step, steps, loss)))
    for step in range(1, LATELY + 3):
        pulse.on_step_end(None, SimpleNamespace(global_step=step, max_steps=99), SimpleNamespace())
        pulse.on_log(None, None, None, {"loss": float(step)})
        pulse.on_log(None, None, None, {"eval_loss": 1000.0})
    assert told[:3] == [(1, 99, None), (2, 99, 1.0), (3, 99, 1.5)]
    assert told[-1] == (LATELY + 2, 99, sum(range(2, LATELY + 2)) / LATELY)


def test_the_plot_is_a_picture_of_any_log(tmp_path: Path) -> None:
    log = [{"step": 1.0, "loss": 4.0}, {"step": 2.0, "loss": 0.1}, {"step": 2.0, "eval_loss": 3.0}]
    for entries in (log, log[:1], []):
        save_loss_plot(entries, "Ines", tmp_path / "loss.png", LATELY)
        assert (tmp_path / "loss.png").read_bytes().startswith(b"\x89PNG")
