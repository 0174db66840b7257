"""Jobs: what each kind takes along, who asks for them, and when a running server asks by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from doppel.app_context import COMMAND, AppContext
from doppel.config import PREFIX, Settings, interval_seconds
from doppel.console import Result

if TYPE_CHECKING:
    from doppel.jobs.queue import Job, Jobs, Request
    from doppel.jobs.schedule import Schedule, Scheduled
    from doppel.records import User

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


def as_job(context: AppContext, kind: str, words: list[str], detach: bool) -> Result:
    """Ask for a job, and wait for what it comes to unless told otherwise."""
    from doppel.jobs.queue import Jobs

    with Jobs(context.settings) as jobs:
        job, is_new = jobs.ask(request_of(context.settings, kind, words))
        return take(context, jobs, job, is_new, detach)


def take(context: AppContext, jobs: Jobs, job: Job, is_new: bool, detach: bool) -> Result:
    """Wait for a job that was asked for, and return its result; or leave it to a process of its own."""
    from doppel.jobs.waiting import follow
    from doppel.jobs.worker import work_detached

    if not detach:
        result = follow(jobs, job, is_new, context.console, COMMAND)
        return Result(result["data"], result["text"])
    work_detached(context.settings, COMMAND)
    text = f"Job {job.id} is {job.status}; `doppel jobs show {job.id}` tells how it goes."
    return Result({"job": job.id, "kind": job.kind, "status": job.status}, text)


def training_of(person: User) -> list[str]:
    """The words of the job that trains somebody."""
    return ["--user", person.id, "--team", person.team]


def schedule_of(context: AppContext) -> Schedule:
    """When a running server asks for what."""
    from doppel.jobs.schedule import Schedule

    return Schedule(lambda: scheduled(context))


def scheduled(context: AppContext) -> list[Scheduled]:
    """What a running server asks for by itself, as things stand."""
    from doppel.jobs.schedule import Scheduled

    settings, entries = context.settings, []
    if every := interval_seconds(settings.sync_every):
        entries += [Scheduled(request_of(settings, "sync", words), every) for words in syncs_of(context)]
    if every := interval_seconds(settings.reindex_every):
        entries.append(Scheduled(request_of(settings, "reindex", []), every, lambda: _has_changed(context)))
    return entries


def syncs_of(context: AppContext) -> list[list[str]]:
    """The words of the jobs that sync every workspace: that of the token in the settings, and those that installed
    the app."""
    own: list[list[str]] = [[]] if context.settings.slack_bot_token.get_secret_value() else []
    if not context.settings.slack_client_id:
        return [[]]
    from doppel.archive.installations import active

    with context.archive() as archive:
        return own + [["--team", found.team] for found in active(archive.installations.all()) if found.bot_token]


def label(team: str) -> list[str]:
    """The words that say for which workspace a job is; none for that of the token in the settings."""
    return ["--team", team] if team else []


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
    from doppel.inference.vllm_process import has_cuda

    if settings.device != "auto":
        return settings.device
    return "cuda" if has_cuda() else "cpu"


def line_of(job: Job) -> str:
    """One job on one line."""
    progress = f" {100 * job.progress:.0f} %" if job.progress is not None and job.status == "running" else ""
    note = f"  {job.note}" if job.note and job.status == "running" else ""
    note = f"  {job.error}" if job.error else note
    return f"{job.id}  {job.created}  {job.status}{progress}  {in_words(job)}{note}"


def _has_changed(context: AppContext) -> bool:
    """Whether the archive holds anything that the index doesn't."""
    with context.archive() as archive:
        return context.is_index_due(archive.revision())


def in_words(job: Job) -> str:
    return " ".join([job.kind, *job.arguments])
