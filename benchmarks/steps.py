"""A few steps of one trainer, timed one by one. Runs in a process of its own.

Reaches into `training.finetune` for the parts of which `finetune` makes a whole training with its evaluations.
"""

from __future__ import annotations

import json
import resource
import time
from collections import Counter
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.frame import MeasurementError
from benchmarks.workspace import settings_for
from doppel.archive.archive import Archive
from doppel.config import Settings
from doppel.errors import BadInputError
from doppel.ingest import open_archive
from doppel.records import User

SAME_WORK = (
    "use_cpu",
    "bf16",
    "fp16",
    "per_device_train_batch_size",
    "max_steps",
    "learning_rate",
    "dataset_kwargs",
    "train_sampling_strategy",
    "seed",
    "data_seed",
    "disable_tqdm",
    "report_to",
    "dataloader_pin_memory",
)
"""The options of TRL that all share: device, precision, data, order, and silence."""


class Whose(StrEnum):
    """Doppel's trainer, TRL's with its own defaults, or TRL's with Doppel's options (gradient checkpointing)."""

    DOPPEL = "doppel"
    TRL = "trl, as it comes"
    TRL_AS_DOPPEL = "trl, doppel's options"


@dataclass(frozen=True, slots=True)
class Material:
    """What all are trained on: the base model's folder or name, a file of examples, and their number and length."""

    base: str
    examples_file: Path
    examples: int
    mean_tokens: float


@dataclass(frozen=True, slots=True)
class Segment:
    """What some steps took, the first left out: seconds and tokens (without padding) of each, and peak memory."""

    seconds: list[float]
    tokens: list[int]
    peak_bytes: int


def gather_material(work: Path, user: str | None) -> Material:
    """Unpack the base model, and write one person's training examples to a file."""
    from doppel.models.base_model import ChatTokenizer, base_model_path
    from training.train import gather

    settings = settings_for(work)
    base = base_model_path(settings)
    with open_archive(settings.archive_path) as archive:
        person = archive.find_user(user) if user else _busiest(archive)
        found = gather(person, archive, settings, ChatTokenizer(base)).train
    path = work / "examples.json"
    path.write_text(json.dumps([asdict(example) for example in found]), encoding="utf-8")
    tokens = sum(len(example.prompt_ids) + len(example.completion_ids) for example in found)
    return Material(base, path, len(found), tokens / len(found))


def take_steps(work: Path, material: Material, whose: Whose, steps: int) -> Segment:
    """Train for some steps from the start. Raises MeasurementError where they were not as many."""
    from peft.helpers import disable_input_dtype_casting

    settings = settings_for(work).model_copy(update={"train_max_steps": steps})
    trainer = _trainer(settings, material, whose, work / "trainer")
    ends: list[float] = []
    tokens: list[int] = []
    _watch(trainer, ends, tokens)
    with disable_input_dtype_casting(trainer.model) if whose is Whose.DOPPEL else nullcontext():
        trainer.train()
    if not len(ends) == len(tokens) == steps:
        raise MeasurementError(f"{len(tokens)} steps began and {len(ends)} ended instead of {steps}.")
    seconds = [after - before for before, after in pairwise(ends)]
    return Segment(seconds, tokens[1:], resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


def _busiest(archive: Archive) -> User:
    people = {user.id: user for user in archive.users() if not user.is_bot}
    said = Counter(message.user for message in archive.messages() if message.user in people)
    if not said:
        raise BadInputError("Nobody wrote anything in this export; give another with --export.")
    return people[str(said.most_common(1)[0][0])]


def _trainer(settings: Settings, material: Material, whose: Whose, folder: Path) -> Any:
    from transformers import PrinterCallback, ProgressCallback
    from trl import SFTTrainer

    from doppel.models.base_model import ChatTokenizer
    from training.examples import EncodedExample
    from training.finetune import ByLength, _CompletionTrainer, _dataset, choose_device, load_base, lora_config

    class Peer(ByLength, SFTTrainer):  # type: ignore[misc]
        """TRL's trainer with the same batches."""

    examples = [EncodedExample(**example) for example in json.loads(material.examples_file.read_text(encoding="utf-8"))]
    trainer = (_CompletionTrainer if whose is Whose.DOPPEL else Peer)(
        model=load_base(material.base, choose_device(settings)),
        args=_options(settings, whose, len(examples), folder),
        train_dataset=_dataset(examples),
        processing_class=ChatTokenizer(material.base).hf,
        peft_config=lora_config(settings),
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    return trainer


def _options(settings: Settings, whose: Whose, examples: int, folder: Path) -> Any:
    """Doppel's options without evaluation and checkpoints; or TRL's own, with the same work to do."""
    from trl import SFTConfig

    from training.finetune import _arguments, choose_device

    doppels = _arguments(settings, choose_device(settings), examples, folder)
    if whose is Whose.TRL:
        same = {name: getattr(doppels, name) for name in SAME_WORK}
        return SFTConfig(output_dir=str(folder), save_strategy="no", **same)
    doppels.eval_strategy = doppels.save_strategy = "no"
    doppels.load_best_model_at_end = False
    return doppels


def _watch(trainer: Any, ends: list[float], tokens: list[int]) -> None:
    """Note the tokens that each step begins with, and when it ends."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            ends.append(time.perf_counter())

    step = trainer.training_step

    def counted(model: Any, inputs: Any, *rest: Any, **named: Any) -> Any:
        tokens.append(int(inputs["attention_mask"].sum()))
        return step(model, inputs, *rest, **named)

    trainer.training_step = counted
    trainer.add_callback(Clock())
