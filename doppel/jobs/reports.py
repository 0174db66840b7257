"""How a job's process speaks to its worker: JSON lines on a pipe that it inherits."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn, Self

from doppel.console import INTERRUPTED, Console, Result, Update
from doppel.logs import always_about
from doppel.processes import die_with_parent

PIPE = "_DOPPEL_JOB_PIPE"
"""Environment variable of a job's process: the pipe's descriptor and the worker's process id, with a colon."""


JOB = "_DOPPEL_JOB"
"""Environment variable of a job's process: the job's id."""


class Reports:
    """The writing end, held by the job's process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def inherited(cls) -> Self | None:
        """The pipe to the worker, or None where this process is no job; a job's process ends with its worker."""
        given = os.environ.pop(PIPE, None)
        if given is None:
            return None
        descriptor, worker = map(int, given.split(":"))
        os.set_inheritable(descriptor, False)
        # A shell may have started the worker with SIGINT ignored, and that is inherited too.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        die_with_parent()
        if os.getppid() != worker:
            sys.exit(INTERRUPTED)
        always_about(job=os.environ.pop(JOB, ""))
        return cls(descriptor)

    def tell(self, **message: Any) -> None:
        """Send one message; nothing where the worker is gone."""
        line = (json.dumps(message) + "\n").encode()
        with contextlib.suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._descriptor, line) :]


class JobConsole(Console):
    """The output of a command that is a job's work: all of it goes to the worker."""

    def __init__(self, reports: Reports) -> None:
        super().__init__(as_json=False)
        self._reports = reports

    def say(self, text: str) -> None:
        """One line about what is going on."""
        self._reports.tell(say=text)

    def write(self, text: str) -> None:
        """Nothing: a job has no reader for text as it comes."""

    def result(self, result: Result) -> None:
        """Hand over the result."""
        self._reports.tell(result={"data": result.data, "text": result.text})

    @contextmanager
    def progress(self, what: str) -> Iterator[Update]:
        """Progress, as often as it is told."""

        def update(done: float, total: float, note: str = "") -> None:
            self._reports.tell(progress={"what": what, "done": done, "total": total, "note": note})

        self._reports.tell(progress={"what": what, "done": 0, "total": None, "note": ""})
        yield update

    def _fail(self, sentence: str, status: int = 1) -> NoReturn:
        self._reports.tell(error=" ".join(sentence.split()))
        sys.exit(status)
