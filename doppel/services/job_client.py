"""The queue of jobs as the bot of one workspace asks for them."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from doppel.app_context import AppContext
from doppel.errors import JobError
from doppel.services import forgetting
from doppel.services.jobs import label, line_of, request_of, training_of

if TYPE_CHECKING:
    from doppel.jobs.queue import Job, Jobs
    from doppel.records import User


class JobClient:
    """The jobs of one workspace: no other's are seen. That of the token in the settings `is_own`, and has also those
    that the operator asks for.
    """

    def __init__(self, context: AppContext, team: str, is_own: bool) -> None:
        self._context, self._team, self._is_own = context, team, is_own

    def ask(self, kind: str) -> tuple[str, bool]:
        """Queue a sync or a reindex, or find an equal one; returns its id, and whether it is a new one."""
        return self._ask(kind, label("" if self._is_own else self._team))

    def train(self, person: User) -> str:
        """Queue the training of somebody; returns the job's id."""
        return self._ask("train", training_of(person))[0]

    def clean(self, revision: int) -> str | None:
        """Queue the reindex that takes out what was forgotten; returns its id, None where there is no index."""
        return forgetting.ask_reindex(self._context, revision)

    def ended(self, job_ids: Collection[str]) -> dict[str, str]:
        """What those of the jobs came to that are neither queued nor run."""
        with self._jobs() as jobs:
            found = jobs.these(job_ids)
            told = {job.id: _outcome(jobs, job) for job in found if job.has_ended}
        unknown = set(job_ids) - {job.id for job in found}
        return told | {job_id: f"Job {job_id} is not known any more." for job_id in unknown}

    def lines(self) -> list[str]:
        """The jobs that are queued or run."""
        with self._jobs() as jobs:
            return [line_of(job) for job in jobs.all() if not job.has_ended and self._is_ours(job)]

    def cancel(self, beginning: str) -> str:
        """Cancel the job whose id begins so."""
        with self._jobs() as jobs:
            job = jobs.find(beginning)
            if not self._is_ours(job):
                raise JobError(f'No job of this workspace has an id that begins with "{beginning}".')
            job = jobs.cancel(job)
        return f"Job {job.id} ({job.kind}) is {job.status}."

    def _ask(self, kind: str, words: list[str]) -> tuple[str, bool]:
        with self._jobs() as jobs:
            job, is_new = jobs.ask(request_of(self._context.settings, kind, words))
        return job.id, is_new

    def _is_ours(self, job: Job) -> bool:
        from doppel.jobs.queue import team_of

        team = team_of(job.arguments)
        return team == self._team or (team is None and self._is_own)

    def _jobs(self) -> Jobs:
        from doppel.jobs.queue import Jobs

        return Jobs(self._context.settings)


def _outcome(jobs: Jobs, job: Job) -> str:
    result = jobs.result(job.id) if job.status == "done" else None
    said = result["text"] if result else job.error or ""
    return f"Job {job.id} ({job.kind}) is {job.status}. {said}".strip()
