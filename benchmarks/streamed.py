"""Streamed answers of one vLLM server, timed one by one, and what they need: an adapter and prompts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.frame import MeasurementError
from benchmarks.workspace import settings_for
from doppel.config import Settings
from doppel.errors import BadInputError, DoppelError
from doppel.inference.client import Adapter, InferenceClient, Sampling
from doppel.inference.vllm_process import ManagedServer
from doppel.ingest import open_archive

T = TypeVar("T")

START_SECONDS = 240.0
ANSWER_SECONDS = 180.0
WITH, WITHOUT = "with an adapter", "without one"


@dataclass(frozen=True, slots=True)
class Material:
    """What all are asked: the base model's folder or name, an adapter's folder, prompts that begin differently.

    The first half of the prompts is for the adapter, the other for the base model; the first of each is not counted.
    """

    base: str
    adapter: Path
    prompts: tuple[tuple[int, ...], ...]
    answer_tokens: int


def gather_material(work: Path, prompts: int, prompt_tokens: int, answer_tokens: int) -> Material:
    """Unpack the base model, write a random adapter for it, and cut prompts from what was said."""
    from doppel.models.base_model import ChatTokenizer, base_model_path

    settings = settings_for(work)
    base = base_model_path(settings)
    write_random_adapter(settings, base, work / "adapter")
    with open_archive(settings.archive_path) as archive:
        said = "\n".join(f"{message.author}: {message.text}" for message in archive.messages())
    tokenizer = ChatTokenizer(base).hf
    heads = [tokenizer.encode(f"Question {number}\n", add_special_tokens=False) for number in range(2 * prompts)]
    cut = cut_prompts(tokenizer.encode(said, add_special_tokens=False), heads, prompt_tokens)
    return Material(base, work / "adapter", cut, answer_tokens)


def write_random_adapter(settings: Settings, base: str, folder: Path) -> None:
    """A PEFT folder of the settings' rank whose matrices are random: as slow as a trained one."""
    import torch
    from peft import get_peft_model

    from training.finetune import Device, load_base, lora_config

    config = lora_config(settings)
    config.init_lora_weights = False
    get_peft_model(load_base(base, Device("cpu", torch.bfloat16)), config).save_pretrained(folder)


def cut_prompts(ids: Sequence[int], heads: Sequence[Sequence[int]], length: int) -> tuple[tuple[int, ...], ...]:
    """One prompt of `length` tokens a head, spread over `ids`. Raises BadInputError where `ids` are too few."""
    if len(ids) < length:
        raise BadInputError(f"The export holds {len(ids)} tokens, too few for a prompt of {length}.")
    stride = (len(ids) - length) // len(heads)
    return tuple(
        (*head, *ids[number * stride : number * stride + length - len(head)]) for number, head in enumerate(heads)
    )


async def ask_server(settings: Settings, material: Material, say: Callable[[str], None]) -> dict[str, list[float]]:
    """Start a server, ask it every prompt, stop it. Raises MeasurementError that names the server's log."""
    server = ManagedServer(settings, material.base, say)
    server.start()
    try:
        await _within(START_SECONDS, "Starting vLLM", server.wait_ready())
        _check_plugins(server.log_path)
        async with InferenceClient(server.endpoint) as client:
            half = len(material.prompts) // 2
            adapter = Adapter("benchmark", material.adapter)
            found = await _ask(client, adapter, WITH, material.prompts[:half], material.answer_tokens, say)
            return found | await _ask(client, None, WITHOUT, material.prompts[half:], material.answer_tokens, say)
    except (DoppelError, OSError) as error:
        raise MeasurementError(f"{str(error).rstrip('.')}; the server's log is {server.log_path}.") from error
    finally:
        await server.stop()


async def timed_answer(
    client: InferenceClient, adapter: Adapter | None, prompt: Sequence[int], tokens: int
) -> tuple[float, float]:
    """Seconds to the first token, and tokens a second after it. Raises MeasurementError for a shorter answer."""
    arrivals: list[tuple[float, int]] = []
    started = time.perf_counter()
    async for piece in client.stream(prompt, adapter, Sampling(tokens, temperature=0.0, top_p=1.0, end_id=None), "T1"):
        if piece.tokens > (arrivals[-1][1] if arrivals else 0):
            arrivals.append((time.perf_counter(), piece.tokens))
    if len(arrivals) < 2 or arrivals[-1][1] != tokens:
        raise MeasurementError(f"An answer had {arrivals[-1][1] if arrivals else 0} tokens instead of {tokens}.")
    (first, before), (last, after) = arrivals[0], arrivals[-1]
    return first - started, (after - before) / (last - first)


async def _ask(
    client: InferenceClient,
    adapter: Adapter | None,
    kind: str,
    prompts: Sequence[Sequence[int]],
    tokens: int,
    say: Callable[[str], None],
) -> dict[str, list[float]]:
    """The figures of every answer but the first."""
    answers: list[tuple[float, float]] = []
    for number, prompt in enumerate(prompts):
        first, rate = await _within(ANSWER_SECONDS, "An answer", timed_answer(client, adapter, prompt, tokens))
        say(f"  {kind}, {number or 'not counted'}: first token after {first:.3g} s, then {rate:.3g} tokens/s")
        answers += [(first, rate)] if number else []
    return {
        f"s to first token, {kind}": [first for first, _ in answers],
        f"tokens/s, {kind}": [rate for _, rate in answers],
    }


async def _within(seconds: float, what: str, waiting: Awaitable[T]) -> T:
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except TimeoutError:
        raise MeasurementError(f"{what} took longer than {seconds:.0f} s") from None


def _check_plugins(log: Path) -> None:
    if "Failed to load plugin" in log.read_text(encoding="utf-8", errors="replace"):
        raise MeasurementError("vLLM could not load a plugin")
