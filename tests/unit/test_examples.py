"""Training examples: the person's runs, what came before them, and a split that no conversation crosses."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from doppel.engine.prompt import render
from doppel.records import Conversation, KeptEdit, Message, ts_key
from tests.fakes.tokenizer import END, WordTokenizer
from training.examples import build_examples, encode, split_by_time


def conversation(start: int, *said: tuple[str, str]) -> Conversation:
    messages = [
        Message("T1", "C1", f"{start + i}.000000", user.title(), text, user=user) for i, (user, text) in enumerate(said)
    ]
    return Conversation("T1", "C1", None, tuple(messages))


TALK = conversation(
    1000,
    ("bob", "is kafka down?"),
    ("ines", "no."),
    ("ines", "the broker is restarting, give it a minute."),
    ("bob", "thanks"),
    ("eve", "what was it?"),
    ("ines", "a full disk on the second broker, again."),
    ("bob", "oh"),
)


def test_contiguous_messages_are_one_answer_and_what_was_said_before_is_the_prompt() -> None:
    first, second = build_examples([TALK], "ines", 5)
    assert first.answer == "no.\nthe broker is restarting, give it a minute."
    assert [t.text for t in first.turns] == ["is kafka down?"]
    assert [(t.author, t.by_persona) for t in second.turns] == [
        ("Bob", False),
        ("Ines", True),
        ("Ines", True),
        ("Bob", False),
        ("Eve", False),
    ]


def test_short_answers_and_openings_are_no_examples() -> None:
    opened = conversation(1, ("ines", "I moved the standup to ten, see you there"), ("bob", "fine"), ("ines", "good"))
    assert build_examples([opened], "ines", 20) == []


def test_nothing_said_later_stands_in_a_prompt() -> None:
    for example in build_examples([TALK], "ines", 1):
        position = [m.text for m in TALK.messages].index(example.answer.split("\n")[0])
        assert [t.text for t in example.turns] == [m.text for m in TALK.messages[:position]]


def test_what_was_said_next_is_kept_beside_the_prompt() -> None:
    first, second = build_examples([TALK], "ines", 5)
    assert [t.text for t in first.after] == ["thanks", "what was it?"]
    assert [t.text for t in second.after] == ["oh"]
    encoded = encode(second, "Ines", tokenizer := WordTokenizer(), 200, 100)
    assert "oh" not in tokenizer.decode(encoded.prompt_ids).split()


def edit(answered_ts: str, text: str, sent_ts: str = "2000.000000", question: str = "") -> KeptEdit:
    return KeptEdit("T1", "C1", sent_ts, answered_ts, question, text)


def test_a_kept_edit_answers_the_message_it_was_drafted_for_from_what_was_said_before_it() -> None:
    kept = [edit("1004.000000", "First thought of it."), edit("1004.000000", "A full disk, we think.")]
    examples = build_examples([TALK], "ines", 5, kept)
    (example,) = [e for e in examples if e.answer == "A full disk, we think."]
    assert [(t.text, t.by_persona) for t in example.turns] == [(m.text, m.user == "ines") for m in TALK.messages[:5]]
    assert (example.conversation, example.last_ts) == (("T1", "C1", "1000.000000"), TALK.last_ts)
    assert len(examples) == len(build_examples([TALK], "ines", 5)) + 1


def test_a_kept_edit_of_a_message_that_is_not_there_or_too_short_teaches_nothing() -> None:
    elsewhere = KeptEdit("T1", "C2", "2000.000000", "1000.000000", "", "Elsewhere it was up.")
    kept = [edit("999.000000", "It was there before."), edit("1000.000000", "No."), elsewhere]
    assert build_examples([TALK], "ines", 5, kept) == build_examples([TALK], "ines", 5)


def test_a_kept_edit_of_what_the_person_gave_is_a_conversation_of_its_own() -> None:
    (example,) = build_examples([], "ines", 5, [edit("", " Tuesday at ten. ", question="When do we meet?")])
    assert [(t.author, t.text, t.by_persona) for t in example.turns] == [("Colleague", "When do we meet?", False)]
    assert (example.conversation, example.answer) == (("T1", "C1", "2000.000000"), "Tuesday at ten.")


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(1, 4)), min_size=2, max_size=40, unique_by=lambda t: t[0]))
def test_the_latest_conversations_are_held_out_whole(plan: list[tuple[int, int]]) -> None:
    found = [
        conversation(10 * start, *[pair for _ in range(n) for pair in (("bob", "well?"), ("ines", "so it is"))])
        for start, n in plan
    ]
    examples = build_examples(found, "ines", 1)
    learned, held_out = split_by_time(examples)
    sides = [{e.conversation for e in side} for side in (learned, held_out)]
    assert sorted(map(repr, learned + held_out)) == sorted(map(repr, examples))
    assert not sides[0] & sides[1]
    assert len(sides[1]) == max(1, round(0.15 * len(plan)))
    assert max(ts_key(e.last_ts) for e in learned) <= min(ts_key(e.last_ts) for e in held_out)


def test_an_encoded_example_is_the_prompt_of_answering_and_the_answer() -> None:
    tokenizer = WordTokenizer()
    example = build_examples([TALK], "ines", 5)[1]
    encoded = encode(example, "Ines", tokenizer, 200, 100)
    assert list(encoded.prompt_ids) == render("Ines", example.dialogue, tokenizer, 200).ids
    assert tokenizer.decode(encoded.completion_ids) == example.answer + " <end>"


def test_an_answer_that_is_cut_does_not_learn_to_end() -> None:
    encoded = encode(build_examples([TALK], "ines", 5)[1], "Ines", WordTokenizer(), 200, 4)
    assert len(encoded.completion_ids) == 4
    assert END not in encoded.completion_ids


FORWARD = "[forwarded from Erik, #general] I hate the staging cluster."


def posted(*said: tuple[str, str, str | None]) -> Conversation:
    """What was posted: by whom, all of it, and what of it was typed."""
    messages = [
        Message("T1", "C1", f"{1000 + i}.000000", user.title(), text, user=user, said=typed)
        for i, (user, text, typed) in enumerate(said)
    ]
    return Conversation("T1", "C1", None, tuple(messages))


def test_only_what_the_person_typed_is_an_answer_and_prompts_show_all() -> None:
    talk = posted(
        ("bob", "what did he say?", None),
        ("ines", FORWARD, ""),
        ("bob", "and the recording?", None),
        ("ines", "[file: audio_message.m4a]", ""),
        ("ines", f"He never liked it.\n{FORWARD}", "He never liked it."),
        ("ines", "I do.", None),
        ("bob", f"so?\n{FORWARD}", "so?"),
        ("ines", "> so?\nSo what.", "So what."),
    )
    first, second = build_examples([talk], "ines", 5)
    assert first.answer == "He never liked it.\nI do."
    assert [turn.text for turn in first.turns] == ["what did he say?", FORWARD, "and the recording?"]
    assert second.answer == "So what."
    assert second.turns[-1].text == f"so?\n{FORWARD}"


def test_the_least_length_of_an_answer_counts_what_was_typed() -> None:
    talk = posted(("bob", "well?", None), ("ines", f"See below.\n{FORWARD}", "See below."))
    assert build_examples([talk], "ines", len("See below.") + 1) == []
    assert len(build_examples([talk], "ines", len("See below."))) == 1
