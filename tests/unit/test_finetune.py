"""What fine-tuning does beside calling TRL: the order of batches, and the loss that is told."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, get_cosine_schedule_with_warmup

from doppel.config import Settings
from doppel.errors import TrainingError
from doppel.models.base_model import ChatTokenizer
from tests.fakes import base_tokenizers
from training import finetune as finetuning
from training.examples import EncodedExample
from training.finetune import LATELY, Device, FineTuned, Progress, _Batches, _Pulse, finetune
from training.pace import Pace, TimeLimits
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
    pulse = _Pulse(lambda step, steps, loss, left: told.append((step, steps, loss)), Pace())
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


EXAMPLES = [EncodedExample(tuple(range(5, 5 + 8 + i % 3)), (7, 8, 9 + i % 4)) for i in range(32)]
STEP = 3.0
"""Seconds of a step, by the clock here."""


class Clock:
    """A clock that goes on with the steps alone."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def tuned(
    tmp_path: Path, tokenizer: ChatTokenizer, clock: Clock, limits: TimeLimits, progress: Progress, **options: object
) -> FineTuned:
    """A tiny model that learns from EXAMPLES: eight steps at most."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 512, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(**sizes, num_attention_heads=2, num_key_value_heads=2))
    settings = Settings(data_dir=tmp_path, train_epochs=1, device="cpu", lora_options=dict(options))

    def watch(*told: object) -> None:
        clock.now += STEP
        progress(*told)  # type: ignore[arg-type]

    device = Device("cpu", torch.float32)
    work = tmp_path / "work"
    return finetune(model, EXAMPLES, EXAMPLES[:8], settings, device, tokenizer.hf, work, watch, limits)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    return ChatTokenizer(str(base_tokenizers.byte_level(tmp_path_factory.mktemp("tokenizer"))))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(finetuning, "Pace", lambda limits: Pace(limits, clock))
    return clock


def rates(found: FineTuned) -> list[float]:
    return [entry["learning_rate"] for entry in found.log if "learning_rate" in entry]


def test_a_training_ends_when_its_time_is_over_evaluated_and_with_its_rate_brought_down(
    tmp_path: Path, tokenizer: ChatTokenizer, clock: Clock
) -> None:
    told: list[tuple[object, ...]] = []
    found = tuned(tmp_path, tokenizer, clock, TimeLimits(steps=5 * STEP), lambda *now: told.append(now))
    assert found.steps == 5
    assert [entry["step"] for entry in found.log if "eval_loss" in entry] == [4, 5]
    schedule = get_cosine_schedule_with_warmup(torch.optim.SGD([torch.zeros(1)], lr=3e-4), 1, 8).lr_lambdas[0]
    assert rates(found) == pytest.approx([3e-4 * schedule(step) for step in (0, 1, 2, 3.2, 4.8)])
    assert [(step, steps) for step, steps, *_ in told] == [(1, 8), (2, 8), (3, 8), (5, 8), (6, 8)]
    assert [entry["seconds"] for entry in found.log if "loss" in entry] == [STEP * step for step in range(1, 6)]


def test_a_training_with_time_to_spare_is_as_one_without_a_limit(
    tmp_path: Path, tokenizer: ChatTokenizer, clock: Clock
) -> None:
    free, spare = (
        tuned(tmp_path / str(limit), tokenizer, Clock(), limit, lambda *_: None)
        for limit in (TimeLimits(), TimeLimits(steps=1000))
    )
    assert free.steps == spare.steps == 8
    assert rates(free) == pytest.approx(rates(spare))
    losses = [[entry["loss"] for entry in found.log if "loss" in entry] for found in (free, spare)]
    assert losses[0] == pytest.approx(losses[1])


def test_the_time_that_an_interrupted_training_took_counts_when_it_goes_on(
    tmp_path: Path, tokenizer: ChatTokenizer, clock: Clock
) -> None:
    def interrupt(step: int, *_: object) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tuned(tmp_path, tokenizer, clock, TimeLimits(steps=6 * STEP), interrupt)
    clock.now += 1000
    found = tuned(tmp_path, tokenizer, clock, TimeLimits(steps=6 * STEP), lambda *_: None)
    assert (found.resumed_from_step, found.steps) == (4, 6)
    assert [entry["seconds"] for entry in found.log if "loss" in entry] == [STEP * step for step in range(1, 7)]


def test_what_vllm_could_not_load_is_refused_before_the_first_step(
    tmp_path: Path, tokenizer: ChatTokenizer, clock: Clock
) -> None:
    with pytest.raises(TrainingError):
        tuned(
            tmp_path,
            tokenizer,
            clock,
            TimeLimits(),
            lambda *_: pytest.fail("a step was taken"),
            trainable_token_indices=[1, 2],
        )
