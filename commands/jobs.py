"""Jobs: which commands are jobs, how they are asked for, and what can be done with them."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.run import Detach, Run, command
from doppel.config import PREFIX, Settings, interval_seconds
from doppel.console import Result
from doppel.plain_text import line, lines

if TYPE_CHECKING:
    from doppel.jobs.queue import Job, Jobs, Request
    from doppel.jobs.schedule import Schedule, Scheduled
    from doppel.records import User

app = typer.Typer()
jobs_app = typer.Typer(help="Syncs, reindexes and trainings: queued, running and done.", no_args_is_help=True)
app.add_typer(jobs_app, name="jobs")

JobId = Annotated[str, typer.Argument(metavar="ID", help="A job's id, or enough of its beginning.")]

COMMAND = (sys.executable, str(Path(__file__).resolve().parent.parent / "app.py"))

KINDS: dict[str, tuple[str, ...]] = {
    "sync": ("sync_horizon_days",),
    "reindex": ("embedding_model", "device", "keep_versions"),
    "train": (
        "base_model",
        "device",
        "keep_versions",
        "learning_rate",
        "load_in_4bit",
        "lora_",
        "min_answer_chars",
        "min_examples",
        "seed",
        "train_",
    ),
}
"""The commands that are jobs, each with the beginnings of the settings that it takes along from who asks for it: the
worker may run with others. Everything else, keys above all, is the worker's."""


def as_job(run: Run, kind: str, words: list[str], detach: bool) -> Result:
    """Ask for a job, and wait for what it comes to unless told otherwise."""
    from doppel.jobs.queue import Jobs

    with Jobs(run.settings) as jobs:
        job, is_new = jobs.ask(request_of(run.settings, kind, words))
        return _take(run, jobs, job, is_new, detach)


def training_of(person: User) -> list[str]:
    """The words of the job that trains somebody."""
    return ["--user", person.id, "--team", person.team]


def schedule_of(run: Run) -> Schedule:
    """When a running server asks for what."""
    from doppel.jobs.schedule import Schedule

    return Schedule(lambda: scheduled(run))


def scheduled(run: Run) -> list[Scheduled]:
    """What a running server asks for by itself, as things stand."""
    from doppel.jobs.schedule import Scheduled

    settings, entries = run.settings, []
    if every := interval_seconds(settings.sync_every):
        entries += [Scheduled(request_of(settings, "sync", words), every) for words in syncs_of(run)]
    if every := interval_seconds(settings.reindex_every):
        entries.append(Scheduled(request_of(settings, "reindex", []), every, lambda: _has_changed(run)))
    return entries


def syncs_of(run: Run) -> list[list[str]]:
    """The words of the jobs that sync every workspace: that of the token in the settings, and those that installed
    the app."""
    own: list[list[str]] = [[]] if run.settings.slack_bot_token.get_secret_value() else []
    if not run.settings.slack_client_id:
        return [[]]
    from doppel.archive.installations import active

    with run.archive() as archive:
        return own + [["--team", found.team] for found in active(archive.installations.all()) if found.bot_token]


@command(jobs_app, "list")
def jobs_list(run: Run) -> Result:
    """Show the jobs that wait or run, and the last that ended, newest first."""
    from doppel.jobs.queue import Jobs

    with Jobs(run.settings) as jobs:
        found = jobs.all()
    return Result({"jobs": [asdict(job) for job in found]}, lines(map(line_of, found)) or "No job yet.")


@command(jobs_app, "show")
def jobs_show(run: Run, job_id: JobId) -> Result:
    """Show one job with its result and the end of its log."""
    from doppel.jobs.queue import Jobs
    from doppel.jobs.state import JobFiles

    with Jobs(run.settings) as jobs:
        job = jobs.find(job_id)
        result = jobs.result(job.id) if job.status == "done" else None
    log = JobFiles.of(run.settings, job.id).log_tail()
    told = [line(line_of(job)), result["text"] if result else None, log]
    text = "\n".join(filter(None, told))
    return Result(asdict(job) | {"log": log, "result": result["data"] if result else None}, text)


@command(jobs_app, "cancel")
def jobs_cancel(run: Run, job_id: JobId) -> Result:
    """End a job, or take it out of the queue; what it has saved stays, and a retry goes on from there."""
    from doppel.jobs.queue import Jobs

    with Jobs(run.settings) as jobs:
        job = jobs.cancel(jobs.find(job_id))
    return Result(asdict(job), f"Cancelled {job.id} ({_command(job)}).")


@command(jobs_app, "retry")
def jobs_retry(run: Run, job_id: JobId, detach: Detach = False) -> Result:
    """Ask again for what a job that failed or was cancelled was to do, and wait for it."""
    from doppel.jobs.queue import Jobs

    with Jobs(run.settings) as jobs:
        job, is_new = jobs.retry(jobs.find(job_id))
        return _take(run, jobs, job, is_new, detach)


@command(jobs_app, "work", hidden=True)
def jobs_work(run: Run) -> Result:
    """Work until no job is left, unless another process does."""
    from doppel.jobs.worker import drain

    return Result({"worked": drain(run.settings, COMMAND)})


def _take(run: Run, jobs: Jobs, job: Job, is_new: bool, detach: bool) -> Result:
    from doppel.jobs.waiting import follow
    from doppel.jobs.worker import work_detached

    if not detach:
        result = follow(jobs, job, is_new, run.console, COMMAND)
        return Result(result["data"], result["text"])
    work_detached(run.settings, COMMAND)
    text = f"Job {job.id} is {job.status}; `doppel jobs show {job.id}` tells how it goes."
    return Result({"job": job.id, "kind": job.kind, "status": job.status}, text)


def request_of(settings: Settings, kind: str, words: list[str]) -> Request:
    """What to ask for: a command that is a job, with the settings that it takes along."""
    from doppel.jobs.queue import Request

    taken = {
        f"{PREFIX}{name.upper()}": value if isinstance(value, str) else json.dumps(value)
        for name, value in settings.model_dump(mode="json").items()
        if name.startswith(KINDS[kind])
    }
    queue = f"train-{_device(settings)}" if kind == "train" else kind
    return Request(kind, tuple(words), taken, str(Path.cwd()), queue)


def _device(settings: Settings) -> str:
    from doppel.server import has_cuda

    if settings.device != "auto":
        return settings.device
    return "cuda" if has_cuda() else "cpu"


def _has_changed(run: Run) -> bool:
    """Whether the archive holds anything that the index doesn't."""
    from indexing.reindex import is_due

    with run.archive() as archive:
        return is_due(run.index(), archive.revision())


def line_of(job: Job) -> str:
    """One job on one line."""
    progress = f" {100 * job.progress:.0f} %" if job.progress is not None and job.status == "running" else ""
    note = f"  {job.note}" if job.note and job.status == "running" else ""
    note = f"  {job.error}" if job.error else note
    return f"{job.id}  {job.created}  {job.status}{progress}  {_command(job)}{note}"


def _command(job: Any) -> str:
    return " ".join([job.kind, *job.arguments])
