"""A question that is too long reaches nothing: neither the search nor the tokenizer; nor does a long conversation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doppel.access import OPERATOR
from doppel.adapters import AdapterStore
from doppel.config import load_settings
from doppel.engine.prompt import CHARS_A_TOKEN, ChatMessage, render
from doppel.errors import BadInputError, ConfigError, DoppelError
from doppel.limits import TooLongError, require_length
from doppel.records import Dialogue, Persona, Turn
from doppel.services.ask import Engine
from doppel.terminal import converse
from tests.end_to_end import doppel
from tests.fakes.tokenizer import WordTokenizer

ADA = Persona("T1", "U1", "Ada", "ada")


class Untouched:
    """Nothing may be asked of it."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def engine(chars: int) -> Engine:
    settings = load_settings({"DOPPEL_QUESTION_CHARS": str(chars)})
    nothing: Any = Untouched()
    return Engine(settings, nothing, nothing, AdapterStore(Path("nowhere")), nothing, nothing)


@pytest.mark.parametrize(("length", "most"), [(0, 1), (1, 1), (4_000, 4_000)])
def test_what_is_allowed(length: int, most: int) -> None:
    require_length("x" * length, most)


@pytest.mark.parametrize("length", [11, 1_000, 1_000_000])
async def test_the_engine_refuses_it_first_of_all(length: int) -> None:
    sentence = f"A question may have 10 characters, and this one has {length:,}; shorten it and ask again."
    with pytest.raises(TooLongError) as raised:
        await anext(aiter(engine(10).reply(ADA, Dialogue((Turn("Bob", "hi"), Turn("Bob", "x" * length))), OPERATOR)))
    assert (str(raised.value), isinstance(raised.value, BadInputError)) == (sentence, True)
    nothing: Any = Untouched()
    with pytest.raises(TooLongError):
        await engine(10).look_up(Dialogue((Turn("Bob", "x" * length),)), [OPERATOR], nothing)


async def test_the_terminal_says_so_and_the_conversation_goes_on() -> None:
    typed, written = iter(["x" * 11, "y" * 12, "exit"]), list[str]()
    await converse(engine(10), ADA, lambda: next(typed), written.append)
    assert ["this one has 11;" in written[0], "this one has 12;" in written[1]] == [True, True]


def test_a_question_of_the_command_line_is_refused_before_a_server_is_started(tmp_path: Path) -> None:
    done = doppel(tmp_path, "chat", "--persona", "ada", "-m", "x" * 5_000)
    assert done.status == 1
    assert "A question may have 4,000 characters, and this one has 5,000" in str(done)


class CountingTokenizer(WordTokenizer):
    """Counts the characters that it is given."""

    chars = 0

    def prompt_ids(self, messages: Any) -> list[int]:
        self.chars += sum(len(message["content"]) for message in messages)
        return super().prompt_ids(messages)

    def count(self, text: str) -> int:
        self.chars += len(text)
        return super().count(text)


def test_of_a_conversation_that_goes_on_for_ever_only_the_end_is_tokenised() -> None:
    turns = [Turn("Bob", f"{number} " + "why then? " * 100) for number in range(5_000)]
    tokenizer = CountingTokenizer()
    prompt = render("Ada", Dialogue(tuple(turns)), tokenizer, 300)
    assert tokenizer.chars < 10 * 300 * CHARS_A_TOKEN
    assert "4999 why" in last(prompt.messages)["content"]


def last(messages: tuple[ChatMessage, ...]) -> ChatMessage:
    return messages[-1]


def test_the_prompt_of_a_short_conversation_is_what_it_was() -> None:
    turns = [Turn("Bob", f"{number} why then?") for number in range(60)]
    whole = render("Ada", Dialogue(tuple(turns)), WordTokenizer(), 150)
    kept = [number for number in range(60) if f"Bob: {number} why" in str(whole.messages)]
    assert len(whole.ids) <= 150
    assert kept == list(range(kept[0], 60))
    assert len(kept) > 10
    assert render("Ada", Dialogue(()), WordTokenizer(), 150).ids


def test_limits_are_settings() -> None:
    given = {"DOPPEL_QUESTION_CHARS": "0", "DOPPEL_ANSWERS_AT_ONCE": "0", "DOPPEL_QUESTIONS_WAITING": "0"}
    with pytest.raises(ConfigError) as raised:
        load_settings(given)
    assert all(name in str(raised.value) for name in given)
    assert isinstance(raised.value, DoppelError)
