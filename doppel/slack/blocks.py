"""Block Kit of what Doppel posts around an answer. Pure.

https://docs.slack.dev/reference/block-kit; names and sentences of others pass `plain` before they stand in mrkdwn.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from slack_sdk.models.basic_objects import JsonObject
from slack_sdk.models.blocks import (
    ActionsBlock,
    ButtonElement,
    ConfirmObject,
    ContextActionsBlock,
    ContextBlock,
    DividerBlock,
    FeedbackButtonObject,
    FeedbackButtonsElement,
    HeaderBlock,
    MarkdownBlock,
    MarkdownTextObject,
    PlainTextObject,
    SectionBlock,
)

from doppel.engine.redaction import mask
from doppel.labels import NO_SOURCES, byline
from doppel.records import Passage, Persona, Raw, Reply, ts_key
from doppel.slack.members import id_of, part_of, text_of
from doppel.slack.outgoing import plain
from doppel.slack.splitting import MARKDOWN_CHARS, split

Block = dict[str, Any]

FEEDBACK = "doppel_feedback"
SHARE = "doppel_share"
MAX_SOURCES = 5
NAME_CHARS = 80
CHANNEL_CHARS = 50
SENTENCE_CHARS = 500
SENTENCES = 4
URL_CHARS = 200
NOTE_CHARS = 250
"""Of a note below an answer, as it is sent."""
# Slack counts the blocks around the text as well: 13,000 characters in all.
EPHEMERAL_CHARS = MARKDOWN_CHARS - 4_000

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_FEEDBACK = re.compile(rf"(dis)?like:({_ID.pattern})")
_WEB = re.compile(r"https?://[^\s<>|\"]+", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Press:
    """Who pressed a button of a message, and where; `thread_ts` is "" where Slack does not say in which thread."""

    user: str
    channel: str
    thread_ts: str


def closing_blocks(reply: Reply, answer_id: str) -> list[Block]:
    """What stands below a finished answer for good: that an AI wrote it, from what, and what the reader thinks of it.

    `answer_id` is all that the feedback buttons carry. Raises ValueError for one that is not 1 to 64 letters, digits,
    `_` or `-`.
    """
    notes = [context(_note(note)) for note in reply.notes[:SENTENCES] if note.strip()]
    return [context(mark(reply.persona)), *notes, context(sources(reply.sources)), _feedback(answer_id)]


def mark(persona: Persona) -> str:
    """The lasting mark of an answer, with the version that gave it, as mrkdwn."""
    version = f"version {name(persona.version)}" if persona.version else "no adapter"
    return f":robot_face: {byline(name(persona.name))} · {version}"


def sources(passages: Sequence[Passage], shown: int = MAX_SOURCES) -> str:
    """Where the answer comes from, as mrkdwn: `shown` numbered links, and how many more there are."""
    if not passages:
        return NO_SOURCES
    lines = [f"{i}. {_source(passage)}" for i, passage in enumerate(passages[:shown], 1)]
    more = len(passages) - len(lines)
    return "\n".join(["Sources:", *lines, *([f"and {more} more"] if more else [])])


def error_blocks(trouble: str) -> list[Block]:
    """What went wrong, as one sentence that says what to do."""
    return [section(f":warning: {sentence(trouble)}")]


def ephemeral_messages(text: str, reply: Reply, answer_id: str) -> list[list[Block]]:
    """An answer that only its asker sees, as messages one after the other; the last offers to share it.

    `text` is what `outgoing` made of the reply's. Raises ValueError as `closing_blocks` does.
    """
    messages = [[markdown(part)] for part in split(text, EPHEMERAL_CHARS)] or [[]]
    *marked, feedback = closing_blocks(reply, answer_id)
    share = actions(button("Share with everyone here", SHARE, answer_id))
    messages[-1] += [*marked, share, feedback]
    return messages


def is_beginning(raw: Raw) -> bool:
    """Whether a message of the bot's is an answer without its end: all that it closes with is missing."""
    blocks = raw.get("blocks") or []
    return all(block.get("type") in ("markdown", "rich_text") for block in blocks)


def read_feedback(value: str) -> tuple[str, bool]:
    """The answer's id and whether it was liked, from a pressed button. Raises ValueError for anything else."""
    match = _FEEDBACK.fullmatch(value)
    if match is None:
        raise ValueError("This is no feedback of Doppel's.")
    return match[2], match[1] is None


def press_of(body: Raw) -> Press:
    """Who pressed a button and where, from what Slack sends."""
    user, container, message, channel = (part_of(body, key) for key in ("user", "container", "message", "channel"))
    thread = text_of(message, "thread_ts") or text_of(container, "thread_ts") or text_of(message, "ts")
    return Press(id_of(user, "id"), id_of(container, "channel_id") or id_of(channel, "id"), thread)


def name(text: str, limit: int = NAME_CHARS) -> str:
    """Somebody's name as mrkdwn, of at most `limit` characters before it is escaped, which takes up to five for one."""
    words = plain(shortened(mask(text), limit))
    return words if words.strip() else "somebody"


def sentence(text: str) -> str:
    """Somebody's words as mrkdwn, on one line."""
    words = plain(shortened(mask(text), SENTENCE_CHARS))
    return words if words.strip() else "…"


def _note(text: str) -> str:
    """A sentence as mrkdwn, of at most NOTE_CHARS characters once it is escaped."""
    limit = NOTE_CHARS
    while len(words := plain(shortened(mask(text), limit))) > NOTE_CHARS:
        limit = limit * 4 // 5
    return words if words.strip() else "…"


def channel_name(text: str) -> str:
    """A channel's name as mrkdwn; a direct conversation is named after its people, without `#`."""
    return name(text if " " in text else f"#{text}", CHANNEL_CHARS)


def shortened(text: str, limit: int) -> str:
    """`text` on one line, with an ellipsis where it is longer than `limit` characters."""
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def link(url: str, label: str) -> str:
    """A link to a web page as mrkdwn, or its label alone where the address is none; `label` is mrkdwn already."""
    label = label.replace("|", "/")
    return f"<{url.replace('&', '&amp;')}|{label}>" if is_web(url) else label


def is_web(url: str) -> bool:
    """Whether an address is one of the web, and short enough for a link."""
    return bool(_WEB.fullmatch(url)) and len(url.replace("&", "&amp;")) <= URL_CHARS


def moment(seconds: int, written: str, form: str = "{date_short_pretty}") -> str:
    """A date in the reader's time zone and language; `written` stands in where Slack can't tell."""
    return f"<!date^{seconds}^{form}|{written}>"


def section(text: str) -> Block:
    return _json(SectionBlock(text=MarkdownTextObject(text=text)))


def context(text: str) -> Block:
    return _json(ContextBlock(elements=[MarkdownTextObject(text=text)]))


def header(text: str) -> Block:
    return _json(HeaderBlock(text=plain_text(text, 150)))


def markdown(text: str) -> Block:
    return _json(MarkdownBlock(text=text))


def divider() -> Block:
    return _json(DividerBlock())


def actions(*buttons: ButtonElement) -> Block:
    return _json(ActionsBlock(elements=list(buttons)))


def button(
    label: str,
    action: str,
    value: str,
    style: Literal["primary", "danger"] | None = None,
    confirm: ConfirmObject | None = None,
) -> ButtonElement:
    """A button; `value` is an opaque id. Raises ValueError for one that is not."""
    return ButtonElement(
        text=plain_text(label, 75), action_id=action, value=opaque(value), style=style, confirm=confirm
    )


def plain_text(text: str, limit: int) -> PlainTextObject:
    """Text that Slack shows as it is; it has no markup."""
    return PlainTextObject(text=shortened(text, limit), emoji=False)


def opaque(value: str) -> str:
    """`value`, if it is an id and can hold nothing else. Raises ValueError."""
    if not _ID.fullmatch(value):
        raise ValueError("A button carries an id of at most 64 letters, digits, _ or -, and nothing else.")
    return value


def _feedback(answer_id: str) -> Block:
    answer_id = opaque(answer_id)
    good, bad = (
        FeedbackButtonObject(text=plain_text(label, 75), value=f"{value}:{answer_id}")
        for label, value in (("Good answer", "like"), ("Bad answer", "dislike"))
    )
    buttons = FeedbackButtonsElement(action_id=FEEDBACK, positive_button=good, negative_button=bad)
    return _json(ContextActionsBlock(elements=[buttons]))


def _json(block: JsonObject) -> Block:
    made: Block = block.to_dict()
    return made


def _source(passage: Passage) -> str:
    return f"{link(passage.permalink, channel_name(passage.channel_name))} · {_day(passage.first_ts)}"


def _day(ts: str) -> str:
    seconds = ts_key(ts)[0]
    day = datetime.fromtimestamp(seconds, UTC)
    return moment(seconds, f"{day.day} {day:%b %Y}")
