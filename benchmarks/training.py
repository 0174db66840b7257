"""A step of Doppel's trainer, against TRL's SFTTrainer as it comes: python -m benchmarks.training"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.command import main, say
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.process import in_fresh_process
from benchmarks.steps import Material, Whose, gather_material, take_steps
from benchmarks.workspace import import_into, public_name, settings_for
from doppel.errors import BadInputError

PREPARE_SECONDS = 600.0
STEP_SECONDS = 120.0
"""Longest that a step may take, and that all before the first may."""

DOES_NOT_SHOW = (
    "how good an adapter becomes: a handful of steps from the start, thrown away with their process.",
    "evaluation, checkpoints and loading the model, which `doppel train` pays too.",
    "TRL's own batches: all get the same ones, grouped by length as Doppel makes them.",
    "longer texts, larger models or packing, where the output head weighs less.",
)


@dataclass(frozen=True, slots=True)
class Steps:
    """Segments of training, all of the same steps."""

    work: Path
    material: Material
    count: int
    _tokens: list[list[int]] = field(default_factory=list)

    def measure(self, whose: Whose) -> Samples:
        """One segment in a process of its own. Raises MeasurementError where it had other tokens than the first."""
        limit = STEP_SECONDS * (self.count + 1)
        segment = in_fresh_process(limit, take_steps, self.work, self.material, whose, self.count)
        self._tokens.append(segment.tokens)
        if segment.tokens != self._tokens[0]:
            raise MeasurementError(f"The steps of {whose} held {segment.tokens} tokens, not {self._tokens[0]}.")
        return {
            "tokens/s": [tokens / seconds for tokens, seconds in zip(segment.tokens, segment.seconds, strict=True)],
            "s/step": segment.seconds,
            "peak GB of the process": [segment.peak_bytes / 1e9],
        }


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark alone."""
    parser.add_argument("--user", help="whose messages (default: whoever wrote most)")
    parser.add_argument("--steps", type=int, default=5, help="steps of a measurement; the first is not counted")


def prepare(given: Namespace, work: Path) -> Benchmark:
    """The base model and one person's examples, on disk."""
    if given.steps < 2:
        raise BadInputError("--steps must be 2 or more: the first step is not counted.")
    settings = settings_for(work)
    import_into(settings.archive_path, given.export)
    say("Making ready the base model and the examples.")
    material = in_fresh_process(PREPARE_SECONDS, gather_material, work, given.user)
    steps = Steps(work, material, given.steps)
    return Benchmark(
        name="training",
        title="A step of fine-tuning an adapter",
        contenders=tuple(Contender(str(whose), partial(steps.measure, whose)) for whose in Whose),
        workload={
            "export": given.export.name,
            "model": public_name(material.base),
            "examples": material.examples,
            "mean_tokens_of_an_example": round(material.mean_tokens),
            "batch": min(settings.train_batch_size, material.examples),
            "rank": settings.lora_rank,
            "steps_counted_of_a_measurement": given.steps - 1,
            "process": "a fresh one for each measurement",
        },
        libraries=("torch", "transformers", "trl", "peft", "accelerate"),
        does_not_show=DOES_NOT_SHOW,
    )


if __name__ == "__main__":
    main("training", prepare, rounds=3, warmup=0, options=options)
