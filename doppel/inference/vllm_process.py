"""The vLLM server as a managed child: started, health-checked, restarted when it dies, stopped with the app."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Protocol

from doppel.artifacts import write_atomic
from doppel.config import Settings
from doppel.errors import InferenceError
from doppel.inference.client import Endpoint, InferenceClient, is_healthy, served_model
from doppel.inference.lora import needed_rank
from doppel.inference.runtime_folder import RuntimeFolder, is_locked
from doppel.models.device import cpu_dtype
from doppel.private import UMASK, is_private_folder
from doppel.processes import die_with_parent

POLL_SECONDS = 0.5
STOP_SECONDS = 15.0
STABLE_SECONDS = 60.0
FIRST_BACKOFF_SECONDS = 1.0
MAX_BACKOFF_SECONDS = 60.0
LOG_TAIL_BYTES = 20_000
SOCKET = "vllm.sock"
NOT_VLLMS = ("DOPPEL_", "SLACK_", "PGPASS")
"""How variables begin that may hold secrets, and that vLLM has no use for."""
LOOK_SECONDS = 5.0

Say = Callable[[str], None]


class ModelServer(Protocol):
    """A vLLM server, whoever runs it."""

    @property
    def endpoint(self) -> Endpoint: ...

    async def wait_ready(self) -> None: ...

    def status(self) -> str: ...


@dataclass(frozen=True, slots=True)
class RunningServer:
    """A server that somebody else runs."""

    endpoint: Endpoint

    async def wait_ready(self) -> None:
        """Nothing to wait for."""

    def status(self) -> str:
        """Nothing to tell."""
        return ""


@dataclass(frozen=True, slots=True)
class StartingServer:
    """A server that another process of ours is starting."""

    endpoint: Endpoint
    patience: float
    """For how many seconds it may start."""

    async def wait_ready(self) -> None:
        """Wait until it takes requests. Raises InferenceError where it doesn't come."""
        deadline = time.monotonic() + self.patience
        while not await is_healthy(self.endpoint):
            if not is_held(self.endpoint):
                raise InferenceError("The vLLM that another Doppel was starting has ended; try again.")
            if time.monotonic() > deadline:
                raise InferenceError("The vLLM that another Doppel is starting does not get ready; see its log.")
            await asyncio.sleep(POLL_SECONDS)

    def status(self) -> str:
        """Nothing to tell: who asks waits."""
        return ""


@asynccontextmanager
async def model_server(settings: Settings, model: str, say: Say, own: bool = False) -> AsyncIterator[ModelServer]:
    """A server for `model`: the one of the settings, one that another process of ours runs, or a child of our own.

    With `own` it is never another process's, which may end before this one does.

    A child, or that of another process, may be starting when this is entered; `wait_ready` waits for it. Raises
    InferenceError where none can be had.
    """
    if settings.vllm_url:
        url, key = settings.vllm_url, settings.vllm_api_key.get_secret_value()
        yield RunningServer(Endpoint(url, key, await served_model(url, key)))
        return
    running = None if own else await find_running(settings, model)
    if running:
        yield RunningServer(running)
        return
    starting = None if own else _told_endpoint(settings)
    if starting and starting.model == model and is_held(starting):
        say("Another Doppel is starting vLLM on this data folder; waiting for it.")
        yield StartingServer(starting, settings.vllm_start_seconds)
        return
    child = ManagedServer(settings, model, say)
    child.start()
    try:
        yield child
    finally:
        await child.stop()


async def find_running(settings: Settings, model: str | None = None) -> Endpoint | None:
    """The endpoint of a healthy managed server, for `model` or for any, on this data folder, if there is one."""
    found = _told_endpoint(settings)
    is_ours = found is not None and found.socket and model in (None, found.model)
    return found if found and is_ours and await is_healthy(found) else None


async def forget_adapters(settings: Settings, names: Iterable[str]) -> None:
    """Make a running server on this data folder forget adapters, so that their weights leave its memory.

    Also one that an older Doppel runs, on a port.
    """
    endpoint = _told_endpoint(settings)
    if endpoint and await is_healthy(endpoint):
        async with InferenceClient(endpoint) as client:
            for name in names:
                await client.unload(name)


class ManagedServer:
    """One vLLM child process, and the watcher that starts it again when it ends.

    It listens on a Unix socket that only this user can reach: vLLM asks for its key under /v1 alone, and answers, as
    every persona, under other paths too.
    """

    def __init__(self, settings: Settings, model: str, say: Say) -> None:
        self._runtime = RuntimeFolder.create()
        socket = str(self._runtime.path / SOCKET)
        self.endpoint = Endpoint("http://localhost/v1", secrets.token_urlsafe(24), model, socket)
        self.log_path = settings.logs_dir / "vllm.log"
        self._settings, self._model, self._say = settings, model, say
        self._rank = self._started_for = needed_rank(settings)
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0
        self._ready = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process else None

    def status(self) -> str:
        """A sentence while it takes no requests, else nothing."""
        return "" if self._ready.is_set() else "The model is starting; a question waits until it is ready."

    def start(self) -> None:
        """Start the child; `wait_ready` tells when it takes requests."""
        self._say("Starting vLLM: half a minute on a GPU, one to two on a CPU.")
        self._spawn()
        self._watcher = asyncio.create_task(self._watch())

    async def wait_ready(self) -> None:
        """Wait until it takes requests, and every adapter that is published.

        Raises InferenceError with the end of its log where it can't start.
        """
        assert self._watcher, "start() comes first"
        await self._outgrow()
        ready = asyncio.create_task(self._ready.wait())
        try:
            await asyncio.wait({ready, self._watcher}, return_when=asyncio.FIRST_COMPLETED)
            if not ready.done():
                self._watcher.result()
        finally:
            ready.cancel()

    async def stop(self) -> None:
        """Stop the child and its watcher."""
        if self._watcher:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError, InferenceError):
                await self._watcher
        self._ready.clear()
        await asyncio.to_thread(self._end)
        if _told_endpoint(self._settings) == self.endpoint:
            _endpoint_file(self._settings).unlink(missing_ok=True)
        self._runtime.close()

    async def _tell(self) -> None:
        """Let other processes on this data folder know of it, also while it starts, unless they know of another that
        answers.
        """
        told = _told_endpoint(self._settings)
        if told == self.endpoint or (told and await is_healthy(told)):
            return
        path = _endpoint_file(self._settings)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, json.dumps(asdict(self.endpoint)), 0o600)

    async def _outgrow(self) -> None:
        """Let the watcher start a child again that was started for smaller adapters than are published now."""
        needed = await asyncio.to_thread(needed_rank, self._settings)
        if needed <= self._rank or not self._ready.is_set():
            return
        self._rank = needed
        self._ready.clear()
        self._say(f"An adapter of rank {needed} was published, and vLLM was started for smaller ones: it starts again.")

    def _spawn(self) -> None:
        self._settings.logs_dir.mkdir(parents=True, exist_ok=True)
        Path(self.endpoint.socket).unlink(missing_ok=True)
        self._started_for = self._rank
        log: IO[bytes]
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self._command(),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                umask=UMASK,
                preexec_fn=die_with_parent,
            )

    def _command(self) -> list[str]:
        settings = self._settings
        options = {
            "--model": self._model,
            "--uds": self.endpoint.socket,
            "--max-model-len": str(settings.prompt_tokens + settings.answer_tokens),
            "--max-loras": "4",
            "--max-lora-rank": str(self._rank),
        }
        on_cpu = [] if has_cuda() else ["--enforce-eager", "--dtype", cpu_dtype(settings)]
        words = [word for pair in options.items() for word in pair]
        server = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
        return [*server, *words, "--enable-lora", *on_cpu, *settings.vllm_options]

    def _environment(self) -> dict[str, str]:
        """The key goes by the environment, where other users of the machine can't read it.

        What vLLM's processes tell each other goes through sockets in the same folder, and what PyTorch's gloo opens for
        the distribution over machines listens on the loopback interface only.
        """
        folder = str(self._runtime.path)
        mine = {
            "VLLM_API_KEY": self.endpoint.api_key,
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "DO_NOT_TRACK": "1",
            "VLLM_RPC_BASE_PATH": folder,
            "TMPDIR": folder,
        }
        offline = {"HF_HUB_OFFLINE": "1"} if Path(self._model).is_dir() else {}
        theirs = {name: value for name, value in os.environ.items() if not name.startswith(NOT_VLLMS)}
        return {"VLLM_CPU_KVCACHE_SPACE": "1", "GLOO_SOCKET_IFNAME": "lo"} | theirs | offline | mine

    async def _until_ready(self) -> None:
        deadline = time.monotonic() + self._settings.vllm_start_seconds
        while not await is_healthy(self.endpoint):
            if self._process is None or self._process.poll() is not None:
                raise InferenceError(f"vLLM did not start: {self._last_words()}; its log is {self.log_path}.")
            if time.monotonic() > deadline:
                raise InferenceError(
                    f"vLLM was not ready within {self._settings.vllm_start_seconds:.0f} s; raise "
                    f"DOPPEL_VLLM_START_SECONDS or read {self.log_path}."
                )
            await asyncio.sleep(POLL_SECONDS)
        await self._tell()
        self._ready.set()

    async def _watch(self) -> None:
        """Wait for the first start, whose failure ends the watch; then restart the child whenever it ends."""
        try:
            await self._tell()
            await self._until_ready()
        except InferenceError:
            await asyncio.to_thread(self._end)
            raise
        self._say("vLLM is ready.")
        backoff = FIRST_BACKOFF_SECONDS
        while True:
            born = time.monotonic()
            await self._until_ended()
            self._ready.clear()
            if self._rank > self._started_for:
                await self._again(0)
                continue
            stable = time.monotonic() - born > STABLE_SECONDS
            backoff = FIRST_BACKOFF_SECONDS if stable else min(2 * backoff, MAX_BACKOFF_SECONDS)
            self._say(f"vLLM ended ({self._last_words()}); starting it again in {backoff:.0f} s.")
            await self._again(backoff)

    async def _again(self, seconds: float) -> None:
        await asyncio.to_thread(self._end)
        await asyncio.sleep(seconds)
        self._spawn()
        with contextlib.suppress(InferenceError):
            await self._until_ready()
            self._say("vLLM is ready again.")

    async def _until_ended(self) -> None:
        """Wait until the child ends, or is to end because larger adapters were published."""
        looked = time.monotonic()
        while self._process is not None and self._process.poll() is None and self._rank == self._started_for:
            await asyncio.sleep(POLL_SECONDS)
            if time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                await self._outgrow()
                await self._tell()

    def _end(self) -> None:
        """Stop the child and all it started: vLLM's engine is a process of its own."""
        process, self._process = self._process, None
        if process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def _last_words(self) -> str:
        """The last error that the child wrote to its log, in one line."""
        with self.log_path.open("rb") as log:
            size = log.seek(0, os.SEEK_END)
            log.seek(max(self._log_start, size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").splitlines()
        errors = [text for text in lines if "Error" in text and "Traceback" not in text]
        word = (errors or lines or ["it wrote nothing"])[-1].strip()
        return word[-200:].rstrip(".")


def _endpoint_file(settings: Settings) -> Path:
    return settings.run_dir / "vllm.json"


def _told_endpoint(settings: Settings) -> Endpoint | None:
    """What the endpoint file says, if there is one; not a socket that another user may have made since a crash."""
    try:
        found = Endpoint(**json.loads(_endpoint_file(settings).read_text(encoding="utf-8")))
        sound = found.is_sound and not (found.socket and not is_private_folder(Path(found.socket).parent))
        return found if sound else None
    except (OSError, ValueError, TypeError, RecursionError):
        return None


def is_held(endpoint: Endpoint) -> bool:
    """Whether the process that runs a managed server, or starts one, is alive."""
    return bool(endpoint.socket) and is_locked(Path(endpoint.socket).parent)


def has_cuda() -> bool:
    """Whether PyTorch sees a GPU."""
    import torch

    return torch.cuda.is_available()
