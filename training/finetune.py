"""LoRA fine-tuning with TRL and PEFT: sole owner of both.

On CPUs a step takes a third of what it takes out of the box (SmolLM2-135M, 8 x 316 tokens): the output head runs only
where an answer stands, and the adapter's inputs are not cast to float32.
"""

from __future__ import annotations

import json
import math
import shutil
import signal
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, get_type_hints

import torch
from datasets import Dataset
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from peft.helpers import disable_input_dtype_casting
from pydantic import PositiveInt, TypeAdapter, ValidationError
from safetensors import safe_open
from torch.nn.functional import cross_entropy
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    EarlyStoppingCallback,
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
)
from transformers.pytorch_utils import Conv1D
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging as transformers_logging
from trl import SFTConfig, SFTTrainer

from doppel.config import Settings
from doppel.errors import ConfigError, DoppelError
from doppel.inference.lora import check_adapter
from doppel.models.device import cpu_dtype
from training.examples import EncodedExample
from training.pace import NO_LIMITS, Pace, TimeLimits

IGNORED = -100
EVALUATIONS_PER_EPOCH = 2
PATIENCE = 2

LATELY = 10
"""Steps whose mean loss is told: a step is of examples of like length, and those with quotes are long and easy."""

Progress = Callable[[int, int, float | None, float | None], None]
"""Called with (step, steps in all, mean training loss of the last LATELY steps, seconds left).

Where the time is limited and that is more, the step is the share of it that is over, in steps. The last two are None
while nothing is known.
"""


@dataclass(frozen=True, slots=True)
class Device:
    """Where training runs: "cpu" or "cuda", and the dtype of the base model's weights there."""

    name: str
    dtype: torch.dtype


def choose_device(settings: Settings) -> Device:
    """The device of the settings; bfloat16 wherever the hardware multiplies it. Raises ConfigError without CUDA."""
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise ConfigError("DOPPEL_DEVICE=cuda, but PyTorch sees no GPU; install requirements-gpu.txt or use cpu.")
    if settings.load_in_4bit and (settings.device == "cpu" or not available):
        raise ConfigError("DOPPEL_LOAD_IN_4BIT needs CUDA, and PyTorch sees no GPU here; turn it off.")
    if available and settings.device != "cpu":
        return Device("cuda", torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16)
    return Device("cpu", getattr(torch, cpu_dtype(settings)))


_SIZES: dict[str, Any] = {
    "r": PositiveInt,
    "lora_alpha": PositiveInt,
    "rank_pattern": dict[str, PositiveInt],
    "alpha_pattern": dict[str, PositiveInt],
}
"""What PEFT declares to be any number, or anything."""


def lora_config(settings: Settings) -> LoraConfig:
    """The adapter's configuration: all linear layers. Raises ConfigError for options that PEFT doesn't take."""
    options: dict[str, Any] = {
        "r": settings.lora_rank,
        "lora_alpha": 2 * settings.lora_rank,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
    }
    kinds = get_type_hints(LoraConfig)
    given = {name: _typed(name, value, kinds) for name, value in settings.lora_options.items()}
    try:
        return LoraConfig(**(options | given))
    except Exception as error:  # whatever PEFT raises for what it can't use
        raise _wrong(error) from None


def _typed(name: str, value: Any, kinds: Mapping[str, Any]) -> Any:
    """The value of an option as PEFT declares it. Raises ConfigError for any other, and for no option of LoRA's."""
    if name not in LoraConfig.__annotations__:
        raise _wrong(ValueError(f"LoRA has no option {name!r}"))
    kind = _SIZES.get(name, kinds[name])
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        said = error.errors()[0]["msg"]
        raise _wrong(ValueError(f"{name}={json.dumps(value)}: {said[:1].lower()}{said[1:]}")) from None


def _wrong(error: Exception) -> ConfigError:
    reason = next(iter(str(error).strip().splitlines()), "").rstrip(".") or type(error).__name__
    return ConfigError(f"DOPPEL_LORA_OPTIONS is wrong: {reason}.")


def check_fits(settings: Settings, model: str) -> None:
    """Raise ConfigError where an adapter of the settings can't be put on the base model or has nothing to learn, and
    TrainingError where vLLM could not load it.

    The model is built of its configuration alone, without weights.
    """
    try:
        with torch.device("meta"):
            base = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(model))
    except (OSError, ValueError) as error:
        raise _cannot_load(model, error) from None
    modules = _adaptable(base)
    try:
        adapted = get_peft_model(base, lora_config(settings), low_cpu_mem_usage=True)
    except NotImplementedError:
        return  # what the first weights are computed of isn't here
    except DoppelError:
        raise
    except Exception as error:  # whatever PEFT and PyTorch raise for a module, a pattern or a number
        names = ", ".join(settings.lora_options)
        raise _wrong(ValueError(f"an adapter with {names} does not fit the base model ({error})")) from None
    if not any(weights.requires_grad for weights in adapted.parameters()):
        raise _wrong(ValueError("nothing would be trained"))
    _check_loadable(adapted, modules)


def load_base(model: str, device: Device, in_4bit: bool = False) -> Any:
    """The base model on its device, without dropout. Raises ConfigError where it can't be loaded."""
    quantization = (
        BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=device.dtype)
        if in_4bit
        else None
    )
    transformers_logging.disable_progress_bar()
    try:
        base = AutoModelForCausalLM.from_pretrained(
            model, dtype=device.dtype, quantization_config=quantization, device_map=device.name
        )
    except (OSError, ValueError) as error:
        raise _cannot_load(model, error) from None
    return prepare_model_for_kbit_training(base) if in_4bit else base


def _cannot_load(model: str, error: Exception) -> ConfigError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return ConfigError(f"The base model {model} can't be loaded: {reason}")


@dataclass(frozen=True, slots=True)
class FineTuned:
    """The model with the weights that were best on the held-out examples, the log (a dict a line: step, loss,
    eval_loss, seconds, …), the tokens trained on in a second, the steps that were taken, and the step of the checkpoint
    it went on from (0: none)."""

    model: PeftModel
    log: list[dict[str, float]]
    tokens_per_second: float
    steps: int
    resumed_from_step: int


def finetune(
    base: Any,
    train: Sequence[EncodedExample],
    held_out: Sequence[EncodedExample],
    settings: Settings,
    device: Device,
    tokenizer: Any,
    work: Path,
    progress: Progress,
    limits: TimeLimits = NO_LIMITS,
) -> FineTuned:
    """Train an adapter on `base`, from the newest whole checkpoint in `work` if there is one.

    Stops early once the held-out loss has not fallen for two evaluations, or at the limit of time, by which the
    learning rate has fallen; what was spent before the checkpoint counts. Ctrl-C saves a checkpoint before it raises
    KeyboardInterrupt.
    """
    checkpoint = last_checkpoint(work)
    first_step = int(checkpoint.name.rpartition("-")[2]) if checkpoint else 0
    pace = Pace(limits)
    pulse, modules = _Pulse(progress, pace), _adaptable(base)
    trainer = _CompletionTrainer(
        model=base,
        args=_arguments(settings, device, len(train), work),
        train_dataset=_dataset(train),
        eval_dataset=_dataset(held_out),
        processing_class=tokenizer,
        peft_config=lora_config(settings),
        callbacks=[pulse, EarlyStoppingCallback(early_stopping_patience=PATIENCE)],
    )
    trainer.pace = pace
    _check_loadable(trainer.model, modules)
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    started = time.monotonic()
    with disable_input_dtype_casting(trainer.model), pulse.interruptible():
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    log = list(trainer.state.log_history)
    evaluating = sum(entry.get("eval_runtime", 0.0) for entry in log if entry["step"] > first_step)
    rate = trainer.tokens / max(time.monotonic() - started - evaluating, 1e-9)
    return FineTuned(trainer.model, log, rate, trainer.state.global_step, first_step)


def _check_loadable(model: PeftModel, modules: set[str]) -> None:
    """Raise TrainingError where vLLM could not load the adapter that is about to be trained on `modules`."""
    weights = {name: torch.zeros(one.shape) for name, one in model.named_parameters() if one.requires_grad}
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, state_dict=weights, save_embedding_layers=False)
        check_adapter(Path(folder), modules)


def _adaptable(base: Any) -> set[str]:
    """The last names of the layers that can have an adapter, such as "q_proj"."""
    kinds = (torch.nn.Linear, torch.nn.Embedding, Conv1D)
    return {name.rpartition(".")[2] for name, module in base.named_modules() if isinstance(module, kinds)}


class _Batches(LengthGroupedSampler):  # type: ignore[misc]
    """Batches of like length, in any order: else all that have quotes would follow one another, and then all others."""

    def __iter__(self) -> Iterator[int]:
        indices = list(super().__iter__())
        whole = len(indices) - len(indices) % self.batch_size
        starts = torch.arange(0, whole, self.batch_size)
        for start in starts[torch.randperm(len(starts), generator=self.generator)].tolist():
            yield from indices[start : start + self.batch_size]
        yield from indices[whole:]


class ByLength:
    """Has a trainer take `_Batches`."""

    def _get_train_sampler(self: Any, train_dataset: Any = None) -> _Batches:
        data = self.train_dataset if train_dataset is None else train_dataset
        return _Batches(self.args.train_batch_size, dataset=data, model_input_name="input_ids")


class _CompletionTrainer(ByLength, SFTTrainer):  # type: ignore[misc]
    """SFTTrainer whose output head runs at the answers' positions only; the loss is the mean per completion token.

    The learning rate goes by how far the training is, also where its time is limited.
    """

    tokens = 0
    pace = Pace()

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """The schedule of the settings, by the share of steps or of time."""

        def paced(rate: Callable[[float], float]) -> Callable[[int], float]:
            return lambda step: rate(self.pace.share(step, num_training_steps) * num_training_steps)

        schedule = super().create_scheduler(num_training_steps, optimizer)
        schedule.lr_lambdas = [paced(rate) for rate in schedule.lr_lambdas]
        return schedule

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Note when each entry was; a training that goes on later begins from there."""
        super().log({**logs, "seconds": self.pace.spent}, start_time)

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        if model.training:
            self.tokens += int(inputs["attention_mask"].sum())
        targets = inputs["labels"][:, 1:]
        positions = (targets != IGNORED).any(dim=0).nonzero().flatten()
        logits = model(
            input_ids=inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            use_cache=False,
            logits_to_keep=positions,
        ).logits
        kept = targets[:, positions].flatten()
        loss = cross_entropy(logits.float().flatten(0, 1), kept, ignore_index=IGNORED, reduction="sum")
        tokens = (kept != IGNORED).sum() if num_items_in_batch is None else num_items_in_batch
        return (loss / tokens, None) if return_outputs else loss / tokens

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: an adapter's manifest says what a card would."""


class _Pulse(TrainerCallback):  # type: ignore[misc]
    """Reports every step with the loss of late; turns Ctrl-C into a checkpoint and an end, and the limit of time into
    an evaluation, too.
    """

    def __init__(self, progress: Progress, pace: Pace) -> None:
        self._progress, self._pace = progress, pace
        self._losses: deque[float] = deque(maxlen=LATELY)
        self._interrupted = False

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """While this is open, SIGINT and SIGTERM end training after the step at hand."""
        signals = (signal.SIGINT, signal.SIGTERM) if threading.current_thread() is threading.main_thread() else ()
        before = {number: signal.signal(number, self._interrupt) for number in signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: Any) -> None:
        self._interrupted = True

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pace.begin(state.log_history[-1].get("seconds", 0.0) if state.log_history else 0.0)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._pace.step()
        step, steps = state.global_step, state.max_steps
        done = round(self._pace.share(step, steps) * steps)
        loss = fmean(self._losses) if self._losses else None
        self._progress(done, steps, loss, self._pace.seconds_left(steps - step))
        if self._interrupted or self._pace.is_over:
            control.should_save = control.should_training_stop = True
            control.should_evaluate |= not self._interrupted

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._losses.append(logs["loss"])


def _arguments(settings: Settings, device: Device, examples: int, work: Path) -> SFTConfig:
    batch = min(settings.train_batch_size, examples)
    steps_per_epoch = math.ceil(examples / batch)
    steps = settings.train_max_steps or math.ceil(steps_per_epoch * settings.train_epochs)
    evaluate_every = max(1, min(steps_per_epoch, steps) // EVALUATIONS_PER_EPOCH)
    return SFTConfig(
        output_dir=str(work),
        use_cpu=device.name == "cpu",
        bf16=device.dtype is torch.bfloat16,
        fp16=device.dtype is torch.float16,
        per_device_train_batch_size=batch,
        per_device_eval_batch_size=batch,
        max_steps=steps,
        learning_rate=settings.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        gradient_checkpointing=device.name == "cuda",
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        train_sampling_strategy="group_by_length",
        eval_strategy="steps",
        eval_steps=evaluate_every,
        save_strategy="steps",
        save_steps=evaluate_every,
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        prediction_loss_only=True,
        logging_steps=1,
        logging_strategy="steps",
        disable_tqdm=True,
        dataloader_pin_memory=device.name == "cuda",
        report_to="none",
        seed=settings.seed,
        data_seed=settings.seed,
    )


def _dataset(examples: Sequence[EncodedExample]) -> Dataset:
    return Dataset.from_list(
        [
            {
                "input_ids": [*e.prompt_ids, *e.completion_ids],
                "labels": [IGNORED] * len(e.prompt_ids) + list(e.completion_ids),
                "length": len(e.prompt_ids) + len(e.completion_ids),
            }
            for e in examples
        ]
    )


def last_checkpoint(work: Path) -> Path | None:
    """The newest checkpoint in `work` that was written to its end; broken ones are deleted."""
    found = sorted(work.glob("checkpoint-*"), key=lambda p: int(p.name.rpartition("-")[2]), reverse=True)
    for checkpoint in found:
        try:
            json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
            with safe_open(checkpoint / "adapter_model.safetensors", framework="pt") as weights:
                weights.keys()
            torch.load(checkpoint / "optimizer.pt", weights_only=True, map_location="cpu")
            return checkpoint
        except Exception:  # whatever a half-written file makes its reader raise
            shutil.rmtree(checkpoint)
    return None
