"""What can be done with jobs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from commands.run import Detach, command
from doppel.app_context import COMMAND, AppContext
from doppel.console import Result
from doppel.plain_text import line, lines
from doppel.services.jobs import in_words, line_of, take

app = typer.Typer()
jobs_app = typer.Typer(help="Syncs, reindexes and trainings: queued, running and done.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")

JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, or enough of its beginning.")]


@command(jobs_app, "list")
def jobs_list(context: AppContext) -> Result:
    """Show the jobs that wait or run, and the last that ended, newest first."""
    from doppel.jobs.queue import Jobs

    with Jobs(context.settings) as jobs:
        found = jobs.all()
    return Result({"jobs": [asdict(job) for job in found]}, lines(map(line_of, found)) or "No job yet.")


@command(jobs_app, "show")
def jobs_show(context: AppContext, job_id: JobId) -> Result:
    """Show one job with its result and the end of its log."""
    from doppel.jobs.queue import Jobs
    from doppel.jobs.state import JobFiles

    with Jobs(context.settings) as jobs:
        job = jobs.find(job_id)
        result = jobs.result(job.id) if job.status == "done" else None
    log = JobFiles.of(context.settings, job.id).log_tail()
    told = [line(line_of(job)), result["text"] if result else None, log]
    text = "\n".join(filter(None, told))
    return Result(asdict(job) | {"log": log, "result": result["data"] if result else None}, text)


@command(jobs_app, "cancel")
def jobs_cancel(context: AppContext, job_id: JobId) -> Result:
    """End a job, or take it out of the queue; what it has saved stays, and a retry goes on from there."""
    from doppel.jobs.queue import Jobs

    with Jobs(context.settings) as jobs:
        job = jobs.cancel(jobs.find(job_id))
    return Result(asdict(job), f"Cancelled {job.id} ({in_words(job)}).")


@command(jobs_app, "retry")
def jobs_retry(context: AppContext, job_id: JobId, detach: Detach = False) -> Result:
    """Ask again for what a job that failed or was cancelled was to do, and wait for it."""
    from doppel.jobs.queue import Jobs

    with Jobs(context.settings) as jobs:
        job, is_new = jobs.retry(jobs.find(job_id))
        return take(context, jobs, job, is_new, detach)


@command(jobs_app, "work", hidden=True)
def jobs_work(context: AppContext) -> Result:
    """Work until no job is left, unless another process does."""
    from doppel.jobs.worker import drain

    return Result({"worked": drain(context.settings, COMMAND)})
