"""Block Kit of what Doppel and the person it learns from say to each other: the request, and the App home. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from slack_sdk.models.blocks import ButtonElement, ConfirmObject

from doppel.slack.blocks import (
    Block,
    actions,
    button,
    channel_name,
    context,
    divider,
    header,
    moment,
    name,
    plain_text,
    section,
    sentence,
)

AGREE = "doppel_agree"
DECLINE = "doppel_decline"
WITHDRAW = "doppel_withdraw"
MAX_CHANNELS = 10


class Consent(StrEnum):
    """What a person said, as their App home tells it."""

    NEVER_ASKED = "never asked"
    ASKED = "asked"
    GRANTED = "granted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    FORGOTTEN = "forgotten"


@dataclass(frozen=True, slots=True)
class ConsentRequest:
    """A question to one person. `channels` are names; `expires` is when it can no longer be answered.

    `id` is opaque: at most 64 letters, digits, `_` or `-`. `asked_by` is the name of whoever asks.
    """

    id: str
    asked_by: str
    channels: tuple[str, ...]
    messages: int
    expires: datetime


@dataclass(frozen=True, slots=True)
class Home:
    """What Doppel knows about the person who looks at their App home.

    `id` is opaque and names the person to the buttons; `channels` are names of those where they wrote `messages`.
    `edits` counts the drafts that they changed and that are kept. `version` answers for them, None where none does;
    `state` is a sentence about their persona.
    """

    id: str
    name: str
    consent: Consent
    since: datetime | None
    messages: int
    channels: tuple[str, ...]
    version: str | None = None
    state: str = ""
    edits: int = 0


def consent_request(request: ConsentRequest) -> list[Block]:
    """The question whether Doppel may answer in a person's manner, with all that they need to decide."""
    until = moment(int(request.expires.timestamp()), _written(request.expires), "{date_long_pretty} at {time}")
    return [
        header("May an AI answer in your manner?"),
        section(f"{name(request.asked_by)} asks you. Nobody is answered in your manner unless you agree."),
        section(f"*What is read:* your {_count(request.messages, 'message')} in {_listed(request.channels)}."),
        section(
            "*What is made:* an adapter, a small file that makes the language model of Doppel write "
            "more like you. Colleagues can ask it; each answer says that an AI wrote it, not you. You alone can have "
            "your replies drafted; what you change in a draft before you send it is kept and learned from as well."
        ),
        section(
            "*How to undo it:* withdraw whenever you like, in the Home tab of this app. It stops answering at "
            "once, and every version of your adapter and all your drafts are deleted. Your messages stay where Doppel "
            "finds and quotes them."
        ),
        context(f"You can answer until {until}. Without an answer nothing happens."),
        actions(
            button("Agree", AGREE, request.id, "primary"),
            button("Decline", DECLINE, request.id),
        ),
    ]


def consent_settled(agreed: bool) -> list[Block]:
    """What stands in place of a request that was answered."""
    if agreed:
        return [section("You agreed. You can withdraw whenever you like, in the Home tab of this app.")]
    return [section("You declined. Nobody is answered in your manner; you can change your mind in the Home tab.")]


def consent_expired() -> list[Block]:
    """What stands in place of a request that nobody answered in time."""
    return [section("This request has expired; nothing has changed.")]


def home_view(home: Home) -> Block:
    """The App home: what Doppel knows about a person, what they agreed to, and what became of it."""
    blocks = [
        header("Doppel and you"),
        section(f"*What Doppel knows about you:* {_known(home)}"),
        section(f"*Your consent:* {_consent(home)}"),
        section(f"*Your doppelganger:* {_persona(home)}"),
        divider(),
        actions(_choice(home)),
        context("An AI writes every answer, and says so. Your adapter stays where your team runs Doppel."),
    ]
    return {"type": "home", "blocks": blocks}


def _known(home: Home) -> str:
    kept = f" {_count(home.edits, 'draft')} that you changed, to learn from." if home.edits else ""
    if not home.messages:
        return f"no messages of {name(home.name)} are in the archive.{kept}"
    return f"{_count(home.messages, 'message')} of {name(home.name)} in {_listed(home.channels)}.{kept}"


def _consent(home: Home) -> str:
    on = f" on {moment(int(home.since.timestamp()), _written(home.since), '{date_long}')}" if home.since else ""
    return {
        Consent.NEVER_ASKED: "nobody has asked you, and nobody is answered in your manner.",
        Consent.ASKED: f"you were asked{on} and have not answered; until you do, nobody is answered in your manner.",
        Consent.GRANTED: f"you agreed{on}.",
        Consent.DECLINED: "you declined; nobody is answered in your manner.",
        Consent.FORGOTTEN: f"you were forgotten{on}; nobody is answered in your manner.",
        Consent.WITHDRAWN: "you withdrew; nobody is answered in your manner any more.",
    }[home.consent]


def _persona(home: Home) -> str:
    if home.consent is not Consent.GRANTED:
        return "there is none."
    version = f"version {name(home.version)} answers." if home.version else "no adapter answers yet."
    return f"{version} {sentence(home.state)}" if home.state.strip() else version


def _choice(home: Home) -> ButtonElement:
    """The one thing a person can do here: withdraw what they granted, or agree."""
    if home.consent is not Consent.GRANTED:
        return button("Agree to a doppelganger", AGREE, home.id, "primary")
    confirm = ConfirmObject(
        title=plain_text("Withdraw your consent?", 100),
        text=plain_text("Your doppelganger stops at once, and every version of your adapter is deleted.", 300),
        confirm=plain_text("Withdraw", 30),
        deny=plain_text("Keep it", 30),
        style="danger",
    )
    return button("Withdraw my consent", WITHDRAW, home.id, "danger", confirm)


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def _listed(channels: Sequence[str]) -> str:
    shown = [channel_name(channel) for channel in channels[:MAX_CHANNELS]]
    more = len(channels) - len(shown)
    rest = [_count(more, "other channel" if shown else "channel")] if more else []
    *first, last = [*shown, *rest] or ["no channel"]
    return f"{', '.join(first)} and {last}" if first else last


def _written(at: datetime) -> str:
    return f"{at.astimezone(UTC):%d %b %Y, %H:%M} UTC"
