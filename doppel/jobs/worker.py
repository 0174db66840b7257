"""The one worker of a data folder: takes jobs off the queues, runs each in a process of its own, records its outcome.

DBOS keeps the queues and what became of each job. A job whose worker died, or was stopped, counts as running there;
the next worker has the same executor id, and so DBOS gives it that job again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dbos import DBOS, DBOSPortableJSONSerializer
from filelock import FileLock, Timeout

from doppel.artifacts import storage_error
from doppel.config import PREFIX, Settings
from doppel.errors import JobError
from doppel.jobs.child import GRACE_SECONDS, Child
from doppel.jobs.database import database_errors, is_worked, worker_lock
from doppel.jobs.queue import WORKFLOW, Jobs
from doppel.jobs.reports import JOB
from doppel.jobs.state import JobFiles, JobState, Recorder
from doppel.processes import kill_group

LOOK_SECONDS = 0.4
"""Between two looks at whether a running job was cancelled."""
START_SECONDS = 2.0
"""How long a worker that nobody waits for tries to get the lock: others take it for a moment to see if it's free."""


class Halted(BaseException):
    """Ends a workflow without an outcome, which DBOS would record for an Exception."""


class Worker:
    """Works from `start_worker` to `stop`. A process has one at a time: DBOS is a singleton."""

    def __init__(self, settings: Settings, command: Sequence[str], lock: FileLock) -> None:
        self._settings, self._command, self._lock = settings, command, lock
        self._jobs = Jobs(settings)
        self._stopping = threading.Event()
        self._running = 0
        self._changed = threading.Condition()
        self._handler = _log_to(settings.logs_dir / "worker.log")

    def launch(self) -> None:
        """Begin."""
        name = self._jobs.application
        with database_errors(self._jobs.url):
            DBOS(
                config={
                    "name": name,
                    "executor_id": name,
                    "application_version": name,
                    "system_database_url": self._jobs.url,
                    "serializer": DBOSPortableJSONSerializer(),
                    "log_level": "WARNING",
                }
            )
            DBOS.workflow(name=WORKFLOW)(self._workflow())
            DBOS.launch()
        self._jobs.forget_old()

    def stop(self) -> None:
        """Interrupt what runs, which the next worker goes on with, and let the lock go."""
        self._stopping.set()
        with self._changed:
            self._changed.wait_for(lambda: self._running == 0, timeout=4 * GRACE_SECONDS)
        DBOS.destroy(destroy_registry=True)
        self._jobs.close()
        logging.getLogger("dbos").removeHandler(self._handler)
        self._handler.close()
        self._lock.release()

    def _workflow(self) -> Any:
        def job(kind: str, words: list[str], environ: dict[str, str], folder: str, _queue: str) -> dict[str, Any]:
            assert DBOS.workflow_id
            with self._counted(), _disk_errors(self._settings.data_dir):
                return self._run(DBOS.workflow_id, [kind, *words], environ, Path(folder))

        return job

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._running -= 1
                self._changed.notify_all()

    def _run(self, job_id: str, words: list[str], environ: dict[str, str], folder: Path) -> dict[str, Any]:
        """The result of the job's process. Raises JobError with its sentence, Halted where it was made to end."""
        files = JobFiles.of(self._settings, job_id)
        files.create_folders()
        recorder = Recorder(files)
        _outlive(recorder.state)
        if self._is_over(job_id):
            raise Halted
        files.log(f"doppel {' '.join(words)}")
        child = Child(
            [*self._command, *words],
            child_environ(self._settings) | environ | {JOB: job_id},
            folder if folder.is_dir() else self._settings.data_dir,
            files.log_path,
        )
        return self._outcome(job_id, child, recorder, files)

    def _outcome(self, job_id: str, child: Child, recorder: Recorder, files: JobFiles) -> dict[str, Any]:
        recorder.state.process = child.identity
        recorder.save()
        try:
            is_over = self._watch(job_id, child, recorder)
        finally:
            ended = child.close()
            recorder.state.process = None
            recorder.save()
        if recorder.result is not None:
            files.log("Done.")
            return recorder.result
        if is_over:
            files.log("Interrupted.")
            raise Halted
        error = recorder.error or f"The job's process ended without a result ({ended}); its log is {files.log_path}."
        files.log(error)
        raise JobError(error)

    def _watch(self, job_id: str, child: Child, recorder: Recorder) -> bool:
        """Record what the process reports until it has ended; whether it was made to end."""
        is_over, looked = False, 0.0
        for message in child.messages():
            recorder.take(message)
            if not is_over and time.monotonic() - looked > LOOK_SECONDS:
                looked = time.monotonic()
                is_over = self._is_over(job_id)
                if is_over:
                    child.interrupt()
        return is_over

    def _is_over(self, job_id: str) -> bool:
        with contextlib.suppress(JobError):
            return self._stopping.is_set() or self._jobs.is_cancelled(job_id)
        return False


def start_worker(settings: Settings, command: Sequence[str], seconds: float = 0) -> Worker | None:
    """The data folder's worker, at work; None where another is there and stays for `seconds`.

    `command` is Doppel's command line, such as `python app.py`; a job's kind and words follow it. Raises JobError.
    """
    lock = worker_lock(settings)
    try:
        lock.acquire(timeout=seconds)
    except Timeout:
        return None
    try:
        worker = Worker(settings, command, lock)
    except BaseException:
        lock.release()
        raise
    try:
        worker.launch()
    except BaseException:
        worker.stop()
        raise
    return worker


def drain(settings: Settings, command: Sequence[str]) -> bool:
    """Work until no job is left; False where another worker is there."""
    with Jobs(settings) as jobs:
        while jobs.active():
            worker = start_worker(settings, command, START_SECONDS)
            if worker is None:
                return False
            try:
                while jobs.active():
                    time.sleep(LOOK_SECONDS)
            finally:
                worker.stop()
    return True


def work_detached(settings: Settings, command: Sequence[str]) -> subprocess.Popen[bytes] | None:
    """A new worker that outlives this process and ends when no job is left; None where one is there."""
    if is_worked(settings, START_SECONDS / 10):
        return None
    settings.logs_dir.mkdir(parents=True, exist_ok=True)
    with (settings.logs_dir / "worker.log").open("ab") as log:
        return subprocess.Popen(
            [*command, "jobs", "work"],
            env=child_environ(settings),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def child_environ(settings: Settings) -> dict[str, str]:
    """The environment of a process that works on the same data."""
    mine = {"data_dir": str(settings.data_dir.absolute()), "database_url": settings.database_url.get_secret_value()}
    return dict(os.environ) | {f"{PREFIX}{name.upper()}": value for name, value in mine.items()}


@contextmanager
def _disk_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise storage_error(error, folder) from error


def _outlive(state: JobState) -> None:
    """Wait for the end of a process that a dead worker left: it is saving what it has. Then kill it."""
    deadline = time.monotonic() + 2 * GRACE_SECONDS
    while state.process and state.is_alive:
        if time.monotonic() > deadline:
            kill_group(state.process[0])
        time.sleep(LOOK_SECONDS)


def _log_to(path: Path) -> logging.Handler:
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path, delay=True)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logging.getLogger("dbos").addHandler(handler)
    return handler
