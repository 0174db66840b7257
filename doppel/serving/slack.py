"""Slack, heard and answered while the server runs."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from doppel.app_context import AppContext
from doppel.errors import DoppelError
from doppel.services import forgetting, workspaces
from doppel.services.job_client import JobClient
from doppel.serving.web import queue_of
from doppel.timestamps import now_micros

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from fastapi import FastAPI

    from doppel.archive.archive import Archive
    from doppel.bot.bolt_app import Bot, Client
    from doppel.bot.workspaces import Connected, Parts, Workspaces
    from doppel.bot.writing import Engines
    from doppel.config import Settings
    from doppel.fair_queue import FairQueue
    from doppel.records import User
    from doppel.services.forgetting import Receipt
    from doppel.services.tokens import Tokens
    from doppel.serving.identity import Identity

RETRY_SECONDS = 30.0
TOKEN_SECONDS = 60.0
"""How often it is looked whether a workspace has a new token."""
ERASE_SECONDS = 3600.0


def hears_slack(context: AppContext) -> bool:
    """Whether the settings say how Slack's events come."""
    settings = context.settings
    return bool(
        (settings.slack_bot_token.get_secret_value() or settings.slack_client_id)
        and (settings.slack_app_token.get_secret_value() or settings.slack_signing_secret.get_secret_value())
    )


async def hear_slack(
    context: AppContext, archive: Archive, page: FastAPI, engine: Engines, queue: FairQueue | None = None
) -> None:
    """Keep the archive current by Slack's events, and answer in Slack, until this is cancelled.

    `page` takes what comes by HTTP; the places of `queue` may be shared with the web chat.
    """
    from doppel.bot.bolt_app import connections

    async with connections() as session:
        await _hear(page, _Slack(context, archive, engine, session, queue or queue_of(context.settings)))


async def _hear(page: FastAPI, slack: _Slack) -> None:
    from doppel.bot.bolt_app import build_bot, mount_events
    from doppel.bot.workspaces import Workspaces

    context, archive, settings = slack.context, slack.archive, slack.context.settings
    teams = Workspaces(slack.connected, slack.work, functools.partial(workspaces.remove, context, archive))
    bot = build_bot(settings.slack_api_url, settings.slack_signing_secret.get_secret_value(), teams)
    if settings.slack_client_id:
        await asyncio.to_thread(workspaces.tokens_of(context, archive).seal_again)
    beside = [asyncio.create_task(_keep_erasing(context, archive))]
    try:
        identifying = asyncio.create_task(slack.identify(teams))
        beside.append(identifying)
        if not settings.slack_client_id:
            await identifying
        async with teams.running():
            if settings.slack_app_token.get_secret_value():
                await _by_socket(context, bot, teams)
            mount_events(page, bot, teams.doubt)
            teams.begin()
            context.console.say("Slack's events are heard at /slack/events.")
            await asyncio.Event().wait()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


@dataclass
class _Slack:
    """Where the app is installed, and how it is put to work there. `own` is that of the token in the settings."""

    context: AppContext
    archive: Archive
    engine: Engines
    session: ClientSession
    queue: FairQueue
    own: Identity | None = None

    async def identify(self, teams: Workspaces) -> None:
        """Find out whose token is in the settings, if there is one."""
        if self.context.settings.slack_bot_token.get_secret_value():
            self.own = await _identity(self.context, self._own_client())
            await asyncio.to_thread(self._note_own, self.own)
            teams.wake()

    def connected(self) -> list[Connected]:
        """The workspaces in which the app is installed now; blocks."""
        from doppel.archive.installations import active
        from doppel.bot.workspaces import Connected

        found = active(self.archive.installations.all())
        usable = [f for f in found if f.bot_token or (self.own and f.team == self.own.team)]
        return [Connected(f.team, f.bot_user, f.installed_at) for f in usable]

    @asynccontextmanager
    async def work(self, place: Connected) -> AsyncIterator[Parts]:
        """The parts of the bot of one workspace put together, and at work."""
        from doppel.bot.answering import Answering
        from doppel.bot.commands import Commands
        from doppel.bot.consenting import Consenting
        from doppel.bot.drafting import Drafting
        from doppel.bot.inbox import Inbox
        from doppel.bot.job_notices import Notices, Trainings
        from doppel.bot.receiving import Receiver
        from doppel.bot.voting import Voting
        from doppel.bot.workspaces import Parts
        from doppel.ingest import EventStore
        from doppel.ingest.event_ingester import EventIngester

        context, archive, team, bot_user = self.context, self.archive, place.team, place.bot_user
        client, keep_token = await self._client(team)
        engine, jobs, store = self.engine.within(team), JobClient(context, team, keep_token is None), archive.bot(team)
        inbox, notices = Inbox(store), Notices(jobs, store, client)
        trainings = Trainings(jobs, notices)
        ingester = EventIngester(
            EventStore(archive, team), bot_user, lambda: jobs.ask("sync")[1], inbox.wait_until_idle
        )
        chars = context.settings.question_chars

        async def wait_until_idle() -> None:
            """What was said before a question is in the archive, or will be soon."""
            await inbox.wait_until_idle()
            await ingester.caught_up()

        answering = Answering(engine, archive, client, team, bot_user, wait_until_idle, self.queue)
        withdraw, forget = functools.partial(_withdraw, context, archive), functools.partial(_forget, context, archive)
        consenting = Consenting(archive, context.adapters(), client, team, trainings.begin, withdraw, forget)
        drafting = Drafting(engine, archive, client, team, self.queue, chars)
        commands = Commands(
            archive, engine, client, team, answering, consenting, drafting, jobs, notices, trainings, chars
        )
        voting = Voting(archive, team, _vote_secret(context.settings))
        receiver = Receiver(
            archive, team, bot_user, ingester, inbox, answering, commands, consenting, drafting, voting, chars
        )
        async with ingester.running(), inbox.running(), answering.running():
            beside = [asyncio.create_task(notices.keep_telling())]
            if keep_token:
                beside.append(asyncio.create_task(_keep_token(client, keep_token, team)))
            try:
                yield Parts(receiver, ingester)
            finally:
                for task in beside:
                    task.cancel()

    async def _client(self, team: str) -> tuple[Client, Tokens | None]:
        """Slack's API for a workspace, and where new tokens come from unless it is that of the settings."""
        found = await asyncio.to_thread(self.archive.installations.get, team)
        if found is None or not found.bot_token:
            return self._own_client(), None
        tokens = workspaces.tokens_of(self.context, self.archive)
        return self._with_token(await asyncio.to_thread(tokens.token, team)), tokens

    def _own_client(self) -> Client:
        return self._with_token(self.context.settings.slack_bot_token.get_secret_value())

    def _with_token(self, token: str) -> Client:
        from doppel.bot.bolt_app import bot_client

        return bot_client(token, self.context.settings.slack_api_url, self.session)

    def _note_own(self, own: Identity) -> None:
        """The token works, and so the app is installed."""
        from doppel.archive.installations import Installation

        if self.archive.installations.get(own.team) is None:
            now = now_micros()
            self.archive.installations.put(Installation(own.team, own.name, own.bot_user, installed_at=now))


def _vote_secret(settings: Settings) -> str:
    """What hears Slack: everything that serves has the same, and no archive or backup holds it."""
    return settings.slack_signing_secret.get_secret_value() or settings.slack_app_token.get_secret_value()


async def _keep_token(client: Client, tokens: Tokens, team: str) -> None:
    """Give `client` new tokens in time, until cancelled."""
    while True:
        await asyncio.sleep(TOKEN_SECONDS)
        # It is tried again; until it works the old token may do.
        with suppress(DoppelError):
            client.token = await asyncio.to_thread(tokens.token, team)


async def _keep_erasing(context: AppContext, archive: Archive) -> None:
    """Erase in time what is left of workspaces that removed the app, until cancelled."""
    while True:
        try:
            for team in await asyncio.to_thread(workspaces.erase_the_removed, context, archive):
                context.console.say(f"Deleted what was left of the workspace {team}, which removed the app.")
        except DoppelError as error:
            context.console.say(f"What is left of a workspace that removed the app could not be deleted: {error}")
        await asyncio.sleep(ERASE_SECONDS)


async def _withdraw(context: AppContext, archive: Archive, person: User, by: str) -> int:
    from doppel.services.consent import revoke

    _, gone = await asyncio.to_thread(revoke, archive, context.adapters(), person, by)
    await forgetting.unload(context, person, gone)
    return len(gone)


async def _forget(context: AppContext, archive: Archive, person: User, messages: bool, by: str) -> Receipt:
    receipt = await asyncio.to_thread(forgetting.forget, context, archive, person, messages, by)
    await forgetting.unload(context, person, receipt.adapters)
    return receipt


async def _identity(context: AppContext, client: Client) -> Identity:
    from doppel.serving.identity import identify

    told = ""
    while isinstance(found := await identify(client), str):
        if found != told:
            context.console.say(f"Slack is not heard yet: {found} Trying again now and then.")
        told = found
        await asyncio.sleep(RETRY_SECONDS)
    return found


async def _by_socket(context: AppContext, bot: Bot, teams: Workspaces) -> None:
    """Stay connected until this is cancelled."""
    from doppel.bot.bolt_app import socket_mode
    from doppel.slack.failing import FAILURES, reason

    token, told = context.settings.slack_app_token.get_secret_value(), ""
    while True:
        try:
            async with socket_mode(bot, token, teams.begin, teams.end):
                context.console.say("Slack's events are heard by Socket Mode.")
                await asyncio.Event().wait()
        except FAILURES as error:
            if str(error) != told:
                what = "SLACK_APP_TOKEN right" if reason(error) else "Slack reachable"
                context.console.say(f"Slack lets nobody connect; is {what}? Trying again now and then.")
            told = str(error)
            await asyncio.sleep(RETRY_SECONDS)
