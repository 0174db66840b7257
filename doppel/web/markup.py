"""What the web chat shows, as HTML. Pure. Every text of the model and of Slack is escaped here and stays text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

from doppel.labels import NO_SOURCES, byline
from doppel.records import Passage, Persona, ts_seconds
from doppel.web.chat_session import Exchange

BEFORE_SOURCES = "The Slack threads behind each answer will stand here, with links."
QUOTED_LINES = 4

_FENCE = re.compile(r"\n*```(?:[\w+-]*\n)?(.*?)(?:```\n*|\Z)", re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")


def text_html(text: str) -> str:
    """Plain text with code set apart. It is one line, because Gradio dedents what it is given."""
    pieces = _FENCE.split(text)
    return "".join(
        f"<pre><code>{_lines(piece.rstrip())}</code></pre>" if i % 2 else _CODE.sub(r"<code>\1</code>", _lines(piece))
        for i, piece in enumerate(pieces)
    )


def messages(exchanges: Sequence[Exchange]) -> list[dict[str, str]]:
    """A conversation as Gradio shows it: a question and its answer are two messages."""
    shown = []
    for exchange in exchanges:
        shown.append({"role": "user", "content": text_html(exchange.question)})
        shown.append({"role": "assistant", "content": answer_html(exchange)})
    return shown


def choices(people: Sequence[Persona]) -> list[tuple[str, str]]:
    """Names to choose from, with the handle where two people have the same."""
    names = Counter(person.name for person in people)
    return [(f"{p.name} (@{p.handle})" if names[p.name] > 1 else p.name, p.key) for p in people]


def answer_html(exchange: Exchange) -> str:
    """An answer under its label, as far as it is written, with what the reader should know about it."""
    name = exchange.persona.name
    label = f'<span class="byline">{escape(byline(name))}</span>'
    body = _numbered(exchange) or (f'<span class="waiting">{_waiting(exchange)}</span>' if exchange.open else "")
    notes = "".join(f'<span class="note">{_lines(note)}</span>' for note in exchange.notes)
    kind = "trouble" if exchange.text else "trouble alone"
    trouble = f'<span class="{kind}">{_lines(exchange.trouble)}</span>' if exchange.trouble else ""
    return label + body + notes + trouble


def _numbered(exchange: Exchange) -> str:
    """The text, and behind each sentence that a source carries its number, which leads there."""
    text, sources = exchange.text, exchange.sources or ()
    if "```" in text:
        return text_html(text)
    shown, end = "", 0
    for sentence in exchange.sentences:
        start = text.find(sentence.text, end)
        if start >= 0 and sentence.source is not None and sentence.source < len(sources):
            upto = start + len(sentence.text)
            shown += text_html(text[end:upto]) + _number(sentence.source, sources[sentence.source])
            end = upto
    return shown + text_html(text[end:])


def _number(position: int, source: Passage) -> str:
    number = str(position + 1)
    if source.permalink.startswith(("https://", "http://")):
        link = f'href="{escape(source.permalink)}" target="_blank" rel="noopener noreferrer"'
        number = f'<a {link} title="Source {number} (opens Slack in a new tab)">{number}</a>'
    return f'<sup class="source">{number}</sup>'


def persona_html(persona: Persona | None) -> str:
    """Which version answers for a persona."""
    if persona is None:
        return (
            '<p class="hint">Nobody can be asked yet: record who agreed with <code>doppel consent grant USER</code>, '
            "then train them with <code>doppel train --user USER</code>.</p>"
        )
    if persona.version is None:
        return (
            f'<p class="hint"><b>No adapter yet:</b> the base model answers, with examples of what '
            f"{escape(persona.name)} wrote.</p>"
        )
    return f"<p>Adapter <b>{escape(persona.version)}</b> answers.</p>"


def status_html(status: str) -> str:
    """How the model server does, where there is something to say."""
    return f'<p class="status">{_lines(status)}</p>' if status else ""


def visitor_html(name: str, sign_out: str) -> str:
    """Who is signed in, where people sign in, and the way out."""
    if not name:
        return ""
    button = f'<form method="post" action="{sign_out}"><button>Sign out</button></form>'
    return f'<p class="visitor">{escape(name)}</p>{button}'


def trouble_html(sentence: str) -> str:
    """What went wrong."""
    return f'<p class="trouble">{_lines(sentence)}</p>'


def sources_html(exchanges: Sequence[Exchange]) -> str:
    """The sources of the last answer, and those of earlier ones folded away below."""
    looked_up = [e for e in exchanges if e.sources is not None]
    if not looked_up:
        return _panel(f'<p class="empty">{BEFORE_SOURCES}</p>')
    *earlier, last = looked_up
    folded = "".join(
        f"<details><summary>{_about(e)} <span>({len(e.sources or ())})</span></summary>{_sources(e.sources or ())}"
        "</details>"
        for e in reversed(earlier)
    )
    below = f'<div class="earlier"><h3>Earlier answers</h3>{folded}</div>' if folded else ""
    return _panel(f'<p class="about">{_about(last)}</p>{_sources(last.sources or ())}{below}')


def _panel(content: str) -> str:
    return f'<section aria-label="Sources"><h2>Sources</h2>{content}</section>'


def _about(exchange: Exchange) -> str:
    return f"For “{escape(exchange.question)}”"


def _sources(sources: Sequence[Passage]) -> str:
    if not sources:
        return f'<p class="empty">{NO_SOURCES}</p>'
    return "<ol>" + "".join(f"<li>{_source(source)}</li>" for source in sources) + "</ol>"


def _source(source: Passage) -> str:
    start, stop = source.focus
    quoted = source.lines[start:stop]
    rest = len(source.lines) - len(quoted[:QUOTED_LINES])
    thread = (
        f"<details><summary>All {len(source.lines)} messages</summary>{_quote(source.lines)}</details>" if rest else ""
    )
    people = ", ".join(escape(author) for author in _authors(source.lines))
    return f'{_link(source)}<p class="who">{people}</p>{_quote(quoted[:QUOTED_LINES])}{thread}'


def _link(source: Passage) -> str:
    channel = escape(source.channel_name if " " in source.channel_name else f"#{source.channel_name}")
    day = datetime.fromtimestamp(ts_seconds(source.first_ts), UTC)
    title = f'<b>{channel}</b> <time datetime="{day:%Y-%m-%d}">{day.day} {day:%b %Y}</time>'
    if not source.permalink.startswith(("https://", "http://")):
        return f'<span class="where">{title}</span>'
    return (
        f'<a class="where" href="{escape(source.permalink)}" target="_blank" rel="noopener noreferrer">{title}'
        '<span class="unseen"> (opens Slack in a new tab)</span></a>'
    )


def _quote(lines: Iterable[str]) -> str:
    return "<blockquote>" + "".join(f"<p>{_spoken(line)}</p>" for line in lines) + "</blockquote>"


def _spoken(line: str) -> str:
    author, colon, said = line.partition(": ")
    return f"<b>{escape(author)}</b> {text_html(said)}" if colon else text_html(line)


def _authors(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(line.partition(": ")[0] for line in lines if ": " in line))


def _waiting(exchange: Exchange) -> str:
    return "Looking through Slack …" if exchange.sources is None else "Writing …"


def _lines(text: str) -> str:
    return escape(text).replace("\n", "<br>")
