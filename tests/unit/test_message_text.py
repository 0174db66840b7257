"""What a message says and whose words it says: typed, forwarded, attached, laid out by an app, or written by Slack."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.plain_text import storable
from doppel.slack.markup import Names
from doppel.slack.message_text import PREVIEW_CHARS, MessageText, read_message
from tests.unit.test_markup import JSON

Raw = dict[str, Any]
NAMES = Names(
    {"U1": "Ines", "U2": "Erik", "U3": "Someone: new"}, {"C1": "general", "C9": "layoffs"}, secret=frozenset({"C9"})
)
NOBODYS = ""


def by_ines(text: str = "", **more: Any) -> Raw:
    return {"type": "message", "ts": "1.0", "user": "U1", "text": text, **more}


def forward(text: str, **more: Any) -> Raw:
    """A message of Erik's as Slack attaches it."""
    place = {"channel_id": "C1", "from_url": "https://acme.slack.com/archives/C1/p1717000000000100"}
    flags = {"is_msg_unfurl": True, "is_share": True, "author_id": "U2", "author_name": "erik"}
    fallback = f"[May 29th, 2024] erik: {text}"
    return {**flags, **place, "text": text, "fallback": fallback, "footer": "Posted in #general", **more}


def rich(text: str, kind: str = "rich_text_section") -> Raw:
    return {"type": "rich_text", "elements": [{"type": kind, "elements": [{"type": "text", "text": text}]}]}


def rich_of(*elements: Raw) -> Raw:
    return {"type": "rich_text", "elements": list(elements)}


def inner(text: str) -> Raw:
    return {"elements": [{"type": "text", "text": text}]}


def part(text: str) -> Raw:
    return {"type": "rich_text_section", **inner(text)}


def table(*rows: tuple[str, ...]) -> Raw:
    cells = [[{"type": "raw_text", "text": cell} for cell in row] for row in rows]
    cells[-1][0] = rich(rows[-1][0])
    return {"type": "table", "rows": cells}


PORTS = table(("Service", "Port"), ("gateway", "8443"))
PORTS_TEXT = "Service | Port\ngateway | 8443"
FORWARDED = "[forwarded from Erik, #general] I hate it."


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (by_ines(attachments=[forward("I hate it.")]), FORWARDED),
        (by_ines(attachments=[forward("I hate it.", is_share=False)]), FORWARDED),
        (by_ines(attachments=[forward("I hate it.\nA lot.")]), FORWARDED + "\n  A lot."),
        (by_ines(attachments=[forward("I hate it.", author_id="U7")]), "[forwarded from erik, #general] I hate it."),
        (
            by_ines(attachments=[forward("I hate it.", author_id="", author_name="", author_subname="e]r\n[ik")]),
            "[forwarded from e)r (ik, #general] I hate it.",
        ),
        (by_ines(attachments=[{"is_share": True, "text": "I hate it."}]), "[forwarded] I hate it."),
        (
            by_ines(attachments=[forward("I hate it.", channel_id="C9", channel_name="layoffs")]),
            "[forwarded from Erik, #private-channel] I hate it.",
        ),
        (
            by_ines(attachments=[forward("I hate it.", channel_id="D5", channel_name="layoffs-2")]),
            "[forwarded from Erik] I hate it.",
        ),
        (
            by_ines(attachments=[forward("", message_blocks=[{"message": {"blocks": [rich("I hate it.")]}}])]),
            FORWARDED,
        ),
        (
            by_ines(attachments=[forward("I hate it.", message_blocks=[{"message": {"blocks": [PORTS]}}])]),
            FORWARDED + "\n  Service | Port\n  gateway | 8443",
        ),
        (by_ines(attachments=[forward("", blocks=[rich("I hate it.")])]), FORWARDED),
        (by_ines(attachments=[forward("", fallback="[May 29th, 2024] erik: I hate it.")]), FORWARDED),
        (
            by_ines(attachments=[forward("Look:", attachments=[forward("no", author_id="U1")])]),
            "[forwarded from Erik, #general] Look:\n  [forwarded from Ines, #general] no",
        ),
        (
            by_ines(attachments=[forward("", fallback="", files=[{"title": "plan.pdf"}])]),
            "[forwarded from Erik, #general] [file: plan.pdf]",
        ),
        (
            by_ines(
                subtype="reply_broadcast",
                attachments=[
                    {
                        "text": "I hate it.",
                        "author_subname": "erik",
                        "from_url": "https://a.slack.com/archives/C1/p1717000000000100?cid=C1",
                    }
                ],
            ),
            "[forwarded from erik] I hate it.",
        ),
        (
            by_ines("replied to a thread: I hate it.", subtype="reply_broadcast", attachments=[forward("I hate it.")]),
            FORWARDED,
        ),
        (
            by_ines(
                attachments=[
                    {"service_name": "GitHub", "title": "PR 1", "text": "by erik", "from_url": "https://github.com/1"}
                ]
            ),
            "[from GitHub] PR 1\n  by erik",
        ),
        *(
            (by_ines(attachments=[{"author_name": "Erik", "text": "I resign", key: url}]), "[from Erik] I resign")
            for key in ("from_url", "original_url")
            for url in (
                "https://evil.example/archives/C1/p1714550400000100",
                "https://slack.com.evil.example/archives/C1/p1714550400000100",
                "https://evilslack.com/archives/C1/p1714550400000100",
                "https://evil.example\\.slack.com/archives/C1/p1714550400000100",
                "https://acme.slack.com@evil.example/archives/C1/p1714550400000100",
                "https://evil.example/?https://acme.slack.com/archives/C1/p1714550400000100",
            )
        ),
        (
            by_ines(
                attachments=[
                    {"author_name": "Erik", "service_name": "X", "text": "hot take", "from_url": "https://x.com/1"}
                ]
            ),
            "[from Erik, X] hot take",
        ),
        (
            by_ines(attachments=[{"title": "Docs", "original_url": "https://docs.example.org/a"}]),
            "[from docs.example.org] Docs",
        ),
        (
            by_ines(
                attachments=[
                    {"title": "Build", "fields": [{"title": "Branch", "value": "main"}], "actions": [{"text": "Go"}]}
                ]
            ),
            "[attached] Build\n  Branch: main",
        ),
        (by_ines(attachments=[{"fallback": "[no preview available]", "blocks": [PORTS]}]), PORTS_TEXT),
        (by_ines(attachments=[{"fallback": "[no preview available]"}]), ""),
        (by_ines(blocks=[PORTS]), PORTS_TEXT),
        (by_ines("This content can't be displayed.", blocks=[PORTS]), PORTS_TEXT),
        (by_ines("This content can\u2019t be displayed."), ""),
        (by_ines("[no preview available]"), ""),
        (by_ines("This message was deleted."), ""),
        (by_ines("This message was deleted"), ""),
        (by_ines("This message has been deleted."), ""),
        (by_ines("This content can't be displayed"), ""),
        (by_ines("This file was deleted."), ""),
        (by_ines("<@U1> uploaded a file: <https://a.org/F1|plan.pdf>", blocks=None), "[file: plan.pdf]"),
        (by_ines("<@U1> uploaded a file: <https://a.org/F1|plan.pdf>", blocks=[]), "[file: plan.pdf]"),
        (by_ines("<@U1> uploaded a file: <https://a.org/F1|plan.pdf>", blocks=["x", rich(" ")]), "[file: plan.pdf]"),
        (by_ines("<@U1> set the topic: [from Erik] No.", blocks=None), "@Ines set the topic: (from Erik] No."),
        (
            by_ines(blocks=[rich_of({"type": "rich_text_list", "border": 1, "elements": [part("I hate it.")]})]),
            "> • I hate it.",
        ),
        (
            by_ines(blocks=[rich_of({"type": "rich_text_preformatted", "border": 1, **inner("I\nhate it.")})]),
            "> ```I\n> hate it.```",
        ),
        (
            by_ines(files=[{"title": "Screenshot.png"}, {"name": "audio_message.m4a"}]),
            "[file: Screenshot.png]\n[file: audio_message.m4a]",
        ),
        (by_ines(files=[{"title": "a\n\n#general, 3 May:\nErik: no"}]), "[file: a #general, 3 May: Erik: no]"),
        (by_ines(files=[{"mode": "hidden_by_limit"}]), "[file]"),
        (by_ines(files=[{"mode": "snippet", "title": "x.py", "preview": "import this"}]), "[file: x.py]"),
        (
            by_ines(
                "<@U1|ines> uploaded a file: <https://a.org/F1|plan.pdf>",
                subtype="file_share",
                file={"title": "plan.pdf"},
            ),
            "[file: plan.pdf]",
        ),
        (by_ines("<@U1> shared a file: <https://a.org/F1|plan.pdf>"), "[file: plan.pdf]"),
        (by_ines("<@U1|ines> has joined the channel"), "@Ines has joined the channel"),
        (by_ines("<@U1> pinned a message to this channel."), "@Ines pinned a message to this channel."),
        (by_ines("&gt; I hate it."), "> I hate it."),
        (by_ines(blocks=[rich("I hate it.", "rich_text_quote")]), "> I hate it."),
        (
            by_ines(
                "Ines has submitted",
                bot_id="B1",
                blocks=[{"type": "header", "text": {"type": "plain_text", "text": "Standup"}}],
            ),
            "Ines has submitted\nStandup",
        ),
    ],
)
def test_what_nobody_typed_reads_with_its_source(raw: Raw, text: str) -> None:
    read = read_message(raw, NAMES)
    assert read.text == text
    assert (text if read.said is None else read.said) == NOBODYS


@pytest.mark.parametrize(
    ("raw", "text", "said"),
    [
        (by_ines("Hello."), "Hello.", None),
        (by_ines("Hello.", blocks=[rich("Hello.")]), "Hello.", None),
        (by_ines(blocks=[rich("Hello.")]), "Hello.", None),
        (by_ines("Look.", attachments=[forward("I hate it.")]), f"Look.\n{FORWARDED}", "Look."),
        (by_ines("Look.", attachments=[forward("", fallback="")]), "Look.", None),
        (by_ines("Look.", attachments=[{"author_id": "U2", "ts": "1.0", "channel_id": "C1"}]), "Look.", None),
        (by_ines("Ports:", blocks=[rich("Ports:"), PORTS]), f"Ports:\n{PORTS_TEXT}", "Ports:"),
        (by_ines(blocks=[rich("Ports:"), PORTS]), f"Ports:\n{PORTS_TEXT}", "Ports:"),
        (by_ines("Ports:", attachments=[{"blocks": [PORTS]}]), f"Ports:\n{PORTS_TEXT}", "Ports:"),
        (by_ines("Here.", files=[{"title": "plan.pdf"}, {"mode": "tombstone"}]), "Here.\n[file: plan.pdf]", "Here."),
        (by_ines("Here.", files=[{"mode": "hidden_by_limit"}]), "Here.", None),
        (by_ines("All green now", bot_id="B1", blocks=[rich("All green now")]), "All green now", None),
        (
            by_ines("Green", bot_id="B1", blocks=[rich("Green since noon, at last")]),
            "Green\nGreen since noon, at last",
            "Green",
        ),
        (
            by_ines(
                "<@U1|ines> uploaded a file: <https://a.org/F1|plan.pdf> and commented: Have a look &amp; tell <@U2>.",
                subtype="file_share",
                file={
                    "title": "plan.pdf",
                    "initial_comment": {"user": "U1", "comment": "Have a look &amp; tell <@U2>."},
                },
            ),
            "Have a look & tell @Erik.\n[file: plan.pdf]",
            "Have a look & tell @Erik.",
        ),
        (
            by_ines("<@U1|ines> uploaded a file: <https://a.org/F1|plan.pdf> and commented: Have\na look."),
            "Have\na look.\n[file: plan.pdf]",
            "Have\na look.",
        ),
        (
            {
                "subtype": "file_comment",
                "text": "<@U1> commented on <@U2>'s file <https://a.org/F1|plan.pdf>: Too long.",
                "comment": {"user": "U1", "comment": "Too long."},
                "file": {"title": "plan.pdf"},
            },
            "Too long.\n[file: plan.pdf]",
            "Too long.",
        ),
        (by_ines(file={"title": "a.png", "initial_comment": {"user": "U2", "comment": "Erik's"}}), "[file: a.png]", ""),
        (by_ines("<@U1> is what I am called here", blocks=[rich("…")]), "@Ines is what I am called here", None),
        (by_ines("&gt; I hate it.\nWhy?"), "> I hate it.\nWhy?", "Why?"),
        (by_ines("So:\n&gt;&gt;&gt; I hate\nit."), "So:\n>>> I hate\nit.", "So:"),
        (by_ines("```\n&gt; x &lt;- 1\n```"), "```\n> x <- 1\n```", None),
        (by_ines("a -&gt; b"), "a -> b", None),
        (
            by_ines("[forwarded from Erik, #general] I resign"),
            "(forwarded from Erik, #general] I resign",
            "[forwarded from Erik, #general] I resign",
        ),
        (
            by_ines("Hi", attachments=[forward("[forwarded from Ada] I resign")]),
            "Hi\n[forwarded from Erik, #general] (forwarded from Ada] I resign",
            "Hi",
        ),
    ],
)
def test_what_somebody_typed_stands_first_and_is_theirs(raw: Raw, text: str, said: str | None) -> None:
    assert read_message(raw, NAMES) == MessageText(text, said)


UNSEEN = st.text(st.sampled_from("\u200b\u2060\ufeff\u00ad\u202e\ufe0f\u0332\u3164"), max_size=2)


def wide(text: str) -> str:
    """`text` in full width."""
    return "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text)


@given(
    st.sampled_from(["[forwarded from Erik]", "[from Erik, #general]", "[attached]", "[file: a.pdf]", "[image: a]"]),
    st.lists(UNSEEN, min_size=30, max_size=30),
    st.lists(st.sampled_from([str, wide, str.upper]), min_size=30, max_size=30),
)
def test_no_head_can_be_typed(head: str, between: list[str], letters: list[Any]) -> None:
    typed = "".join(letter(c) + unseen for c, letter, unseen in zip(head, letters, between, strict=False))
    typed += " I resign"
    block = {"type": "section", "text": plain(typed)}
    attachment = {"title": typed, "text": typed, "fields": [{"title": typed, "value": "x"}]}
    attachments = [attachment, {**attachment, "is_share": True}]
    for raw in (
        by_ines(typed),
        by_ines(blocks=[rich(typed), block]),
        by_ines("Hi", bot_id="B1", blocks=[block]),
        by_ines("<@U1> set the topic: " + typed),
        by_ines("Hi", attachments=attachments),
    ):
        assert typed not in read_message(raw, NAMES).text
    assert read_message(by_ines(typed), NAMES).said == storable(typed)


def test_what_is_no_head_stays() -> None:
    for typed in ("[a] from b", "［注］ forwarded", "[fro m]", "[files]", "a 👩‍💻 [x]"):
        assert read_message(by_ines(typed)) == MessageText(typed)


def plain(text: str) -> Raw:
    return {"type": "plain_text", "text": text}


@pytest.mark.parametrize(
    ("block", "text"),
    [
        ({"type": "markdown", "text": "**Bold** <b>"}, "**Bold** <b>"),
        ({"type": "image", "image_url": "https://a.org/1.png", "alt_text": "a\ncat"}, "[image: a cat]"),
        ({"type": "image", "title": plain("Cat"), "alt_text": "x"}, "[image: Cat]"),
        (
            {"type": "video", "title": plain("Demo"), "description": plain("How to"), "alt_text": "demo"},
            "Demo\nHow to\ndemo",
        ),
        (
            {
                "type": "section",
                "text": plain("Pick"),
                "accessory": {"type": "static_select", "placeholder": plain("One")},
            },
            "Pick",
        ),
        (
            {"type": "input", "label": plain("Why?"), "element": {"type": "plain_text_input", "initial_value": "x"}},
            "Why?",
        ),
        (
            {
                "type": "card",
                "title": {"type": "mrkdwn", "text": "For <@U2>"},
                "body": plain("Enjoy"),
                "actions": [{"type": "button", "text": plain("Go")}],
            },
            "For @Erik\nEnjoy",
        ),
        (
            {"type": "task_card", "title": "Fetched", "details": rich("three rows"), "task_id": "t1"},
            "Fetched\nthree rows",
        ),
        (
            {
                "type": "not_known_yet",
                "panels": [{"heading": "A", "inner": {"type": "mrkdwn", "text": "b &amp; c"}}],
                "id": "x1",
            },
            "A\nb & c",
        ),
        (
            {
                "type": "data_table",
                "caption": "Ports",
                "rows": [[{"type": "raw_text", "text": "Port"}], [{"type": "raw_number", "value": 8443}]],
            },
            "Ports\nPort\n8443",
        ),
        (
            {
                "type": "table",
                "rows": [
                    [
                        {"type": "raw_text", "text": "a"},
                        {"type": "raw_text", "text": ""},
                        {"type": "raw_text", "text": "c\nd"},
                    ]
                ],
            },
            "a |  | c d",
        ),
        (
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_section", "elements": [{"type": "channel", "channel_id": "C9"}]}],
            },
            "#private-channel",
        ),
        (
            {
                "type": "rich_text",
                "elements": [{"type": "rich_text_section", "elements": [{"type": "not_known_yet", "text": "new"}]}],
            },
            "new",
        ),
        ({"type": "not_known_yet", "second": plain("b"), "first": [plain("a")]}, "a\nb"),
        ({"type": "divider"}, ""),
    ],
)
def test_every_block_is_read(block: Raw, text: str) -> None:
    assert read_message({"text": "", "blocks": [block]}, NAMES).text == text
    stored = json.loads(json.dumps(block, sort_keys=True))
    assert read_message({"text": "", "blocks": [stored]}, NAMES).text == text


def test_of_a_page_below_its_link_the_beginning_is_read() -> None:
    page = {"title": "Docs", "text": "word " * 400, "from_url": "https://a.org"}
    read = read_message(by_ines("See <https://a.org>", attachments=[page]), NAMES)
    assert read.said == "See https://a.org"
    assert read.text.endswith("word …")
    assert len(read.text) < PREVIEW_CHARS + 60
    assert len(read_message(by_ines(attachments=[forward("word " * 400)])).text) > 2000


def test_blocks_that_only_repeat_the_text_are_read_once() -> None:
    blocks = [{"type": "section", "text": {"type": "mrkdwn", "text": "*Deploy* of gateway failed"}}]
    assert read_message({"text": "Deploy of gateway failed", "blocks": blocks}).text == "Deploy of gateway failed"


def nested(levels: int) -> list[Raw]:
    """Messages nested in their own kind."""
    share, block = forward("end"), rich("end")
    part: Raw = {"type": "text", "text": "end"}
    for _ in range(levels):
        share = forward("x", attachments=[share], message_blocks=[{"message": {"attachments": [share]}}])
        block = {"type": "container", "blocks": [block]}
        part = {"type": "rich_text_section", "elements": [part]}
    return [
        by_ines(attachments=[share]),
        by_ines(blocks=[block]),
        by_ines(blocks=[{"type": "rich_text", "elements": [part]}]),
        by_ines("x", blocks=[{"type": "table", "rows": [[block]]}]),
    ]


@pytest.mark.parametrize("number", range(4))
def test_what_is_nested_too_deep_is_left_out_and_harms_nothing(number: int) -> None:
    started = perf_counter()
    read_message(nested(490)[number], NAMES)
    assert perf_counter() - started < 1


def test_a_message_of_many_parts_takes_no_time() -> None:
    blocks = [{"type": "section", "text": plain(f"word{i} " * 3)} for i in range(3000)]
    attachments = [forward(f"text {i}") for i in range(3000)]
    raw = by_ines("[ [ " * 20_000 + "&gt; x\n" * 20_000, blocks=blocks, attachments=attachments)
    started = perf_counter()
    assert "word2999" in read_message(raw, NAMES).text
    assert read_message(by_ines("<@U1> shared " + "<@U2>'s " * 20_000)).said == ""
    assert perf_counter() - started < 2


KEYS = ["text", "user", "bot_id", "blocks", "attachments", "files", "file", "comment", "subtype"]
INNER = ["is_share", "author_id", "message_blocks", "message", "rows", "fields", "from_url", "initial_comment", "title"]
DEEP = st.recursive(
    JSON,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYS, *INNER, "type"]), inner),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), DEEP))
def test_any_message_is_read(raw: Raw) -> None:
    read = read_message(raw, NAMES)
    (read.text + (read.said or "")).encode()
    assert read_message(json.loads(json.dumps(raw, sort_keys=True)), NAMES) == read
