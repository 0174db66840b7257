"""A worker in a thread, beside a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from doppel.config import Settings
from doppel.errors import DoppelError
from doppel.jobs.queue import Jobs
from doppel.jobs.schedule import Schedule
from doppel.jobs.worker import start_worker

TICK_SECONDS = 1.0
RETRY_SECONDS = 30.0


@contextmanager
def working(
    settings: Settings, command: Sequence[str], schedule: Schedule, say: Callable[[str], None]
) -> Iterator[None]:
    """While this is open, jobs are worked off here, unless another process does, and the schedule is kept."""
    stop = threading.Event()
    thread = threading.Thread(target=_keep_working, args=(settings, command, schedule, say, stop), name="jobs")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _keep_working(
    settings: Settings, command: Sequence[str], schedule: Schedule, say: Callable[[str], None], stop: threading.Event
) -> None:
    """Be the worker whenever nobody else is; an error is told, and it is tried again later."""
    while not stop.is_set():
        try:
            _work(settings, command, schedule, say, stop)
        except DoppelError as error:
            say(f"{error} Trying again in {RETRY_SECONDS:.0f} s.")
            stop.wait(RETRY_SECONDS)


def _work(
    settings: Settings, command: Sequence[str], schedule: Schedule, say: Callable[[str], None], stop: threading.Event
) -> None:
    worker, trouble = None, ""
    try:
        with Jobs(settings) as jobs:
            while not stop.is_set():
                worker = worker or start_worker(settings, command)
                try:
                    schedule.tick(jobs)
                except DoppelError as error:
                    # Said once, and no reason to stop what runs.
                    if trouble != str(error):
                        say(f"The schedule can't be kept: {error}")
                    trouble = str(error)
                stop.wait(TICK_SECONDS)
    finally:
        if worker:
            worker.stop()
