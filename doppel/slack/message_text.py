"""What a message says, and how much of it its author typed. Pure; never raises.

What somebody forwarded or attached, what a website or an app added, and what Slack itself wrote reads with its source
before it, and counts as nobody's typing. Shapes: https://docs.slack.dev/reference/events/message
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from doppel.labels import indented, named, neutral
from doppel.plain_text import storable
from doppel.records import Raw
from doppel.slack.block_text import dicts, lines, render_block, string, typed_characters
from doppel.slack.markup import NO_NAMES, Names, channel_mention, render_text

MAX_FORWARDS = 4
"""Forwards of forwards that are read."""
PREVIEW_CHARS = 500
"""As much is read of a page that is shown below the link to it."""
LABEL_CHARS = 80

_PLACEHOLDER = re.compile(
    r"\[no preview available\]|message deleted|this message contains interactive elements"
    r"|this (?:message|file|content) (?:(?:was|has been) deleted|can't be displayed)"
)
"""What Slack writes where it has nothing to show, in small letters, with straight apostrophes and no full stop."""
_LONGEST = 80
_TABLES = ("table", "data_table")
_COMPOSED = ("rich_text", *_TABLES)
"""What people make in Slack's composer; every other block was laid out by an app."""
_SAID_ALREADY = 0.8
"""The share of a block's words that stand in the text, from which on it says no more than the text."""
_WORD = re.compile(r"\w+")
_IS_LINK_TO_MESSAGE = re.compile(r"https?://(?:[a-z0-9-]+\.)*slack(?:-gov)?\.com/archives/[^/?#]+/p\d{10,}", re.I)
_FALLBACK_HEAD = re.compile(r"\[[^\]\n]*\] [^:\n]*: ?")
"""Of a forwarded message: "[May 29th, 2024] erik: "."""
_ABOUT_A_FILE = re.compile(
    r"<@[^<>]*> (?:[^<>]|<@[^<>]*>'s)*<(?P<link>[^<>@]+)>(?: and commented)?(?:: ?(?P<comment>.*))?", re.DOTALL
)
_REPLIED = "replied to a thread"
"""How Slack's own sentence above a broadcast of old begins; the reply is attached to it."""
_FENCE = "```"
_NAMELESS = "[file]"


@dataclass(frozen=True, slots=True)
class MessageText:
    """What a message says; `said` is what its author typed, None where that is all of `text`."""

    text: str
    said: str | None = None


def render_message(raw: Raw, names: Names = NO_NAMES) -> str:
    """The whole text of a message."""
    return read_message(raw, names).text


def read_message(raw: Raw, names: Names = NO_NAMES) -> MessageText:
    """The text of a message, and what of it was typed.

    What was typed comes first: its `text`, else its rich text. Then come blocks that say more, such as tables, and what
    is attached, forwarded or uploaded. Lines that quote (`>`) are part of the text, but mostly another's words.
    """
    typed, parts = _body(raw, names, 0)
    text = parts[0] if typed and len(parts) == 1 else lines(parts)
    said = "" if raw.get("bot_id") and _is_laid_out(raw) else _unquoted(typed)
    if said == text:
        return MessageText(storable(text))
    return MessageText(storable(text), storable(said) if said.strip() else "")


def _body(raw: Raw, names: Names, depth: int) -> tuple[str, list[str]]:
    """What was typed, and everything, in parts."""
    typed, parts = _typed(raw, names)
    blocks = dicts(raw.get("blocks")) if "blocks" in raw else []
    if typed.strip():
        parts = [neutral(typed), *parts, *(_more(raw, blocks, typed, names) if blocks else [])]
    elif blocks:
        typed = lines(render_block(block, names) for block in blocks if block.get("type") == "rich_text")
        parts += [_read_block(block, names) for block in blocks]
    if "attachments" in raw:
        parts += [_attachment(attachment, raw, names, depth) for attachment in dicts(raw.get("attachments"))]
    if "files" in raw or "file" in raw:
        parts += _files(raw, any(part.strip() for part in parts))
    return typed, parts


def _typed(raw: Raw, names: Names) -> tuple[str, list[str]]:
    """The text that somebody typed, "" where it is Slack's; and what Slack wrote of it that is worth reading."""
    text = string(raw.get("text"))
    if text.startswith("<@") and _is_of_slack(raw, text):
        return _of_slack(raw, text, names)
    if raw.get("subtype") == "reply_broadcast" and text.startswith(_REPLIED):
        return "", [] if dicts(raw.get("attachments")) else [neutral(render_text(text, names))]
    if not text.strip():
        text = _comment(raw)
    return "" if _is_placeholder(text) else render_text(text, names), []


def _is_of_slack(raw: Raw, text: str) -> bool:
    """Whether a text tells what its own author did: nobody begins with a mention of themself.

    What people type comes with rich text that says it.
    """
    author = _author(raw)
    if not author or not text.startswith((f"<@{author}>", f"<@{author}|")):
        return False
    return not any(b.get("type") == "rich_text" and render_block(b, NO_NAMES).strip() for b in dicts(raw.get("blocks")))


def _of_slack(raw: Raw, text: str, names: Names) -> tuple[str, list[str]]:
    """A sentence about its author, such as "<@U1> uploaded a file: <…|plan.pdf> and commented: …"."""
    found = _ABOUT_A_FILE.fullmatch(text)
    if found is None:
        return render_text(_comment(raw), names), [neutral(render_text(text, names))]
    comment = _comment(raw) or found["comment"] or ""
    is_listed = bool(dicts(raw.get("files")) or dicts([raw.get("file")]))
    return render_text(comment, names), [] if is_listed else [_file({"title": found["link"].partition("|")[2]})]


def _author(raw: Raw) -> str:
    comment = raw.get("comment")
    return string(raw.get("user")) or string(comment.get("user") if isinstance(comment, dict) else "")


def _comment(raw: Raw) -> str:
    """What its author typed below a file, in the shapes of old."""
    files = [*dicts([raw.get("file")]), *dicts(raw.get("files"))]
    comments: list[Any] = [raw.get("comment"), *(file.get("initial_comment") for file in files)]
    theirs = (c for c in dicts(comments) if string(c.get("user")) in ("", _author(raw)))
    return next((text for text in (string(c.get("comment")) for c in theirs) if text.strip()), "")


def _is_placeholder(text: str) -> bool:
    if len(text) > _LONGEST:
        return False
    return _PLACEHOLDER.fullmatch(text.strip().rstrip(". ").replace("\u2019", "'").lower()) is not None


def _is_laid_out(raw: Raw) -> bool:
    """Whether an app made it: a bridge hands on what somebody typed, but lays nothing out."""
    return any(block.get("type") not in _COMPOSED for block in dicts(raw.get("blocks")))


def _more(raw: Raw, blocks: list[dict[str, Any]], typed: str, names: Names) -> list[str]:
    """The blocks that say more than the text, which Slack makes of people's rich text; an app gives one of its own."""
    by_app, given = bool(raw.get("bot_id")), len(string(raw.get("text")))
    more = [b for b in blocks if b.get("type") != "rich_text" or (by_app and typed_characters(b) > given)]
    return [*_saying_more(more, typed, names)] if more else []


def _saying_more(blocks: list[dict[str, Any]], said: str, names: Names) -> Iterator[str]:
    known = set(_WORD.findall(said)) if blocks else set()
    for block in blocks:
        text = _read_block(block, names)
        words = set(_WORD.findall(text))
        if block.get("type") in _TABLES or len(words & known) < _SAID_ALREADY * len(words) or not said:
            yield text


def _unquoted(text: str) -> str:
    """`text` without the lines that quote: in Slack people quote what others wrote. Code keeps all of its lines."""
    if ">" not in text:
        return text
    kept, in_code = [], False
    for line in text.split("\n"):
        if line.startswith(">>>") and not in_code:
            break
        if in_code or not line.startswith(">"):
            kept.append(line)
            in_code ^= line.count(_FENCE) % 2 == 1
    return "\n".join(kept).strip()


def _read_block(block: Raw, names: Names) -> str:
    """A block in which nothing looks like a head; a picture has one of ours."""
    text = render_block(block, names)
    return text if block.get("type") == "image" else neutral(text)


def _attachment(attachment: Raw, message: Raw, names: Names, depth: int) -> str:
    if depth >= MAX_FORWARDS:
        return ""
    if _is_message(attachment):
        return _below(_forwarded(attachment, names), _forward(attachment, names, depth + 1))
    own = [render_text(string(attachment.get(key)), names) for key in ("pretext", "title", "text")]
    own += [_field(field, names) for field in dicts(attachment.get("fields"))]
    said, blocks = neutral(lines(own)), dicts(attachment.get("blocks"))
    more = _saying_more(blocks, said, names)
    body = lines([said, *more, *_files(attachment, bool(said))]) or _fallback(attachment, names)
    body, source = _preview(body) if _is_preview(attachment) else body, _source(attachment)
    is_pasted = bool(blocks) and not said
    if not source and (is_pasted or not message.get("user")):
        return body
    return _below(f"[from {source}]" if source else "[attached]", body)


def _is_preview(attachment: Raw) -> bool:
    """Whether Slack or an app added it to a link; nobody attached it."""
    return any(attachment.get(key) for key in ("from_url", "original_url", "is_app_unfurl", "app_unfurl_url"))


def _preview(body: str) -> str:
    if len(body) <= PREVIEW_CHARS:
        return body
    return body[:PREVIEW_CHARS].rpartition(" ")[0].rstrip() + " …"


def _is_message(attachment: Raw) -> bool:
    """Whether it is a message: forwarded, or shown below the link to it at Slack; other sites imitate such links."""
    flags = ("is_msg_unfurl", "is_share", "is_reply_unfurl", "is_thread_root_unfurl", "message_blocks", "author_id")
    urls = (string(attachment.get(key)) for key in ("from_url", "original_url"))
    return any(attachment.get(flag) for flag in flags) or any(_IS_LINK_TO_MESSAGE.match(url) for url in urls)


def _forwarded(attachment: Raw, names: Names) -> str:
    """Who wrote a forwarded message, and where; a channel whose name is not for everybody has none here."""
    who = names.users.get(string(attachment.get("author_id")), "")
    who = who or string(attachment.get("author_name")) or string(attachment.get("author_subname"))
    channel = string(attachment.get("channel_id"))
    is_known = channel in names.secret or channel in names.channels
    where = _label(channel_mention(channel, channel, names)) if is_known else ""
    return f"[{', '.join(part for part in (f'forwarded from {_label(who)}' if who else 'forwarded', where) if part)}]"


def _forward(attachment: Raw, names: Names, depth: int) -> str:
    """What a forwarded message says; the forwarder's client may have left it to its blocks."""
    originals = [part["message"] for part in dicts(attachment.get("message_blocks")) if _has_message(part)]
    inner: dict[str, Any] = {key: attachment.get(key) for key in ("bot_id", "file")}
    inner["user"] = string(attachment.get("author_id")) or "somebody"
    inner["text"] = next((t for t in (string(m.get("text")) for m in (attachment, *originals)) if t.strip()), "")
    for key in ("blocks", "attachments", "files"):
        inner[key] = dicts(attachment.get(key)) or [part for m in originals for part in dicts(m.get(key))]
    _, parts = _body(inner, names, depth)
    title = render_text(string(attachment.get("title")), names)
    beside = [title, *(_field(field, names) for field in dicts(attachment.get("fields")))]
    said = lines([neutral(lines(beside)), *parts])
    fallback = _fallback(attachment, names)
    head = _FALLBACK_HEAD.match(fallback)
    return said or fallback[head.end() if head else 0 :]


def _has_message(part: Raw) -> bool:
    return isinstance(part.get("message"), dict)


def _field(field: Raw, names: Names) -> str:
    title, value = (render_text(string(field.get(key)), names) for key in ("title", "value"))
    return f"{title}: {value}" if title.strip() and value.strip() else title or value


def _fallback(attachment: Raw, names: Names) -> str:
    text = string(attachment.get("fallback"))
    return "" if _is_placeholder(text) else neutral(render_text(text, names))


def _source(attachment: Raw) -> str:
    """Who says what is attached: an author, a service, or the site of the link; "" where nothing tells."""
    named = [_label(string(attachment.get(key))) for key in ("author_name", "service_name")]
    if any(named):
        return ", ".join(dict.fromkeys(name for name in named if name))
    urls = (string(attachment.get(key)) for key in ("from_url", "original_url", "title_link", "app_unfurl_url"))
    return next((host for host in map(_host, urls) if host), "")


def _host(url: str) -> str:
    try:
        return _label(urlsplit(url).hostname or "")
    except ValueError:
        return ""


def _label(text: str) -> str:
    """A name as it can stand in a head."""
    return named(text)[:LABEL_CHARS]


def _below(head: str, body: str) -> str:
    """What another said, below a head that says whose it is; "" where nothing is left of it."""
    if not body.strip():
        return ""
    return f"{head} {indented(body.strip())}"


def _files(raw: Raw, has_more: bool) -> list[str]:
    """The titles of files; of one without any it is said only where there is nothing else."""
    files = [_file(file) for file in dicts(raw.get("files")) or dicts([raw.get("file")])]
    return [text for text in files if text != _NAMELESS] if has_more else files


def _file(file: Raw) -> str:
    title = _label(string(file.get("title")) or string(file.get("name")))
    return f"[file: {title}]" if title else _NAMELESS
