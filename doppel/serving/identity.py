"""Whose token it is that the settings name, or what to look at where that can't be known: for the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from slack_sdk.web.async_client import AsyncWebClient

from doppel.slack.failing import FAILURES, is_refusal, reason
from doppel.slack.members import id_of, text_of


@dataclass(frozen=True, slots=True)
class Identity:
    """Whose token it is: the workspace, and the user that the bot is there."""

    team: str
    bot_user: str
    name: str = ""


async def identify(client: AsyncWebClient) -> Identity | str:
    """Who the bot is, or why that can't be known and what to look at."""
    try:
        answer = await client.auth_test()
    except FAILURES as error:
        if is_refusal(error):
            return f"it says {reason(error)}; is SLACK_BOT_TOKEN right?"
        wrong = reason(error) or type(error).__name__
        return f"it can't be reached at {client.base_url} ({wrong}); are the network and SLACK_API_URL right?"
    raw = answer.data
    assert isinstance(raw, dict)
    found = Identity(id_of(raw, "team_id"), id_of(raw, "user_id"), text_of(raw, "team"))
    return found if found.team and found.bot_user else "it names no workspace; is SLACK_API_URL right?"
