"""Waiting for a job: its words and its progress are shown, and where nobody works on it, the waiting process does."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from doppel.console import Console, Update
from doppel.errors import JobError
from doppel.jobs.database import is_worked
from doppel.jobs.queue import Job, Jobs
from doppel.jobs.state import JobFiles, JobState
from doppel.jobs.worker import Worker, start_worker, work_detached

POLL_SECONDS = 0.25
PATIENCE_SECONDS = 4.0
"""How long a job may be queued before it is said that others go before it."""


def follow(jobs: Jobs, job: Job, is_new: bool, console: Console, command: Sequence[str]) -> dict[str, Any]:
    """Wait for a job and return its result.

    Raises JobError with its sentence where it fails, or was cancelled elsewhere; KeyboardInterrupt on Ctrl-C, which
    cancels the job if it runs here.
    """
    worker: Worker | None = None
    with View(console, JobFiles.of(jobs.settings, job.id), is_new) as view:
        try:
            while not job.has_ended:
                worker = worker or start_worker(jobs.settings, command)
                time.sleep(POLL_SECONDS)
                job = jobs.get(job.id)
                view.show(job)
        except KeyboardInterrupt:
            raise _interrupted(jobs, job, worker) from None
        finally:
            if worker:
                worker.stop()
                if jobs.active():
                    work_detached(jobs.settings, command)
    return result_of(jobs, job)


def result_of(jobs: Jobs, job: Job) -> dict[str, Any]:
    """What a job that has ended came to. Raises JobError where that is nothing."""
    if job.status == "cancelled":
        raise JobError(f"The job was cancelled; `doppel jobs retry {job.id}` goes on from there.")
    if job.status == "failed":
        raise JobError(job.error or "It failed.")
    return jobs.result(job.id) or {"data": {}, "text": ""}


def _interrupted(jobs: Jobs, job: Job, worker: Worker | None) -> KeyboardInterrupt:
    if worker:
        jobs.cancel(job)
        return KeyboardInterrupt()
    who = "goes on" if is_worked(jobs.settings) else "is queued"
    return KeyboardInterrupt(f"Job {job.id} {who} without this command; `doppel jobs cancel {job.id}` ends it.")


class View:
    """Shows on a console what a job says and how far it is."""

    def __init__(self, console: Console, files: JobFiles, is_new: bool) -> None:
        self._console, self._files = console, files
        self._bars = ExitStack()
        self._update: Update | None = None
        self._shown = JobState()
        self._told = not is_new
        self._since = time.monotonic()
        if not is_new:
            self._shown.said = files.read().said
            console.say("The same job is queued or running already; waiting for it.")

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.close()

    def show(self, job: Job) -> None:
        """Bring the console up to date."""
        if job.status == "queued" and not self._told and time.monotonic() - self._since > PATIENCE_SECONDS:
            self._told = True
            self._console.say(f"Job {job.id} is queued; `doppel jobs list` shows what goes before it.")
        state = self._files.read()
        for text in state.said[len(self._shown.said) :]:
            self._console.say(text)
        if state.what != self._shown.what:
            self._bars.close()
            self._update = self._bars.enter_context(self._console.progress(state.what))
        measure = (state.done, state.total, state.note)
        if self._update and state.total is not None and measure != _measure(self._shown):
            self._update(*measure)
        self._shown = state


def _measure(state: JobState) -> tuple[float, float | None, str]:
    return state.done, state.total, state.note
