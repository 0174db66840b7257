"""What may go wrong with a draft, as sentences for its person alone."""

from __future__ import annotations

import logging
from collections.abc import Awaitable
from typing import Any

from slack_sdk.errors import SlackApiError

from doppel.bot.sentences import in_slack
from doppel.bot.writing import UNEXPECTED
from doppel.errors import DoppelError
from doppel.logs import log_failure
from doppel.slack.failing import is_refusal, reason
from doppel.slack.outgoing import plain

UNKNOWN = "I don't know you yet; try again after the next sync."
NOT_AGREED = "Nothing is written in your manner before you agree to it; `/doppel consent` tells you what that means."
RESTING = "Your doppelganger rests, so it drafts nothing; `/doppel pause` lets it write again."
NOTHING_SAID = "I know of nothing that somebody else said here; give me the words, as in `/doppel draft TEXT`."
NOT_THERE = "I know no such message of a person; try again in a moment, or use `/doppel draft TEXT`."
OWN = "You wrote that yourself; choose a message of somebody else."
GONE = "This draft is not open any more: it was sent or replaced, or it is too old; ask for a new one."
EMPTY = "There is nothing to send; press Edit and write something."
TOO_LONG = "That is too long for one message; press Edit and shorten it."
MAYBE_SENT = "Slack did not say whether it took your reply; look before you send it in another way."
INVITE = "I am not in this conversation, so I could not send your reply; invite me here first."
JOIN = "You are not in this channel, so I can't show you a draft here; join it first."
LEFT = "You are not in this conversation any more, so this draft stays where it is; join again first."

_REFUSALS = {"not_in_channel": INVITE, "channel_not_found": INVITE, "user_not_in_channel": JOIN}
_LATE = {"expired_trigger_id", "invalid_trigger_id"}

log = logging.getLogger("doppel.bot")


class DraftError(DoppelError):
    """Nothing can be drafted, or a draft can't be sent."""


class MaybeSentError(DraftError):
    """Slack may have posted it, or not: it must not be sent again."""


def was_not_sent(error: Exception) -> bool:
    """Whether Slack surely posted nothing."""
    return is_refusal(error) or reason(error) == "ratelimited"


async def told(work: Awaitable[Any]) -> str:
    """Do it; returns what went wrong, as a sentence, or ""."""
    try:
        await work
    except Exception as error:
        return sentence_of(error)
    return ""


def sentence_of(error: Exception) -> str:
    """What went wrong, for a person."""
    if isinstance(error, DraftError):
        return str(error)
    if isinstance(error, DoppelError):
        return plain(in_slack(error))
    if isinstance(error, SlackApiError):
        return refusal(error)
    # Without its text, which may quote a message.
    log_failure(log, "A draft failed", error)
    return UNEXPECTED


def refusal(error: SlackApiError) -> str:
    """What Slack refused, and what to do."""
    code = reason(error) or "no answer"
    if code in _LATE:
        return "That took too long; press Edit again."
    return _REFUSALS.get(code, f"Slack refused that ({plain(code)}); try again.")
