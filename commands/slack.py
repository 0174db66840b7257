"""Slack heard while the server runs."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from commands.jobs import request_of
from commands.run import Run

if TYPE_CHECKING:
    from fastapi import FastAPI

    from doppel.archive.archive import Archive
    from doppel.bot.answering import Engine
    from doppel.surfaces.bot import Bot, Client, Identity
    from doppel.sync.feed import EventFeed

RETRY_SECONDS = 30.0


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
    from doppel.bot.answering import Answering
    from doppel.bot.inbox import Inbox
    from doppel.bot.receiving import Receiver
    from doppel.surfaces.bot import bot_client, build_bot, mount_events
    from doppel.sync.feed import EventFeed

    settings = run.settings
    client = bot_client(settings.slack_bot_token.get_secret_value(), settings.slack_api_url)
    identity = await _identity(run, client)
    feed = EventFeed(archive.events(identity.team), identity.bot_user, lambda: _ask_sync(run))
    inbox = Inbox(archive.bot(identity.team))
    answering = Answering(engine, archive, client, identity.team, identity.bot_user)
    receiver = Receiver(archive, identity.team, identity.bot_user, feed, inbox, answering)
    secret = settings.slack_signing_secret.get_secret_value()
    bot = build_bot(client, secret, receiver.take, receiver.vote)
    async with feed.running(), inbox.running(), answering.running():
        if settings.slack_app_token.get_secret_value():
            await _by_socket(run, bot, feed)
        mount_events(page, bot)
        feed.begin()
        run.console.say("Slack's events are heard at /slack/events.")
        await asyncio.Event().wait()


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


def _ask_sync(run: Run) -> bool:
    from doppel.jobs.queue import Jobs

    with Jobs(run.settings) as jobs:
        return jobs.ask(request_of(run.settings, "sync", []))[1]
