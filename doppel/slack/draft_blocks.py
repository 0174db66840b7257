"""Block Kit of a drafted reply: as its person alone sees it, the form to change it, its mark once it is sent. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from slack_sdk.models.blocks import InputBlock, PlainTextInputElement
from slack_sdk.models.views import View

from doppel.records import Persona, Raw, Reply
from doppel.slack.blocks import (
    EPHEMERAL_CHARS,
    Block,
    actions,
    button,
    context,
    error_blocks,
    link,
    mark,
    markdown,
    name,
    opaque,
    plain_text,
    section,
    sentence,
    sources,
)
from doppel.slack.members import id_of, text_of
from doppel.slack.splitting import split

SHORTCUT = "draft_reply"
SEND = "doppel_draft_send"
EDIT = "doppel_draft_edit"
AGAIN = "doppel_draft_again"
FORM = "doppel_draft_form"
FIELD_CHARS = 3_000
"""Slack takes no more in a field of a form."""
NOTES = 4

HINT = "What you change is kept, so that your doppelganger learns from it, until you withdraw your consent."

_FIELD, _INPUT = "reply", "text"


@dataclass(frozen=True, slots=True)
class Pressed:
    """A button below a draft was pressed: SEND, EDIT or AGAIN. What is said to `response_url` only `user` reads."""

    action: str
    draft_id: str
    user: str
    trigger: str
    response_url: str


@dataclass(frozen=True, slots=True)
class Submitted:
    """The form was sent with `text`; `response_url` is that of the button which opened it."""

    draft_id: str
    user: str
    text: str
    response_url: str


def draft_message(
    text: str, draft_id: str, persona: Persona, about: str = "", reply: Reply | None = None
) -> list[Block]:
    """A draft with its buttons; `text` is what `outgoing` made of it, `about` says in mrkdwn what it replies to.

    Where the `reply` that it comes from is known, its notes and sources stand below. Raises ValueError for an id that a
    button can't carry.
    """
    notes = [context(sentence(note)) for note in reply.notes[:NOTES] if note.strip()] if reply else []
    return [
        context(f"Only you see this draft{about}. Nothing is sent before you press Send."),
        markdown(split(text, EPHEMERAL_CHARS)[0]),
        context(mark(persona)),
        *notes,
        *([context(sources(reply.sources))] if reply else []),
        actions(
            button("Send", SEND, draft_id, "primary"),
            button("Edit", EDIT, draft_id),
            button("Again", AGAIN, draft_id),
        ),
    ]


def replying_to(author: str, permalink: str) -> str:
    """To whose message a draft replies, as mrkdwn."""
    return f", a reply to {link(permalink, name(author))}"


def settled(said: str) -> list[Block]:
    """What stands in place of a draft that has no buttons any more, or not yet."""
    return [section(sentence(said))]


def with_trouble(said: str, message: Sequence[Block]) -> list[Block]:
    """A draft, and above it what went wrong with it."""
    return [*error_blocks(said), *message]


def sent_mark(person: str, version: str | None, edited: bool) -> Block:
    """The lasting mark of a draft that was sent."""
    by = f"then changed and sent by {name(person)}" if edited else f"read and sent by {name(person)}"
    return context(
        f":robot_face: Drafted by Doppel, an AI, {by} · {f'version {name(version)}' if version else 'no adapter'}"
    )


def form(text: str, draft_id: str, response_url: str) -> Block:
    """The form in which its person changes a draft. Raises ValueError as `draft_message` does."""
    field = PlainTextInputElement(
        action_id=_INPUT, multiline=True, max_length=FIELD_CHARS, initial_value=text[:FIELD_CHARS]
    )
    label, hint = plain_text("Your reply", 2_000), plain_text(HINT, 2_000)
    made: Block = View(
        type="modal",
        callback_id=FORM,
        private_metadata=json.dumps([opaque(draft_id), response_url]),
        title=plain_text("Edit your reply", 24),
        submit=plain_text("Send", 24),
        close=plain_text("Cancel", 24),
        blocks=[InputBlock(block_id=_FIELD, label=label, hint=hint, element=field)],
    ).to_dict()
    return made


def pressed_of(body: Raw, action: Raw) -> Pressed:
    """A pressed button, from what Slack sends."""
    words = (text_of(action, "action_id"), text_of(action, "value"), _user(body))
    return Pressed(*words, text_of(body, "trigger_id"), text_of(body, "response_url"))


def submitted_of(body: Raw) -> Submitted:
    """A form that was sent, from what Slack sends."""
    view = body["view"]
    draft_id, response_url = json.loads(text_of(view, "private_metadata"))
    field = view["state"]["values"][_FIELD][_INPUT]
    return Submitted(draft_id, _user(body), text_of(field, "value"), response_url)


def _user(body: Raw) -> str:
    user = body.get("user")
    return id_of(user, "id") if isinstance(user, dict) else ""
