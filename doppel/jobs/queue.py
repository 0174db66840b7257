"""The queue of jobs: asked for, listed, cancelled and asked for again. With the worker, owner of DBOS."""

from __future__ import annotations

import hashlib
import json
import secrets
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from dbos import DBOS, DBOSClient, DBOSPortableJSONSerializer, WorkflowStatus

from doppel.config import Settings
from doppel.errors import JobError
from doppel.jobs.child import GRACE_SECONDS
from doppel.jobs.database import (
    ID_BYTES,
    application_name,
    database_errors,
    database_url,
    is_worked,
    quiet_logger,
    scrub,
)
from doppel.jobs.state import JobFiles
from doppel.logs import pattern_of
from doppel.records import User

WORKFLOW = "doppel-job"
KEPT = 200
"""Jobs that ended and are still listed; older ones are forgotten, with their logs."""
POLL_SECONDS = 0.3
QUEUE_POLL_SECONDS = 0.5
SLACK_SECONDS = 2.0

_STATUS = {
    "ENQUEUED": "queued",
    "DELAYED": "queued",
    "PENDING": "running",
    "SUCCESS": "done",
    "CANCELLED": "cancelled",
}
_ACTIVE = ["ENQUEUED", "DELAYED", "PENDING"]
_ENDED = ["SUCCESS", "ERROR", "CANCELLED", "MAX_RECOVERY_ATTEMPTS_EXCEEDED"]


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: a command of Doppel's (`kind` and its `words`), the settings it must have, as environment
    variables, the folder it is asked for in, and the queue, whose jobs run one after the other."""

    kind: str
    words: tuple[str, ...]
    environ: dict[str, str]
    folder: str
    queue: str

    @property
    def key(self) -> str:
        """Equal for requests for the same work."""
        return hashlib.sha256(json.dumps([self.kind, self.words, self.environ], sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Job:
    """One job, as people and programs see it; `progress` is from 0 to 1, times are ISO 8601 in UTC."""

    id: str
    kind: str
    arguments: list[str]
    status: str
    progress: float | None
    note: str
    created: str
    started: str | None
    ended: str | None
    error: str | None

    @property
    def has_ended(self) -> bool:
        return self.status not in ("queued", "running")


class Jobs:
    """The jobs of one data folder. Methods raise JobError where their database can't be used."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.application = application_name(settings)
        self.url = database_url(settings)
        quiet_logger()
        with database_errors(self.url):
            DBOS.migrate(self.url)
            self._client = DBOSClient(
                system_database_url=self.url,
                serializer=DBOSPortableJSONSerializer(),
                application_name=self.application,
                retry_connection_errors=False,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self._client.destroy()

    def ask(self, request: Request) -> tuple[Job, bool]:
        """Queue a job; an equal one that is queued or running is returned instead. Also whether it is a new one."""
        job_id, queue = secrets.token_hex(ID_BYTES), f"{self.application}-{request.queue}"
        with database_errors(self.url):
            self._client.register_queue(queue, worker_concurrency=1, polling_interval_sec=QUEUE_POLL_SECONDS)
            handle: Any = self._client.enqueue(
                {
                    "workflow_name": WORKFLOW,
                    "workflow_id": job_id,
                    "workflow_id_reuse_policy": "reject",
                    "queue_name": queue,
                    "deduplication_id": request.key,
                    "duplication_policy": "return-existing",
                },
                request.kind,
                list(request.words),
                request.environ,
                request.folder,
                request.queue,
            )
        return self.get(handle.workflow_id), handle.workflow_id == job_id

    def retry(self, job: Job) -> tuple[Job, bool]:
        """Ask again for what a failed or cancelled job was to do."""
        if job.status not in ("failed", "cancelled"):
            raise JobError(f"Job {job.id} is {job.status}; only one that failed or was cancelled can be tried again.")
        kind, words, environ, folder, queue = self._one(job.id).input["args"]
        return self.ask(Request(kind, tuple(words), environ, folder, queue))

    def cancel(self, job: Job) -> Job:
        """Cancel a job, and wait until the worker has ended its process: GRACE_SECONDS and a little more at most."""
        if job.has_ended:
            raise JobError(f"Job {job.id} is {job.status} already; there is nothing to cancel.")
        with database_errors(self.url):
            self._client.cancel_workflow(job.id)
        deadline = time.monotonic() + GRACE_SECONDS + SLACK_SECONDS
        while JobFiles.of(self.settings, job.id).read().is_alive and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)
        return self.get(job.id)

    def get(self, job_id: str) -> Job:
        """The job with exactly that id."""
        return self._job(self._one(job_id))

    def these(self, job_ids: Collection[str]) -> list[Job]:
        """The jobs with those ids, as many of them as are known."""
        return [self._job(row) for row in self._list(workflow_ids=list(job_ids))] if job_ids else []

    def find(self, beginning: str) -> Job:
        """The one job whose id begins so."""
        found = self._list(workflow_id_prefix=beginning, load_input=False, load_output=False) if beginning else []
        if len(found) != 1:
            how_many = "No job's id begins" if not found else f"The ids of {len(found)} jobs begin"
            raise JobError(f'{how_many} with "{beginning}"; `doppel jobs list` shows them.')
        return self.get(found[0].workflow_id)

    def all(self) -> list[Job]:
        """The jobs that are queued or running and the KEPT newest others, newest first."""
        active = self._list(status=_ACTIVE, sort_desc=True)
        return [self._job(row) for row in active + self._list(status=_ENDED, sort_desc=True, limit=KEPT)]

    def active(self) -> bool:
        """Whether any job is queued or running."""
        return bool(self._list(status=_ACTIVE, limit=1, load_input=False, load_output=False))

    def is_cancelled(self, job_id: str) -> bool:
        """Whether a job was cancelled; cheaper than `get`."""
        rows = self._list(workflow_ids=[job_id], load_input=False, load_output=False)
        return not rows or rows[0].status == "CANCELLED"

    def result(self, job_id: str) -> dict[str, Any] | None:
        """What a job that is done came to: `data` for programs, `text` for people."""
        output: dict[str, Any] | None = self._one(job_id).output
        return output

    def last_asked(self, request: Request) -> float | None:
        """When the newest job of the kind was asked for, for the same workspace; a Unix time."""
        rows: list[Any] = list(self._list(sort_desc=True, load_output=False))
        wanted = (request.kind, team_of(request.words))
        asked = ((row.created_at / 1000, row.input["args"][:2]) for row in rows)
        return next((at for at, (kind, words) in asked if (kind, team_of(words)) == wanted), None)

    def forget_person(self, user: User) -> int:
        """Delete the jobs that have ended and were about somebody, or whose records name them, as those of earlier
        versions do; returns how many there were.
        """
        pattern = pattern_of(user.names)

        def is_theirs(row: Any) -> bool:
            words = _input(row)[1]
            about = user.id in words and team_of(words) in (None, user.team)
            return about or (pattern is not None and pattern.search(self._told(row)) is not None)

        return self._delete([row for row in self._list(status=_ENDED) if is_theirs(row)])

    def forget_team(self, team: str) -> int:
        """Delete the jobs of a workspace that have ended; returns how many there were."""
        rows = self._list(status=_ENDED, load_output=False)
        return self._delete([row for row in rows if team_of(_input(row)[1]) == team])

    def scrub(self) -> None:
        """Overwrite what deleted jobs left in the database's files. Raises JobError while others use it."""
        with database_errors(self.url):
            scrub(self.url)

    def forget_old(self) -> None:
        """Delete all but the KEPT newest jobs that ended."""
        old = self._list(status=_ENDED, sort_desc=True, offset=KEPT, limit=KEPT, load_input=False, load_output=False)
        self._delete(old)

    def _told(self, row: Any) -> str:
        """All that is kept of a job."""
        files = JobFiles.of(self.settings, row.workflow_id)
        return repr((row.input, row.output, row.error, files.read())) + files.log_tail()

    def _delete(self, rows: Sequence[Any]) -> int:
        for row in rows:
            JobFiles.of(self.settings, row.workflow_id).delete()
        if rows:
            with database_errors(self.url):
                self._client.delete_workflows([row.workflow_id for row in rows])
        return len(rows)

    def _one(self, job_id: str) -> Any:
        rows = self._list(workflow_ids=[job_id])
        if not rows:
            raise JobError(f"There is no job {job_id}.")
        return rows[0]

    def _list(self, **options: Any) -> list[WorkflowStatus]:
        with database_errors(self.url):
            return self._client.list_workflows(name=WORKFLOW, application_name=self.application, **options)

    def _job(self, row: Any) -> Job:
        kind, words = row.input["args"][:2]
        status = _STATUS.get(row.status, "failed")
        if status == "running" and not is_worked(self.settings):
            status = "queued"
        state = JobFiles.of(self.settings, row.workflow_id).read()
        return Job(
            id=row.workflow_id,
            kind=kind,
            arguments=words,
            status=status,
            progress=1.0 if status == "done" else state.progress,
            note=f"{state.what} {state.note}".strip(),
            created=_iso(row.created_at) or "",
            started=_iso(row.dequeued_at),
            ended=_iso(row.completed_at),
            error=_sentence(row, status),
        )


def _input(row: Any) -> list[Any]:
    args: list[Any] = row.input["args"]
    return args


def team_of(words: Sequence[str]) -> str | None:
    """The workspace that the words of a job name, if they do."""
    named = [after for word, after in pairwise(words) if word == "--team"]
    return named[0] if named else None


def _iso(milliseconds: int | None) -> str | None:
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="seconds")


def _sentence(row: Any, status: str) -> str | None:
    if status != "failed":
        return None
    return str(getattr(row.error, "message", row.error) or "It was started too often without coming to an end.")
