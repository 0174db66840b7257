"""A measurement in a process of its own: nothing that Python or a library keeps is left from the one before."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection
from typing import ParamSpec, TypeVar

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
    """Ctrl-C is the parent's business, and stdout is for its table."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(2, 1)
    quiet_libraries()
    try:
        question.send((True, function(*args, **kwargs)))
    except DoppelError as error:
        question.send((False, str(error)))
    except Exception as error:
        traceback.print_exc()
        question.send((False, f"{type(error).__name__}: {error}"))
