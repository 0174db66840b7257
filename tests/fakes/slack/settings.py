"""The app that is installed in the fake, and where Slack's behaviour varies or its documentation is unclear."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class App:
    """An app's credentials, as its settings page would show them."""

    app_id: str = "A0FAKEAPP1"
    client_id: str = "1111.2222"
    client_secret: str = "fake-client-secret"
    signing_secret: str = "fake-signing-secret"
    verification_token: str = "fake-verification-token"
    redirect_uris: tuple[str, ...] = ()
    """Where OAuth may lead back to; anywhere if empty."""


@dataclass
class Behaviour:
    """Switches that may be turned at run time.

    history_needs_membership: a bot reads a public channel only as a member (`not_in_channel`), as real bots do.
    bots_read_threads: Slack's page on conversations.replies says that bots can't in channels, though they can.
    parent_on_every_page: conversations.replies puts the parent before every page, and before those cut by `oldest`.
    short_pages: pages of messages hold half of what they could, which Slack allows itself.
    token_rotation: tokens from OAuth expire and come with a refresh token.
    hides_before: a workspace without a plan: nothing older than this timestamp is shown, and history says is_limited.
    oldest_without_latest: conversations.history given `oldest` alone begins with the oldest, as its page once said.
    ignores_latest: conversations.history and .replies give the same page whatever `latest` and `oldest` are.
    repeats_cursors: a list's next page is always its second.
    names_latest_reply: a parent says when its newest reply was written.
    stream_seconds: how long chat.appendStream works after chat.startStream, in seconds before scaling.
    """

    history_needs_membership: bool = True
    bots_read_threads: bool = True
    parent_on_every_page: bool = False
    short_pages: bool = False
    token_rotation: bool = False
    hides_before: float = 0
    oldest_without_latest: bool = False
    ignores_latest: bool = False
    repeats_cursors: bool = False
    names_latest_reply: bool = True
    stream_seconds: float = 300
