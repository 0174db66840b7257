"""The web chat as it is served: who reads it, and what stands before it."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from doppel.app_context import AppContext
from doppel.errors import ConfigError
from doppel.services.workspaces import oauth_of, tokens_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from doppel.archive.archive import Archive
    from doppel.config import Settings
    from doppel.fair_queue import FairQueue
    from doppel.records import Persona
    from doppel.web.auth import Auth
    from doppel.web.chat_session import Engines
    from doppel.web.page import Readers


def queue_of(settings: Settings) -> FairQueue:
    """The places that everybody who asks shares, in the web chat and in Slack."""
    from doppel.fair_queue import FairQueue

    return FairQueue(settings.answers_at_once, settings.questions_waiting)


def web_page(
    context: AppContext,
    archive: Archive,
    engine: Engines,
    status: Callable[[], str] | None = None,
    queue: FairQueue | None = None,
) -> FastAPI:
    """The web chat, with what stands before it: signing in, or else that only this machine may read.

    The places of `queue` may be shared with Slack.
    """
    # Gradio's default is a folder that all users of the machine share.
    os.environ.setdefault("GRADIO_TEMP_DIR", str(context.settings.run_dir / "gradio"))
    from doppel.web.auth import HereOnly, SignedInOnly
    from doppel.web.page import build_app

    def keep(
        persona: Persona,
        question: str,
        reply: str,
        sources: Sequence[str],
        liked: bool | None,
        replaces: int | None = None,
    ) -> int:
        kept = archive.add_feedback(
            persona.team,
            persona.user_id,
            version=persona.version,
            question=question,
            reply=reply,
            sources=sources,
            liked=liked,
            replaces=replaces,
        )
        return kept.id

    auth, settings = _auth(context, archive), context.settings
    page = build_app(
        readers_of(context, archive, engine),
        keep,
        status,
        settings.web_examples,
        signs_in=auth is not None,
        public_url=settings.public_url,
        question_chars=settings.question_chars,
        queue=queue or queue_of(settings),
    )
    if auth:
        auth.mount(page)
        page.add_middleware(SignedInOnly, visitor=auth.visitor)
    elif not settings.web_open_to_anyone:
        page.add_middleware(HereOnly)
    return page


def require_signing_in(context: AppContext, host: str) -> None:
    """Raise ConfigError where others than this machine would read without signing in, or could not sign in."""
    from doppel.keys import Keys
    from doppel.web.auth import is_loopback

    settings = context.settings
    if oauth_of(settings):
        Keys(settings.token_keys.get_secret_value())
    elif not is_loopback(host) and not settings.web_open_to_anyone:
        raise ConfigError(
            f"On {host} anyone who reaches this machine could read without signing in; set up signing in with Slack "
            "(docs/slack.md), or say DOPPEL_WEB_OPEN_TO_ANYONE=true."
        )


def _auth(context: AppContext, archive: Archive) -> Auth | None:
    """The pages to install the app and to sign in; None where nobody does."""
    from doppel.keys import Keys
    from doppel.slack.oauth import OAuthClient, States
    from doppel.web.auth import Auth

    oauth, settings = oauth_of(context.settings), context.settings
    if oauth is None:
        return None
    states = States(Keys(settings.token_keys.get_secret_value()))
    client = OAuthClient(settings.slack_api_url, oauth.client_id, oauth.client_secret)
    return Auth(archive, tokens_of(context, archive), states, client, oauth.public_url)


def readers_of(context: AppContext, archive: Archive, engine: Engines) -> Readers:
    """Everybody reads what the settings say; who signed in, what they may read in Slack."""
    from doppel.access import ReadPolicy
    from doppel.web.chat_session import Reader

    everybody = Reader(engine, ReadPolicy.parse(context.settings.web_channels))

    def reader(visitor: str | None) -> Reader:
        if visitor is None:
            return everybody
        team, user_id = visitor.split("/")
        snapshot = archive.snapshot(team)
        return Reader(engine.within(team), snapshot.alone(team, user_id), snapshot.names(team).get(user_id, ""))

    return reader
