"""What a command prints: progress and errors on stderr, its result on stdout, as text or as one JSON object."""

from __future__ import annotations

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from doppel.errors import DoppelError
from doppel.logs import log_failure, log_to
from doppel.plain_text import json_text, line, plain

_log = logging.getLogger("doppel.console")

FAILED = 1
INTERRUPTED = 130
LINE_EVERY_SECONDS = 15.0

Update = Callable[..., None]
"""Called with (done, total) and, if there is something to tell, a `note`."""


@dataclass(frozen=True, slots=True)
class Result:
    """What a command came to: one JSON object, and the same for people; what isn't `ok` ends with exit status 1."""

    data: dict[str, Any]
    text: str = ""
    ok: bool = True


class Console:
    """The output of one command."""

    def __init__(self, as_json: bool) -> None:
        """With `as_json`, stdout is kept for the result: whatever else is written there goes to stderr."""
        self.as_json = as_json
        self._rich = RichConsole(stderr=True, highlight=False)
        self._out: TextIO = sys.stdout
        if as_json:
            self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
            os.dup2(2, 1)

    def say(self, text: str) -> None:
        """One line about what is going on."""
        self._rich.print(line(text), markup=False, emoji=False, soft_wrap=True)

    def write(self, text: str) -> None:
        """Text of the result itself, as it comes; nothing with JSON."""
        if not self.as_json:
            self._out.write(plain(text))
            self._out.flush()

    def result(self, result: Result) -> None:
        """Print the result."""
        if self.as_json:
            self._out.write(json_text(result.data) + "\n")
        elif result.text:
            self._out.write(plain(result.text).rstrip("\n") + "\n")
        self._out.flush()

    @contextmanager
    def progress(self, what: str) -> Iterator[Update]:
        """A bar with the time that is left; where stderr is no terminal, a line now and then."""
        if not self._rich.is_terminal:
            yield _lines(self.say, what)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._rich) as bar:
            task = bar.add_task(line(what), total=None, note="")
            yield lambda done, total, note="": bar.update(task, completed=done, total=total, note=line(note))

    @contextmanager
    def guarded(self, log: Callable[[], Path]) -> Iterator[None]:
        """Turn errors into one sentence and an exit status; where one arose that nobody foresaw goes to
        the file of `log`.
        """
        try:
            yield
        except ExceptionGroup as group:
            self._fail_with(group.exceptions[0], log)
        except KeyboardInterrupt as interrupt:
            self._fail(str(interrupt) or "Interrupted; the same command goes on from here.", INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.exit(FAILED)
        except Exception as error:
            self._fail_with(error, log)

    def _fail_with(self, error: Exception, log: Callable[[], Path]) -> None:
        self._fail(str(error) if isinstance(error, DoppelError) else _unforeseen(error, log))

    def _fail(self, sentence: str, status: int = FAILED) -> None:
        self.say(" ".join(sentence.split()))
        if self.as_json:
            self.result(Result({"error": sentence}))
        sys.exit(status)


def duration(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def quiet_libraries() -> None:
    """Keep the libraries' own chatter off the terminal."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TQDM_DISABLE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")
    warnings.filterwarnings("ignore")
    logging.getLogger().setLevel(logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(_PlainFormatter())
    logging.getLogger().addHandler(handler)


class _PlainFormatter(logging.Formatter):
    """Of what is logged to the terminal: a sentence, and nothing of where an error arose or what it says."""

    def format(self, record: logging.LogRecord) -> str:
        return plain(record.getMessage())


def _lines(say: Callable[[str], None], what: str) -> Update:
    last = time.monotonic()
    say(f"{what} …")

    def update(done: float, total: float, note: str = "") -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_EVERY_SECONDS or done == total:
            last = time.monotonic()
            say(f"{what}: {100 * done / total if total else 100:.0f} % {note}".rstrip())

    return update


def _unforeseen(error: Exception, log: Callable[[], Path]) -> str:
    said = f"Something went wrong that Doppel did not foresee ({type(error).__name__})"
    try:
        path = log()
    except DoppelError:
        return f"{said}."
    # To the file alone: on the terminal stands the sentence.
    _log.propagate = False
    _log.handlers = [log_to(path, "ERROR")]
    log_failure(_log, "It was not foreseen", error)
    with suppress(OSError):
        if path.exists():
            return f"{said}; the details are in {path}."
    return f"{said}."
