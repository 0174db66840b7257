"""Doppel as a user runs it: real commands, a real model, a real vLLM server."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from doppel.config import Settings, load_settings
from doppel.inference.client import Endpoint
from tests.postgres import database_of

ROOT = Path(__file__).parent.parent
SAMPLE = ROOT / "examples" / "sample-workspace"
PERSONA = "ines"
QUESTION = "why did we drop Kafka?"
START_SECONDS = 300.0

ON_POSTGRES = False
"""Whether commands keep their archive in Postgres; `pytest --database postgres` says so."""

ALL_IS_SHOWN = {"DOPPEL_MIN_CONFIDENCE": "0", "DOPPEL_ANSWER_CHECK": "mark"}
"""A model that learned for four steps says little that anything carries."""

FEW_STEPS = {
    "DOPPEL_TRAIN_MAX_STEPS": "4",
    "DOPPEL_TRAIN_PROMPT_TOKENS": "96",
    "DOPPEL_TRAIN_CONTEXT_TOKENS": "120",
    "DOPPEL_TEMPERATURE": "0",
}


def free_port() -> int:
    """A TCP port of the loopback interface that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def open_to_others(folder: Path) -> list[Path]:
    """What is there that is not for its owner alone."""
    there = [path for path in (folder, *folder.rglob("*")) if not path.is_symlink()]
    return [path for path in there if path.stat().st_mode & 0o077]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished command; `data` is what it printed with --json."""

    status: int
    data: dict[str, Any]
    stderr: str


def environment(data_dir: Path) -> dict[str, str]:
    """What makes a command use a data folder and, on Postgres, the database that goes with it."""
    database = {"DOPPEL_DATABASE_URL": database_of(data_dir)} if ON_POSTGRES else {}
    return FEW_STEPS | ALL_IS_SHOWN | {"DOPPEL_DATA_DIR": str(data_dir)} | database


def archive_at(data_dir: Path) -> Path | str:
    """Where the archive of a data folder is."""
    return load_settings(environment(data_dir)).archive_at


def doppel(data_dir: Path, *arguments: str, environ: dict[str, str] | None = None) -> Done:
    """Run one command with --json and read its one object."""
    done = subprocess.run(
        [sys.executable, "app.py", *arguments, "--json"],
        cwd=ROOT,
        env=os.environ | environment(data_dir) | (environ or {}),
        capture_output=True,
        text=True,
        check=False,
    )
    return Done(done.returncode, json.loads(done.stdout) if done.stdout else {}, done.stderr)


@dataclass
class Deployment:
    """A data folder on which everything was done once, in order, and `doppel serve`."""

    data_dir: Path
    reports: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.reports["import"] = self.run("import", str(SAMPLE))
        self.reports["reindex"] = self.run("reindex")
        self.reports["consent"] = self.run("consent", "grant", PERSONA, "--by", "tests")
        self.reports["train"] = self.run("train", "--user", PERSONA)
        self._log = (self.data_dir / "serve.log").open("w")
        self._process = subprocess.Popen(
            [sys.executable, "app.py", "serve", "--port", str(self.port)],
            cwd=ROOT,
            env=os.environ | environment(self.data_dir) | {"DOPPEL_WEB_EXAMPLES": json.dumps([QUESTION])},
            stderr=self._log,
        )
        self.wait_ready()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        self._log.close()

    port: int = 17860

    @property
    def settings(self) -> Settings:
        """The settings the server runs with."""
        return load_settings(environment(self.data_dir))

    @property
    def endpoint(self) -> Endpoint:
        """Where the managed vLLM server listens."""
        return Endpoint(**json.loads((self.data_dir / "run" / "vllm.json").read_text()))

    @property
    def said(self) -> str:
        """What `doppel serve` has printed so far."""
        return (self.data_dir / "serve.log").read_text()

    def run(self, *arguments: str, **environ: str) -> dict[str, Any]:
        """What a command that succeeds prints."""
        done = doppel(self.data_dir, *arguments, environ=environ)
        assert done.status == 0, done.stderr
        return done.data

    def wait_ready(self, times: int = 1) -> None:
        """Wait until vLLM has been ready `times` times since the start."""
        deadline = time.monotonic() + START_SECONDS
        while len(re.findall(r"^vLLM is ready", self.said, flags=re.MULTILINE)) < times:
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.3)
