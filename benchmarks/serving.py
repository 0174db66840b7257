"""Answering with an adapter on a CPU: Doppel's LoRA operation against vLLM's own, same server, same run.

    python benchmarks/serving.py ADAPTER_FOLDER MODEL_FOLDER [--rounds 5] [--out serving.json]

Starts vLLM twice, without and with Doppel's plugin, and measures in turn, in rounds, the time to the first token and
the tokens a second after it, for one reader. It does not show many readers at once, other models than the one given,
prompts that share a cached beginning, or CUDA.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from doppel.inference import Adapter, Endpoint, InferenceClient, Sampling, is_healthy
from doppel.server import free_port

PROMPTS = (300, 1000)
ANSWER_TOKENS = 48
VARIANTS = {"vllm": "", "doppel": "doppel_cpu_lora"}


@dataclass(frozen=True)
class Server:
    """A server and its process group, which is stopped while the other is measured: a waiting vLLM worker spins."""

    endpoint: Endpoint
    group: int

    @contextmanager
    def awake(self) -> Iterator[None]:
        """While this is open, the server runs."""
        os.killpg(self.group, signal.SIGCONT)
        try:
            yield
        finally:
            os.killpg(self.group, signal.SIGSTOP)


@asynccontextmanager
async def server(model: Path, plugin: str, log: Path) -> AsyncIterator[Server]:
    """A vLLM server with or without the plugin, paused."""
    port = free_port()
    options = ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "2048", "--enforce-eager"]
    options += ["--enable-lora", "--max-lora-rank", "64", "--no-enable-prefix-caching"]
    with log.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), *options],
            env=os.environ
            | {"VLLM_PLUGINS": plugin, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    endpoint = Endpoint(f"http://127.0.0.1:{port}/v1", "", str(model))
    try:
        while not await is_healthy(endpoint):
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(1)
        found = Server(endpoint, process.pid)
        os.killpg(found.group, signal.SIGSTOP)
        yield found
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


async def measure(client: InferenceClient, adapter: Adapter, prompt: list[int]) -> tuple[float, float]:
    """Seconds to the first token, and tokens a second after it."""
    started, first = time.perf_counter(), 0.0
    tokens = 0
    async for piece in client.stream(prompt, adapter, Sampling(ANSWER_TOKENS, 1.0, 1.0, end_id=None)):
        first = first or time.perf_counter()
        tokens = piece.tokens
    return first - started, (tokens - 1) / (time.perf_counter() - first)


async def run(adapter: Path, model: Path, rounds: int) -> list[dict[str, object]]:
    """Every figure of every round, the two servers in turn."""
    rows: list[dict[str, object]] = []
    async with (
        server(model, VARIANTS["vllm"], Path("/tmp/serving-vllm.log")) as theirs,
        server(model, VARIANTS["doppel"], Path("/tmp/serving-doppel.log")) as ours,
        InferenceClient(theirs.endpoint) as their_client,
        InferenceClient(ours.endpoint) as our_client,
    ):
        clients = {"vllm": (theirs, their_client), "doppel": (ours, our_client)}
        for number in range(rounds + 1):
            for length in PROMPTS:
                prompt = [5 + (7919 * (number * length + i)) % 40_000 for i in range(length)]
                for name, (running, client) in clients.items():
                    with running.awake():
                        first, rate = await measure(client, Adapter("benchmark", adapter), prompt)
                    if number:
                        rows.append(
                            {"variant": name, "prompt": length, "first_token": first, "tokens_per_second": rate}
                        )
    return rows


def ratios(rows: list[dict[str, object]], length: int, key: str) -> list[float]:
    """Round by round, vLLM's figure over Doppel's for times and the other way for rates."""
    theirs, ours = (
        [float(str(r[key])) for r in rows if r["variant"] == name and r["prompt"] == length] for name in VARIANTS
    )
    pairs = zip(theirs, ours, strict=True)
    return [a / b if key == "first_token" else b / a for a, b in pairs]


def main() -> None:
    """Measure, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("adapter", type=Path)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path("serving.json"))
    options = parser.parse_args()
    rows = asyncio.run(run(options.adapter.resolve(), options.model.resolve(), options.rounds))
    table = Table("prompt", "figure", "vllm", "doppel", "ratio", "spread", title="One reader, one adapter, CPU")
    for length in PROMPTS:
        for key in ("first_token", "tokens_per_second"):
            medians = [
                statistics.median(float(str(r[key])) for r in rows if r["variant"] == name and r["prompt"] == length)
                for name in VARIANTS
            ]
            found = ratios(rows, length, key)
            spread = f"{min(found):.2f}-{max(found):.2f}"
            table.add_row(str(length), key, *(f"{m:.2f}" for m in medians), f"{statistics.median(found):.2f}", spread)
    Console().print(table)
    options.out.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
