"""What stands around an answer in Slack says what it must, and Slack takes it, whatever names and texts are in it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from doppel.labels import NO_SOURCES, byline
from doppel.records import Passage, Persona, Reply
from doppel.slack import blocks, consent_blocks
from doppel.slack.consent_blocks import Consent, ConsentRequest, Home, consent_request, home_view
from doppel.slack.outgoing import outgoing
from tests.block_kit import elements, faults, texts, view_faults

ADA = Persona("T1", "U1", "Ada Lovelace", "ada", "v3")
EXPIRES = datetime(2026, 5, 4, 12, 30, tzinfo=UTC)


def passage(channel: str = "general", permalink: str = "https://t.slack.com/archives/C1/p1710331200000100") -> Passage:
    return Passage(channel, None, "1710331200.000100", "1710331300.000100", ("Ada: x",), (0, 1), "x", permalink, 0.9)


def reply(*sources: Passage, persona: Persona = ADA, notes: tuple[str, ...] = ()) -> Reply:
    return Reply(persona, "Hello.", sources, 10, 5, 0.1, 0.5, notes)


REQUEST = ConsentRequest("r1", "Grace", ("general", "dev"), 1200, EXPIRES)
HOME = Home("U1", "Ada", Consent.GRANTED, EXPIRES, 1200, ("general", "dev"), "v3")


def seen(value: object) -> str:
    return "\n".join(texts(value))


def test_an_answer_says_for_good_that_an_ai_wrote_it_and_which_version() -> None:
    first = seen(blocks.closing_blocks(reply(passage()), "a1")[0])
    assert byline("Ada Lovelace") in first
    assert "version v3" in first
    assert "no adapter" in blocks.mark(replace(ADA, version=None))


def test_sources_are_links_with_channel_and_day_and_the_rest_is_counted() -> None:
    listed = blocks.sources([passage(f"c{i}", f"https://t.slack.com/p{i}?a=1&b=2") for i in range(8)])
    assert "1. <https://t.slack.com/p0?a=1&amp;b=2|#c0> · <!date^1710331200^{date_short_pretty}|13 Mar 2024>" in listed
    assert listed.count("<https://") == blocks.MAX_SOURCES
    assert listed.endswith("and 3 more")
    assert "more" not in blocks.sources([passage()])
    assert blocks.sources([]) == NO_SOURCES


@pytest.mark.parametrize(
    "link", ["", "javascript:alert(1)", "https://a|b>", "https://a>b<!here>", f"https://{'a' * 300}"]
)
def test_a_source_without_a_good_link_is_named_only(link: str) -> None:
    listed = blocks.sources([passage(permalink=link)])
    assert "#general" in listed
    assert "|#general" not in listed


def test_feedback_carries_the_answers_id_and_the_opinion_and_nothing_else() -> None:
    (pressed,) = elements(blocks.closing_blocks(reply(), "a1"), "feedback_buttons")
    assert blocks.read_feedback(pressed["positive_button"]["value"]) == ("a1", True)
    assert blocks.read_feedback(pressed["negative_button"]["value"]) == ("a1", False)
    for value in ("", "like:", "like:a b", "love:a1", "like:" + "a" * 65):
        with pytest.raises(ValueError, match="feedback"):
            blocks.read_feedback(value)
    with pytest.raises(ValueError, match="id"):
        blocks.closing_blocks(reply(), "the question itself")


def test_notes_and_troubles_are_told() -> None:
    assert "no adapter yet" in seen(blocks.closing_blocks(reply(notes=("Ada has no adapter yet.",)), "a1"))
    assert "Ask an owner &lt;b&gt;." in seen(blocks.error_blocks("Ask an owner <b>."))


def test_an_answer_to_one_person_can_be_shared_and_is_marked_at_its_end() -> None:
    messages = blocks.ephemeral_messages("A sentence of the answer. " * 800, reply(passage()), "a1")
    assert len(messages) == 3
    assert not [fault for message in messages for fault in faults(message)]
    assert [bool(elements(message, "button")) for message in messages] == [False, False, True]
    (share,) = elements(messages, "button")
    assert (share["action_id"], share["value"]) == (blocks.SHARE, "a1")
    assert byline("Ada Lovelace") in seen(messages[-1])
    assert faults(blocks.ephemeral_messages("", reply(), "a1")[0]) == []


def test_a_request_says_what_is_read_and_made_how_to_undo_it_and_until_when() -> None:
    text = seen(consent_request(REQUEST))
    for said in (
        "Grace",
        "1,200 messages in #general and #dev",
        "adapter",
        "Home tab",
        "deleted",
        "04 May 2026, 12:30 UTC",
    ):
        assert said in text
    agree, decline = elements(consent_request(REQUEST), "button")
    assert (agree["action_id"], decline["action_id"]) == (consent_blocks.AGREE, consent_blocks.DECLINE)
    assert agree["value"] == decline["value"] == "r1"


def test_what_stands_in_place_of_a_request_has_no_buttons() -> None:
    for settled in (
        consent_blocks.consent_settled(True),
        consent_blocks.consent_settled(False),
        consent_blocks.consent_expired(),
    ):
        assert faults(settled) == []
        assert not elements(settled, "button")
    assert seen(consent_blocks.consent_settled(True)) != seen(consent_blocks.consent_settled(False))


@pytest.mark.parametrize("consent", Consent)
def test_the_home_offers_to_withdraw_only_what_was_granted(consent: Consent) -> None:
    view = home_view(replace(HOME, consent=consent))
    (button,) = elements(view, "button")
    granted = consent is Consent.GRANTED
    assert button["action_id"] == (consent_blocks.WITHDRAW if granted else consent_blocks.AGREE)
    assert ("confirm" in button) == granted
    assert ("version v3 answers" in seen(view)) == granted
    assert "1,200 messages of Ada in #general and #dev" in seen(view)
    assert view_faults(view) == []


def test_the_request_and_the_home_tell_of_changed_drafts() -> None:
    assert "what you change in a draft before you send it is kept and learned from" in seen(consent_request(REQUEST))
    assert "3 drafts that you changed" in seen(home_view(replace(HOME, edits=3)))
    assert "draft" not in seen(home_view(HOME))


def test_the_home_tells_what_is_not_there() -> None:
    text = seen(home_view(replace(HOME, messages=0, channels=(), version=None, state="A training is under way.")))
    assert "no messages" in text
    assert "no adapter answers yet. A training is under way." in text
    many = seen(consent_request(replace(REQUEST, channels=tuple(f"c{i}" for i in range(25)), messages=1)))
    assert "1 message in #c0" in many
    assert "and 15 other channels" in many


HOSTILE = st.sampled_from(
    [
        "<!channel>",
        "<@U2>",
        "@here",
        "</>|",
        "&" * 400,
        "<" * 700,
        "```",
        "[a](https://evil.org)",
        "\n\n",
        "\ud800",
        "\0",
    ]
)
TEXT = st.lists(HOSTILE | st.text(max_size=40), max_size=6).map("".join)
PASSAGES = st.lists(st.builds(passage, TEXT, TEXT | st.just("https://t.slack.com/p1")), max_size=9).map(tuple)


def harmless(value: object) -> bool:
    """Whether Slack takes it as JSON, and the only control sequences are our dates and links to the sources."""
    json.dumps(value).encode()
    marked = [text["text"] for text in elements(value, "mrkdwn")]
    controls = [found for text in marked for found in re.findall(r"<[^>]*>?", text)]
    ours = re.compile(r"<!date\^\d+\^[{}\w ]+\|[\w ,:]+>|<https?://[^<>|]+\|[^<>|]+>")
    return all(ours.fullmatch(found) for found in controls) and not any("@here" in text for text in marked)


@example("", "", None, (), ("\x00\n\n\x00",))
@example("&" * 12_000, "&" * 200, "&" * 200, (), ("&" * 1_000,) * 6)
@given(TEXT, TEXT, st.none() | TEXT, PASSAGES, st.lists(TEXT, max_size=6).map(tuple))
def test_slack_takes_any_answer(
    text: str, name: str, version: str | None, found: tuple[Passage, ...], notes: tuple[str, ...]
) -> None:
    given_by = Persona("T1", "U1", name, "x", version)
    answer = reply(*found, persona=given_by, notes=notes)
    for message in (
        blocks.closing_blocks(answer, "a1"),
        blocks.error_blocks(text),
        *blocks.ephemeral_messages(outgoing(text), answer, "a1"),
    ):
        assert faults(message) == []
        assert harmless(message)


@given(TEXT, st.lists(TEXT, max_size=15).map(tuple), st.integers(0, 10**9), TEXT, st.sampled_from(Consent))
def test_slack_takes_any_request_and_home(
    name: str, channels: tuple[str, ...], messages: int, state: str, consent: Consent
) -> None:
    request = consent_request(ConsentRequest("r1", name, channels, messages, EXPIRES))
    view = home_view(Home("U1", name, consent, EXPIRES, messages, channels, name, state))
    assert faults(request) == []
    assert view_faults(view) == []
    assert harmless([*request, view])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ([], "not a list"),
        ([blocks.divider()] * 51, "at most 50"),
        ([blocks.section("x") | {"text": {"type": "mrkdwn", "text": "x" * 3001}}], "3001 characters"),
        ([blocks.section(" ")], "no text"),
        ([blocks.context("x") | {"elements": [{"type": "mrkdwn", "text": "x"}] * 11}], "1 to 10"),
        ([blocks.markdown("x" * 7000), blocks.markdown("x" * 7000)], "too much markdown"),
        ([blocks.section("x" * 2900)] * 5, "too much text"),
        ([blocks.actions()], "1 to 25"),
        ([blocks.actions(blocks.button("a", "x", "1"), blocks.button("b", "x", "2"))], "stands twice"),
        ([{"type": "header", "text": {"type": "mrkdwn", "text": "x"}}], "no text of plain_text"),
        ([{"type": "video"}], "no block"),
        ([blocks.divider() | {"txt": "x"}], "not known"),
        ([blocks.divider() | {"block_id": "x" * 256}], "at most 255"),
        (
            [{"type": "actions", "elements": [blocks.button("a", "x", "1").to_dict() | {"value": "x" * 2001}]}],
            "at most 2000",
        ),
        ([{"type": "context_actions", "elements": [{"type": "feedback_buttons", "action_id": "x"}]}], "no text"),
    ],
)
def test_the_validator_finds_what_slack_would_refuse(wrong: list[blocks.Block], said: str) -> None:
    assert any(said in fault for fault in faults(wrong))
