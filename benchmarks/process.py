"""Processes of their own: for a measurement, so that nothing is left from the one before, and for what is measured."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, ParamSpec, Self, TypeVar

from benchmarks.frame import MeasurementError
from doppel.console import quiet_libraries
from doppel.errors import DoppelError

P = ParamSpec("P")
T = TypeVar("T")


def in_fresh_process(limit_seconds: float, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What a function of a module returns in a new interpreter. Raises MeasurementError for anything else."""
    context = get_context("spawn")
    answer, question = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(question, function, args, kwargs))
    process.start()
    question.close()
    try:
        if not answer.poll(limit_seconds):
            raise MeasurementError(f"{function.__name__} took longer than {limit_seconds:.0f} s and was stopped.")
        done, value = answer.recv()
    except EOFError:
        process.join()
        raise MeasurementError(f"{function.__name__} ended without an answer, status {process.exitcode}.") from None
    finally:
        process.kill()
        process.join()
    if not done:
        raise MeasurementError(f"{function.__name__} failed: {value}")
    result: T = value
    return result


def _work(
    question: Connection, function: Callable[..., object], args: tuple[object, ...], kwargs: dict[str, object]
) -> None:
    leave_terminal()
    quiet_libraries()
    try:
        question.send((True, function(*args, **kwargs)))
    except DoppelError as error:
        question.send((False, str(error)))
    except Exception as error:
        traceback.print_exc()
        question.send((False, f"{type(error).__name__}: {error}"))


def leave_terminal() -> None:
    """In a process that was started here: Ctrl-C is the business of who started it, and stdout is for their table."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)


class Companion:
    """A process that runs `function(pipe, *args)` beside a measurement until this is closed; `what` names it.

    It says on the pipe when it is at work. Raises MeasurementError where it doesn't, or has died.
    """

    def __init__(
        self, what: str, start_seconds: float, function: Callable[..., None], *args: object, daemon: bool
    ) -> None:
        context = get_context("spawn")
        self._what, self._start_seconds = what, start_seconds
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=function, args=(theirs, *args), daemon=daemon)
        self.process.start()
        theirs.close()

    def __enter__(self) -> Self:
        try:
            self.started(self.hear(self._start_seconds))
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end()

    def started(self, told: Any) -> None:
        """Take what it said first."""
        raise NotImplementedError

    def hear(self, seconds: float) -> Any:
        """The next that it says."""
        try:
            if self.pipe.poll(seconds):
                return self.pipe.recv()
        except EOFError:
            self.process.join()
            raise MeasurementError(f"{self._what} ended, status {self.process.exitcode}.") from None
        raise MeasurementError(f"{self._what} did not answer within {seconds:.0f} s.")

    def _end(self) -> None:
        self.pipe.close()
        self.process.kill()
        self.process.join()
