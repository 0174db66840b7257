"""What Slack's markup reads as."""

from __future__ import annotations

import json
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from doppel.records import MessageKind
from doppel.slack.markup import Names, render_text
from doppel.slack.message_text import render_message
from doppel.slack.messages import timestamp, translate

NAMES = Names({"U1": "Ada Lovelace", "U2": "Grace"}, {"C1": "general"}, groups={"S3": "platform", "S4": "on-call"})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hi <@U1>!", "hi @Ada Lovelace!"),
        ("<@U1|ada> and <@U7|joe> and <@U8>", "@Ada Lovelace and @joe and @U8"),
        ("see <#C1|old-name>, <#C1|>, <#C2|random>, <#C3|>", "see #general, #general, #random, #C3"),
        ("<!here> <!channel> <!everyone|everyone>", "@here @channel @everyone"),
        ("<!subteam^S1|@devs> <!subteam^S2>", "@devs @S2"),
        ("<!subteam^S3> <!subteam^S4|@old-name>", "@platform @on-call"),
        ("<!date^1392734382^{date_num}|Feb 18> <!date^0^{time}> <!date^x^{time}>", "Feb 18 1970-01-01 00:00 UTC x"),
        ("<https://a.org/x?y=1&amp;z=2|the docs>", "the docs (https://a.org/x?y=1&z=2)"),
        (
            "<https://a.org> <http://a.org|a.org> <https://a.org|https://a.org>",
            "https://a.org http://a.org https://a.org",
        ),
        ("<mailto:a@b.org|a@b.org> <mailto:a@b.org|write>", "a@b.org write (mailto:a@b.org)"),
        ("1 &lt; 2 &amp;&amp; 3 &gt; 2", "1 < 2 && 3 > 2"),
        ("&amp;lt;@U1&amp;gt; &lt;@U1&gt;", "&lt;@U1&gt; <@U1>"),
        (":wave::skin-tone-2: 👩🏽‍💻 :+1:", ":wave::skin-tone-2: 👩🏽‍💻 :+1:"),
        ("a <b> c < d <> <|> <@U1", "a <b> c < d <> <|> <@U1"),
    ],
)
def test_reads_as_people_see_it(text: str, expected: str) -> None:
    assert render_text(text, NAMES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`a &lt; b`", "`a < b`"),
        ("```<@U1> &lt;@U2&gt;\n  :wave:```  <@U2>", "```<@U1> <@U2>\n  :wave:```  @Grace"),
        ("`<http://rep.int|rep.int>(x)` and `<https://a.org>`", "`rep.int(x)` and `https://a.org`"),
        ("```\nx <- f(<#C1>)\n```", "```\nx <- f(<#C1>)\n```"),
        ("``` no end <@U2>", "``` no end @Grace"),
        ("it's 5` wide, <@U2>", "it's 5` wide, @Grace"),
        ("<https://a.org|`f()` &lt; `g()`> by <@U2>", "`f()` < `g()` (https://a.org) by @Grace"),
        ("`a` <https://a.org|`b`> `c`", "`a` `b` (https://a.org) `c`"),
    ],
)
def test_code_keeps_what_was_typed(text: str, expected: str) -> None:
    assert render_text(text, NAMES) == expected


def rich(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"text": "", "blocks": [{"type": "rich_text", "elements": list(elements)}]}


def section(*inline: dict[str, Any]) -> dict[str, Any]:
    return {"type": "rich_text_section", "elements": list(inline)}


def test_blocks_stand_in_for_an_empty_text() -> None:
    raw = rich(
        section(
            {"type": "text", "text": "Ask "},
            {"type": "user", "user_id": "U1"},
            {"type": "text", "text": " in "},
            {"type": "channel", "channel_id": "C1"},
            {"type": "text", "text": "lm()", "style": {"code": True}},
            {"type": "link", "url": "https://a.org", "text": "docs"},
            {"type": "emoji", "name": "wave", "skin_tone": 3},
            {"type": "broadcast", "range": "here"},
        ),
        {
            "type": "rich_text_list",
            "style": "ordered",
            "indent": 1,
            "elements": [section({"type": "text", "text": "one"}), section({"type": "text", "text": "two"})],
        },
        {"type": "rich_text_preformatted", "elements": [{"type": "text", "text": "x < 1"}]},
        {"type": "rich_text_quote", "elements": [{"type": "text", "text": "a\nb"}]},
    )
    assert render_message(raw, NAMES) == (
        "Ask @Ada Lovelace in #general`lm()`docs (https://a.org):wave::skin-tone-3:@here\n"
        "    1. one\n    2. two\n```x < 1```\n> a\n> b"
    )


def test_text_goes_before_blocks() -> None:
    assert render_message({**rich(section({"type": "text", "text": "blocks"})), "text": "text"}) == "text"


def test_sections_of_bots_read_too() -> None:
    blocks = [
        {"type": "header", "text": {"type": "plain_text", "text": "Build &lt;12&gt;"}},
        {
            "type": "section",
            "text": {"type": "mrkdwn", "text": "by <@U1>"},
            "fields": [{"type": "mrkdwn", "text": "ok"}],
        },
        {"type": "divider"},
        {"type": "actions", "elements": [{"type": "button", "text": {"type": "plain_text", "text": "Retry"}}]},
        {"type": "context", "elements": [{"type": "image"}, {"type": "mrkdwn", "text": "&amp; done"}]},
    ]
    assert render_message({"text": "", "blocks": blocks}, NAMES) == "Build &lt;12&gt;\nby @Ada Lovelace\nok\n& done"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"attachments": [{"title": "PR 1", "text": "by <@U1>", "fallback": "no"}]}, "PR 1\nby @Ada Lovelace"),
        ({"attachments": [{"fallback": "only &amp; this"}]}, "only & this"),
        (
            {"files": [{"title": "plan.pdf"}, {"name": "b.png"}, {"mode": "tombstone"}]},
            "[file: plan.pdf]\n[file: b.png]\n[file]",
        ),
        ({"file": {"title": "old"}}, "[file: old]"),
        ({"text": None, "blocks": 5, "attachments": {}, "files": [3]}, ""),
    ],
)
def test_what_is_attached_stands_in_for_no_text(raw: dict[str, Any], expected: str) -> None:
    assert render_message(raw, NAMES) == expected


def test_long_texts_pass_whole_and_in_no_time() -> None:
    hostile = "<" * 40_000 + "```" + "`" * 40_000 + "<@U1|" * 8_000 + "&" * 40_000
    started = perf_counter()
    assert render_text("x" * 40_000 + "<@U1>", NAMES) == "x" * 40_000 + "@Ada Lovelace"
    assert len(render_text(hostile, NAMES)) == len(hostile)
    assert perf_counter() - started < 1


def test_lone_surrogates_and_nul_are_replaced() -> None:
    raw = json.loads(r'{"text": "a\ud800b\udc00 \ud83d\ude00 \u0000"}')
    assert render_message(raw) == "a�b� 😀 �"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
        ["type", "text", "elements", "blocks", "url", "name", "style", "indent", "offset", "user_id", "fields", "title",
         "skin_tone", "timestamp", "fallback", "files", "attachments", "user", "ts", "edited", "subtype", "username"]
    ), inner, max_size=6),
    max_leaves=25,
)  # fmt: skip
MARKUP = st.text(st.sampled_from(list("<>@#!|^`&;:amp lt\nUC1\ud800é")), max_size=60)


@given(MARKUP)
def test_any_text_renders_to_what_can_be_stored(text: str) -> None:
    render_message({"text": text}, NAMES).encode()


@example({"blocks": [{"type": []}]})
@given(st.dictionaries(st.sampled_from(["text", "blocks", "attachments", "files", "user", "edited"]), JSON))
def test_any_message_renders_to_what_can_be_stored(raw: dict[str, Any]) -> None:
    message = translate({**raw, "ts": "1.0"}, "T1", "C1", NAMES)
    assert message is not None
    (message.record.text + message.record.author + (message.record.user or "")).encode()


@given(st.sampled_from(["rich_text_section", "rich_text_list", "rich_text_quote"]), st.lists(JSON, max_size=4))
def test_any_block_renders_to_what_can_be_stored(kind: str, elements: list[Any]) -> None:
    render_message(rich({"type": kind, "elements": elements, "style": "ordered"}), NAMES).encode()


@pytest.mark.parametrize(
    ("raw", "kind"),
    [
        ({"user": "U1"}, MessageKind.HUMAN),
        ({"user": "U1", "subtype": "thread_broadcast"}, MessageKind.HUMAN),
        ({"user": "U1", "subtype": "me_message"}, MessageKind.HUMAN),
        ({"user": "U1", "subtype": "file_share"}, MessageKind.HUMAN),
        ({"subtype": "file_comment", "comment": {"user": "U1"}}, MessageKind.HUMAN),
        ({"subtype": "bot_message", "username": "CI"}, MessageKind.BOT),
        ({"user": "U7", "bot_id": "B1"}, MessageKind.BOT),
        ({"user": "U9", "bot_id": "B1"}, MessageKind.BOT),
        ({"user": "U1", "bot_id": "B1"}, MessageKind.HUMAN),
        ({"user": "U1", "bot_id": "B1", "bot_profile": {"name": "IRC"}, "app_id": "A1"}, MessageKind.HUMAN),
        ({"user": "U1", "bot_id": "B1", "username": "ada lovelace"}, MessageKind.HUMAN),
        ({"user": "U1", "bot_id": "B1", "username": "ada", "user_profile": {"name": "ada"}}, MessageKind.HUMAN),
        ({"user": "U1", "bot_id": "B1", "username": "Standup"}, MessageKind.BOT),
        ({"user": "U1", "bot_id": "B1", "subtype": "bot_message"}, MessageKind.BOT),
        ({"bot_id": "B1"}, MessageKind.BOT),
        ({"user": "U9"}, MessageKind.BOT),
        ({"username": "webhook"}, MessageKind.BOT),
        ({"user": "U1", "subtype": "channel_join"}, MessageKind.SYSTEM),
        ({"user": "U1", "subtype": "bot_add", "bot_id": "B1"}, MessageKind.SYSTEM),
        ({"user": "USLACKBOT", "bot_id": "B01"}, MessageKind.SYSTEM),
        ({"user": "U1", "subtype": "never_heard_of"}, MessageKind.SYSTEM),
        ({"subtype": "huddle_thread", "user": "U1"}, MessageKind.SYSTEM),
        ({}, MessageKind.SYSTEM),
    ],
)
def test_who_speaks(raw: dict[str, Any], kind: MessageKind) -> None:
    message = translate({"ts": "1.0", "text": "x", **raw}, "T1", "C1", NAMES, bots={"U9"})
    assert message is not None
    assert message.record.kind is kind


def test_a_tombstone_has_no_text() -> None:
    message = translate({"ts": "1.0", "text": "This message was deleted.", "subtype": "tombstone"}, "T1", "C1")
    assert message is not None
    assert (message.record.text, message.record.kind) == ("", MessageKind.SYSTEM)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1700000000.000100", "1700000000.000100"),
        (1700000000.0001, "1700000000.000100"),
        (1700000000, "1700000000"),
    ],
)
def test_timestamps_are_numbers(value: object, expected: str) -> None:
    assert timestamp(value) == expected


@pytest.mark.parametrize(
    "value", ["yesterday", "", None, True, [], -1, float("nan"), "1e9", "9" * 30, 10**30, 10.0**30, "٣.1"]
)
def test_what_is_no_timestamp_is_none(value: object) -> None:
    assert timestamp(value) is None
