"""Examples that are asked again: what is quoted with them, and what never is."""

from __future__ import annotations

import pytest

from doppel.engine.prompt import render
from doppel.records import Dialogue, Passage
from tests.fakes.tokenizer import WordTokenizer
from tests.unit.test_examples import conversation
from training.examples import Example, build_examples, split_by_time
from training.grounding import EVERY, OTHERS, GroundedExample, ask_again, encode_grounded

CHANNELS = {("T1", "C1"): "ops"}


def examples(count: int) -> list[Example]:
    found = [
        conversation(
            1_700_000_000 + 10_000 * i,
            ("bob", f"what of {i}?"),
            ("eve", f"yes, {i}?"),
            ("ines", f"it is {i}."),
            ("bob", "oh."),
            ("eve", "dear."),
            ("bob", "well."),
        )
        for i in range(count)
    ]
    return build_examples(found, "ines", 1)


def asked(found: list[Example], seed: int = 0) -> list[GroundedExample]:
    return list(ask_again(found, "Ines", CHANNELS, seed).values())


def answers(quote: Passage) -> tuple[str, ...]:
    return quote.lines[slice(*quote.focus)]


def test_the_answer_stands_among_others_of_the_same_person() -> None:
    for grounded in asked(examples(20)):
        assert grounded.own in grounded.quotes
        assert len({id(quote) for quote in grounded.quotes}) == len(grounded.quotes) == OTHERS + 1
        assert grounded.own.lines[slice(*grounded.own.focus)] == (f"Ines: {grounded.answer}",)
        assert all(answer.startswith("Ines: it is ") for quote in grounded.quotes for answer in answers(quote))
        assert grounded.question.text == grounded.answer.replace("it is ", "yes, ").replace(".", "?")


def test_it_stands_anywhere_among_them_and_with_more_or_less_of_what_was_said_around_it() -> None:
    found = asked(examples(80))
    assert {grounded.quotes.index(grounded.own) for grounded in found} == {0, 1, 2}
    assert {grounded.own.focus[0] for grounded in found} == {0, 1, 2}
    assert {len(grounded.own.lines) - grounded.own.focus[1] for grounded in found} == {0, 1, 2}


def test_only_some_are_asked_again_and_the_same_ones_every_time() -> None:
    found = examples(21)
    again = ask_again(found, "Ines", CHANNELS, 0)
    assert list(again) == list(range(0, 21, EVERY))
    assert all(found[i].answer == grounded.answer for i, grounded in again.items())
    assert asked(found) == asked(found)
    assert asked(found) != asked(found, seed=1)


def test_nothing_that_is_held_out_is_quoted() -> None:
    learned, held_out = split_by_time(examples(40))
    quotes = [quote for seed in range(20) for grounded in asked(learned, seed) for quote in grounded.quotes]
    quoted = {answer for quote in quotes for answer in answers(quote)}
    assert quoted == {f"Ines: {example.answer}" for example in learned}
    assert not quoted & {f"Ines: {example.answer}" for example in held_out}


@pytest.mark.parametrize("count", [1, 2])
def test_a_few_examples_are_enough(count: int) -> None:
    (grounded,) = asked(examples(count))
    assert len(grounded.quotes) == count


def test_it_is_encoded_as_the_prompt_of_answering_and_the_answer() -> None:
    tokenizer, grounded = WordTokenizer(), asked(examples(20))[3]
    encoded = encode_grounded(grounded, "Ines", tokenizer, 100, 60, 50)
    prompt = render("Ines", Dialogue((grounded.question,)), tokenizer, 160, passages=grounded.quotes, context_tokens=60)
    assert encoded is not None
    assert list(encoded.prompt_ids) == prompt.ids
    assert "November 2023:" in tokenizer.decode(encoded.prompt_ids)
    assert tokenizer.decode(encoded.completion_ids) == grounded.answer + " <end>"


def test_where_the_answer_finds_no_room_there_is_no_example() -> None:
    found = [
        encode_grounded(grounded, "Ines", WordTokenizer(), 100, 12, 50) is not None for grounded in asked(examples(60))
    ]
    assert {True, False} == set(found)
    first = [grounded.quotes[0] == grounded.own for grounded in asked(examples(60))]
    assert [yes for yes, own in zip(found, first, strict=True) if own] == [True] * sum(first)
