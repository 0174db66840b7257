"""Slack, heard and answered while the server runs."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from commands import forgetting
from commands.jobs import line_of, request_of
from commands.run import Run, command
from doppel.console import Result

if TYPE_CHECKING:
    from fastapi import FastAPI

    from doppel.archive.archive import Archive
    from doppel.bot.writing import Engine
    from doppel.consent import Receipt
    from doppel.jobs.queue import Job, Jobs
    from doppel.records import User
    from doppel.surfaces.bot import Bot, Client, Identity
    from doppel.sync.feed import EventFeed

app = typer.Typer()
slack_app = typer.Typer(help="The Slack app.", no_args_is_help=True)
app.add_typer(slack_app, name="slack")

RETRY_SECONDS = 30.0


@command(slack_app, "manifest")
def slack_manifest(
    run: Run,
    name: Annotated[str, typer.Option(help="What the bot is called.")] = "doppel",
    url: Annotated[str, typer.Option(help="The server's public https address; without it, Socket Mode.")] = "",
) -> Result:
    """Print the manifest to create the Slack app from: api.slack.com/apps, Create New App, From a manifest."""
    from doppel.errors import BadInputError
    from doppel.slack.manifest import SCOPES, manifest

    if url and not url.startswith("https://"):
        raise BadInputError("Slack sends its requests to https addresses only; give --url https://…, or leave it out.")
    made = manifest(name, url)
    for scope, reason in SCOPES.items():
        run.console.say(f"{scope}: {reason}")
    return Result({"manifest": made}, json.dumps(made, indent=2))


def hears_slack(run: Run) -> bool:
    """Whether the settings say how Slack's events come."""
    settings = run.settings
    return bool(
        settings.slack_bot_token.get_secret_value()
        and (settings.slack_app_token.get_secret_value() or settings.slack_signing_secret.get_secret_value())
    )


async def hear_slack(run: Run, archive: Archive, page: FastAPI, engine: Engine) -> None:
    """Keep the archive current by Slack's events, and answer in Slack, until this is cancelled.

    `page` takes what comes by HTTP.
    """
    from doppel.surfaces.bot import bot_client, mount_events

    settings = run.settings
    client = bot_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    identity = await _identity(run, client)
    async with _bot(run, archive, engine, client, identity) as (bot, feed):
        if settings.slack_app_token.get_secret_value():
            await _by_socket(run, bot, feed)
        mount_events(page, bot)
        feed.begin()
        run.console.say("Slack's events are heard at /slack/events.")
        await asyncio.Event().wait()


@asynccontextmanager
async def _bot(
    run: Run, archive: Archive, engine: Engine, client: Client, identity: Identity
) -> AsyncIterator[tuple[Bot, EventFeed]]:
    """The parts of the bot put together, and at work."""
    from doppel.bot.answering import Answering
    from doppel.bot.commands import Commands
    from doppel.bot.consenting import Consenting
    from doppel.bot.desk import Notices
    from doppel.bot.inbox import Inbox
    from doppel.bot.receiving import Receiver
    from doppel.surfaces.bot import build_bot
    from doppel.sync.feed import EventFeed

    team, bot_user, desk = identity.team, identity.bot_user, JobDesk(run)
    store = archive.bot(team)
    feed = EventFeed(archive.events(team), bot_user, lambda: _ask_sync(run))
    inbox, notices = Inbox(store), Notices(desk, store, client)
    answering = Answering(engine, archive, client, team, bot_user)
    withdraw, forget = functools.partial(_withdraw, run, archive), functools.partial(_forget, run, archive)
    consenting = Consenting(
        archive, run.adapters(), client, team, lambda request: commands.agreed(request), withdraw, forget
    )
    commands = Commands(archive, engine, client, team, bot_user, answering, consenting, desk, notices)
    receiver = Receiver(archive, team, bot_user, feed, inbox, answering, commands, consenting)
    bot = build_bot(client, run.settings.slack_signing_secret.get_secret_value(), receiver)
    async with feed.running(), inbox.running(), answering.running():
        telling = asyncio.create_task(notices.keep_telling())
        try:
            yield bot, feed
        finally:
            telling.cancel()


async def _withdraw(run: Run, archive: Archive, person: User, by: str) -> int:
    from doppel.consent import revoke

    _, gone = await asyncio.to_thread(revoke, archive, run.adapters(), person, by)
    await forgetting.unload(run, person, gone)
    return len(gone)


async def _forget(run: Run, archive: Archive, person: User, messages: bool, by: str) -> Receipt:
    receipt = await asyncio.to_thread(forgetting.forget, run, archive, person, messages, by)
    await forgetting.unload(run, person, receipt.adapters)
    return receipt


async def _identity(run: Run, client: Client) -> Identity:
    from doppel.surfaces.bot import identify

    told = ""
    while isinstance(found := await identify(client), str):
        if found != told:
            run.console.say(f"Slack is not heard yet ({found}); is SLACK_BOT_TOKEN right? Trying again now and then.")
        told = found
        await asyncio.sleep(RETRY_SECONDS)
    return found


async def _by_socket(run: Run, bot: Bot, feed: EventFeed) -> None:
    """Stay connected until this is cancelled."""
    from doppel.surfaces.bot import TROUBLE, socket_mode

    token, told = run.settings.slack_app_token.get_secret_value(), ""
    while True:
        try:
            async with socket_mode(bot, token, feed.begin, feed.end):
                run.console.say("Slack's events are heard by Socket Mode.")
                await asyncio.Event().wait()
        except TROUBLE as error:
            if str(error) != told:
                run.console.say("Slack lets nobody connect; is SLACK_APP_TOKEN right? Trying again now and then.")
            told = str(error)
            await asyncio.sleep(RETRY_SECONDS)


class JobDesk:
    """The queue of jobs of a data folder, as the bot asks for them."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def ask(self, kind: str, words: list[str]) -> str:
        """Queue a job, or find an equal one; returns its id."""
        from doppel.jobs.queue import Jobs

        with Jobs(self._run.settings) as jobs:
            return jobs.ask(request_of(self._run.settings, kind, words))[0].id

    def clean(self, revision: int) -> str | None:
        """Queue the reindex that takes out what was forgotten; returns its id, None where there is no index."""
        return forgetting.ask_reindex(self._run, revision)

    def ended(self, job_ids: Collection[str]) -> dict[str, str]:
        """What those of the jobs came to that are neither queued nor run."""
        from doppel.jobs.queue import Jobs

        with Jobs(self._run.settings) as jobs:
            found = jobs.these(job_ids)
            told = {job.id: _outcome(jobs, job) for job in found if job.has_ended}
        unknown = set(job_ids) - {job.id for job in found}
        return told | {job_id: f"Job {job_id} is not known any more." for job_id in unknown}

    def lines(self) -> list[str]:
        """The jobs that are queued or run."""
        from doppel.jobs.queue import Jobs

        with Jobs(self._run.settings) as jobs:
            return [line_of(job) for job in jobs.all() if not job.has_ended]

    def cancel(self, beginning: str) -> str:
        """Cancel the job whose id begins so."""
        from doppel.jobs.queue import Jobs

        with Jobs(self._run.settings) as jobs:
            job = jobs.cancel(jobs.find(beginning))
        return f"Job {job.id} ({job.kind}) is {job.status}."


def _outcome(jobs: Jobs, job: Job) -> str:
    result = jobs.result(job.id) if job.status == "done" else None
    said = result["text"] if result else job.error or ""
    return f"Job {job.id} ({job.kind}) is {job.status}. {said}".strip()


def _ask_sync(run: Run) -> bool:
    from doppel.jobs.queue import Jobs

    with Jobs(run.settings) as jobs:
        return jobs.ask(request_of(run.settings, "sync", []))[1]
