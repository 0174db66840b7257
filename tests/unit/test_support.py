"""What carries a sentence, what is left of an answer, and what is quoted instead."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.engine.support import (
    Likeness,
    SentenceReader,
    best_first,
    carrier,
    evidence_of,
    excerpt,
    is_small_talk,
    quote,
    sentences,
)
from doppel.records import Passage, TextDelta, Turn

LINES = (
    "Jun: why did we drop kafka?",
    "Ines: because we lost 11 events in january through it, and three of five incidents were rebalancing.",
    "Ines: never delete an old file in pg_wal. ask me first.",
    "Bram: the outbox table costs us nothing.",
)
STAMPS = tuple(f"{1_742_300_000 + 86_400 * number}.000100" for number in range(4))
PASSAGE = Passage("ops", None, STAMPS[0], STAMPS[-1], LINES, (0, 4), "", "https://x/1", 0.5, stamps=STAMPS)
EVIDENCE = evidence_of([PASSAGE])


@pytest.mark.parametrize(
    ("sentence", "by"),
    [
        ("We lost 11 events in January.", 1),
        ("Three of five incidents were rebalancing.", 1),
        ("We lost 12 events in January.", None),
        ("We lost no events in January.", None),
        ("Never delete an old file in pg_wal.", 2),
        ("Delete an old file in pg_wal.", None),
        ("The outbox table costs nothing, says Henrik.", None),
        ("The moon is made of cheese.", None),
        ("Yes.", None),
        ("", None),
    ],
)
def test_a_sentence_is_carried_by_a_message_that_says_it(sentence: str, by: int | None) -> None:
    found = carrier(sentence, EVIDENCE)
    assert (found.number if found else None) == by


def test_what_people_said_in_the_conversation_carries_too_and_what_a_model_said_does_not() -> None:
    turns = [Turn("Bob", "the broker is full"), Turn("Ines", "the disk melted", True, by_ai=True), Turn("Bob", "so?")]
    found = evidence_of([], turns)
    assert [(e.source, e.text) for e in found] == [(None, "the broker is full")]
    assert carrier("The broker is full.", found)
    assert not carrier("The disk melted.", found)


def passed(*pieces: str) -> tuple[str, list[int | None]]:
    return read(*pieces, drops=True)


def read(*pieces: str, drops: bool = False) -> tuple[str, list[int | None]]:
    """What is shown of pieces, and the sources of its sentences."""
    reader = SentenceReader(EVIDENCE, drops)
    shown = [delta for piece in pieces for delta in reader.feed(piece)] + reader.close()
    sources = [sentence.source for sentence in reader.passed]
    assert [delta.source for delta in shown if delta.source is not None] == [s for s in sources if s is not None]
    return "".join(delta.text for delta in shown), sources


def test_only_what_is_carried_passes_and_once() -> None:
    said = "because we lost 11 events in january through it. because we lost 11 events in january through it. My cat!"
    assert passed(said) == ("because we lost 11 events in january through it.", [0])
    assert passed(*said) == passed(said)
    assert passed("My cat!") == ("", [])


@given(st.text(max_size=200), st.lists(st.integers(0, 200), max_size=8))
def test_pieces_pass_as_the_whole_does(text: str, cuts: list[int]) -> None:
    ends = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
    pieces = [text[a:b] for a, b in itertools.pairwise(ends)]
    assert passed(*pieces) == passed(text)
    assert read(*pieces) == read(text)


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("how many events were lost in january?", "We lost events in January."),
        ("what of rebalancing?", "# Three of five incidents were rebalancing."),
        ("what of rebalancing?", "Bram: *three of five incidents were rebalancing*"),
        ("what of rebalancing?", "Three of five incidents were rebalancing yesterday."),
    ],
)
def test_what_tells_no_more_than_the_question_or_a_title_is_no_answer(question: str, text: str) -> None:
    reader = SentenceReader(EVIDENCE, True, question)
    assert [*reader.feed(text), *reader.close()] == []


def test_a_source_comes_where_its_sentence_ends() -> None:
    reader = SentenceReader(EVIDENCE)
    told = "because we lost 11 events in january through it. "
    assert reader.feed(told) == [TextDelta(told)]
    assert reader.feed("My cat!") == [TextDelta("", 0), TextDelta("My cat!")]
    assert reader.close() == []


def test_a_source_comes_before_the_line_that_follows() -> None:
    told = "- because we lost 11 events in january through it"
    for pieces in ([f"{told}\n- My cat!"], [told, "\n", "- My cat!"], [f"{told} ", "\n- My cat!"]):
        reader = SentenceReader(EVIDENCE)
        shown = [delta for piece in pieces for delta in reader.feed(piece)]
        (cited,) = [number for number, delta in enumerate(shown) if delta.source == 0]
        assert "".join(delta.text for delta in shown[: cited + 1]).rstrip() == told
        assert "\n" not in "".join(delta.text for delta in shown[: cited + 1])


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    shown, sources = read(text)
    assert shown == text
    assert len(sources) == len(sentences(text))
    assert "".join("".join(sentences(text)).split()) in "".join(text.split()) or not text.strip()
    assert len(excerpt("why?", text * 9)) <= 300


def test_what_is_quoted_is_near_the_question_and_rather_the_persons_own() -> None:
    likeness = Likeness([0.9, 0.5, 0.1, 0.5], [0.5, 0.5, 0.1, 0.5])
    best, *_ = best_first("why did we drop kafka?", "Ines", EVIDENCE, likeness)
    assert best.number == 1
    assert quote("why?", best, "Ines", PASSAGE).startswith("On 19 March 2025 I said: because we lost 11 events")
    other, *_ = best_first("what does the outbox cost?", "Bram", EVIDENCE, Likeness([0, 0, 0, 1], [0, 0, 0, 1]))
    assert quote("what?", other, "Ines", PASSAGE) == "On 21 March 2025 Bram wrote: the outbox table costs us nothing."


def test_a_quote_mark_that_ends_a_sentence_belongs_to_it() -> None:
    assert sentences('He said "no." Then (twice.) She left.') == ['He said "no."', "Then (twice.)", "She left."]


def test_a_long_message_is_quoted_where_it_speaks_of_the_question() -> None:
    text = "Lunch was good. " * 30 + "The backup runs at 02:00. It takes an hour. " + "More words follow here. " * 30
    found = excerpt("when does the backup run?", text)
    assert found.startswith("The backup runs at 02:00. It takes an hour.")
    assert len(found) <= 300


@pytest.mark.parametrize(
    ("text", "small"),
    [
        ("hi!", True),
        ("hi Ines!", True),
        ("hi Bram!", False),
        ("Thanks, good night", True),
        ("hello?", False),
        ("why?", False),
        ("good backup", False),
        ("", True),
    ],
)
def test_small_talk_asks_nothing(text: str, small: bool) -> None:
    assert is_small_talk(text, "Ines") == small


def test_the_words_of_an_address_say_nothing_of_the_question() -> None:
    lines = ("Ines: decision 011 (https://wiki.example/drop-kafka).", "Ines: kafka cost us 410 euros a month.")
    found = evidence_of([Passage("ops", None, STAMPS[0], STAMPS[1], lines, (0, 2), "", "", 0.5, stamps=STAMPS[:2])])
    best, *_ = best_first("why did we drop kafka?", "Ines", found, Likeness([0.5, 0.5], [0.5, 0.5]))
    assert best.number == 1
