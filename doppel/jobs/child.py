"""A job's process, as its worker sees it."""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from doppel.jobs.reports import PIPE
from doppel.processes import kill_group, started_at

TICK_SECONDS = 0.2
GRACE_SECONDS = 5.0
"""What an interrupted process may take to save what it has."""

Message = dict[str, Any]


class Child:
    """One process in a session of its own; what it prints goes to the job's log, what it reports comes by a pipe."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], folder: Path, log: Path) -> None:
        self._reading, writing = os.pipe()
        try:
            with log.open("ab") as output:
                self._process = subprocess.Popen(
                    command,
                    env={**environ, PIPE: f"{writing}:{os.getpid()}"},
                    cwd=folder,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    pass_fds=(writing,),
                )
        except BaseException:
            os.close(self._reading)
            raise
        finally:
            os.close(writing)
        self._deadline: float | None = None

    @property
    def identity(self) -> tuple[int, float | None]:
        """Its process id and when it was started: together they are never used again."""
        return self._process.pid, started_at(self._process.pid)

    def messages(self) -> Iterator[Message]:
        """What it reports, until it has ended; an empty message every TICK_SECONDS or so, for the reader to look up."""
        rest = b""
        with selectors.DefaultSelector() as selector:
            selector.register(self._reading, selectors.EVENT_READ)
            while self._process.poll() is None or selector.select(0):
                yield {}
                self._kill_if_due()
                if not selector.select(TICK_SECONDS):
                    continue
                data = os.read(self._reading, 1 << 16)
                if not data:
                    break
                *lines, rest = (rest + data).split(b"\n")
                yield from map(json.loads, lines)
        while self._process.poll() is None:
            yield {}
            self._kill_if_due()
            time.sleep(TICK_SECONDS)

    def interrupt(self) -> None:
        """Ask it to save what it has and end; after GRACE_SECONDS it is killed."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE_SECONDS
            self._process.send_signal(signal.SIGINT)

    def close(self) -> str:
        """End it and whatever it started; returns how it ended, in words."""
        kill_group(self._process.pid)
        status = self._process.wait()
        os.close(self._reading)
        return f"signal {signal.Signals(-status).name}" if status < 0 else f"status {status}"

    def _kill_if_due(self) -> None:
        if self._deadline is not None and time.monotonic() > self._deadline:
            kill_group(self._process.pid)
