"""The questions about the sample workspace: what a right answer states stands there, and little else passes for it."""

from __future__ import annotations

import json
import re
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTIONS: list[dict[str, Any]] = [
    json.loads(row) for row in (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]
ANSWERABLE = [question for question in QUESTIONS if question["answerable"]]
YES_OR_NO = [question for question in ANSWERABLE if question["kind"] == "yes-no"]
KNOWS_NOTHING = (
    "I don't know.",
    "no idea, sorry",
    "No one said anything about it here.",
    "no clue, i can't answer that",
    "I found nothing about that in our channels.",
    "There is no record of that.",
    "I never said anything about that.",
    "We never discussed that.",
    "nobody told me, ask somebody else",
    "None of the messages says so.",
)
IN_OTHER_WORDS = {
    "q007": ("about 9 s, and watch the error rate for ten minutes", "38 minutes"),
    "q008": ("no, the schema stays: it has to work with the version before", "yes, it rolls back migrations too"),
    "q063": ("Android 10, nine old ones are at Verhoeven", "9 devices are on android 8"),
    "q068": ("after a day, yellow after four hours", "yellow after 4, red after 72"),
    "q095": ("caddy, no longer nginx with certbot", "certbot renews it"),
    "q097": ("postgresql@16-main, no longer 15", "postgresql@15-main"),
    "q104": ("yes, there's an undo, but it's a second row that cancels the first", "yes, anyone may"),
    "q110": ("No. Seven years, as tax law requires.", "after thirteen months, like names"),
    "q114": ("30 is the default, per depot 15 to 60", "45"),
    "q122": ("codes are covered, the messages are not", "yes, codes and messages are covered"),
    "q124": ("no, they're encrypted and revoke kills the pin", "yes, they are plain text"),
    "q143": ("no, in process memory on each app server", "yes, redis has a token bucket"),
}
"""A right answer and a wrong one."""
MOST_BY_CHANCE = 7
"""Messages from elsewhere, of some 350, that may pass for an answer: a bare yes, a number, a depot's name."""
HOUR = 3600.0


def messages(channel: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What people said in a channel, by channel and time stamp."""
    folder = EXAMPLES / "sample-workspace" / channel
    found = [raw for path in sorted(folder.glob("*.json")) for raw in json.loads(path.read_text(encoding="utf-8"))]
    said = [raw for raw in found if raw.get("user") and raw.get("subtype") is None and not raw.get("bot_id")]
    return {(channel, raw["ts"]): raw for raw in said}


PUBLIC = ("engineering", "ops", "product", "general", "random")
SAID = {key: raw for channel in PUBLIC for key, raw in messages(channel).items()}


def named(question: dict[str, Any]) -> tuple[str, str]:
    return question["thread"]["channel"], question["thread"]["ts"]


def root(key: tuple[str, str]) -> tuple[str, str]:
    return key[0], SAID[key].get("thread_ts", key[1])


@cache
def compiled(form: str) -> re.Pattern[str]:
    return re.compile(form, re.IGNORECASE | re.MULTILINE)


def is_there(form: str, text: str) -> bool:
    return bool(compiled(form).search(text))


def is_right(question: dict[str, Any], answer: str) -> bool:
    states_all = all(any(is_there(form, answer) for form in fact) for fact in question["facts"])
    return states_all and not any(is_there(form, answer) for form in question["forbidden"])


def test_there_are_enough_of_each_kind_and_each_is_asked_once() -> None:
    assert Counter((q["answerable"], q["split"]) for q in QUESTIONS) == {
        (True, "choose"): 50,
        (True, "report"): 100,
        (False, "choose"): 17,
        (False, "report"): 33,
    }
    assert Counter(q["kind"] for q in QUESTIONS if not q["answerable"]) == {"near": 26, "foreign": 12, "premise": 12}
    assert len({q["id"] for q in QUESTIONS}) == len({q["question"].casefold() for q in QUESTIONS}) == 200
    personas = Counter(q["persona"] for q in QUESTIONS)
    users = json.loads((EXAMPLES / "sample-workspace" / "users.json").read_text(encoding="utf-8"))
    assert personas.keys() == {user["name"] for user in users if not user["is_bot"]}
    assert personas["ines"] >= 120


def test_no_is_the_right_answer_as_often_as_yes_or_more() -> None:
    assert sum(is_right(q, "No.") for q in YES_OR_NO) >= 25
    assert sum(is_right(q, "Yes.") for q in YES_OR_NO) >= 10


@pytest.mark.parametrize("question", ANSWERABLE, ids=lambda q: str(q["id"]))
def test_the_message_that_is_named_is_right_and_the_question_is_not(question: dict[str, Any]) -> None:
    """A form that doesn't compile fails here, too."""
    assert question["facts"]
    assert all(question["facts"])
    assert is_right(question, SAID[named(question)]["text"])
    assert not any(is_there(form, question["question"]) for fact in question["facts"] for form in fact)
    assert not any(is_there(form, question["question"]) for form in question["forbidden"])


@pytest.mark.parametrize("answer", KNOWS_NOTHING)
def test_who_knows_nothing_is_never_right(answer: str) -> None:
    assert not [q["id"] for q in ANSWERABLE if is_right(q, answer)]


@pytest.mark.parametrize("number", IN_OTHER_WORDS)
def test_a_right_answer_may_have_other_words_and_a_wrong_one_some_of_the_same(number: str) -> None:
    (question,) = [q for q in ANSWERABLE if q["id"] == number]
    assert [is_right(question, answer) for answer in IN_OTHER_WORDS[number]] == [True, False]


def test_of_yes_and_no_one_is_right() -> None:
    for question in YES_OR_NO:
        assert is_right(question, "Yes.") != is_right(question, "No."), question["id"]


def test_what_was_said_elsewhere_seldom_passes_for_an_answer() -> None:
    """Of every third message, for speed."""
    others = [(root(key), float(key[1]), raw["text"]) for key, raw in [*SAID.items()][::3]]
    for question in ANSWERABLE:
        own, at = root(named(question)), float(named(question)[1])
        elsewhere = [
            text
            for thread, when, text in others
            if thread != own and not (thread[0] == own[0] and abs(when - at) < HOUR)
        ]
        assert sum(is_right(question, text) for text in elsewhere) <= MOST_BY_CHANCE, question["id"]


def test_no_thread_is_in_both_splits_not_even_as_a_near_miss() -> None:
    threads = {
        split: {root(named(q)) for q in QUESTIONS if q["split"] == split and q["thread"]}
        for split in ("choose", "report")
    }
    assert not threads["choose"] & threads["report"]


def test_what_cannot_be_answered_has_no_facts_and_a_near_miss_its_thread() -> None:
    """What is forbidden there is what an inventive model would say, not that it doesn't know."""
    unanswerable = [question for question in QUESTIONS if not question["answerable"]]
    assert all(question["thread"] for question in unanswerable if question["kind"] == "near")
    assert not any(question["facts"] for question in unanswerable)
    forbidden = {form for question in unanswerable for form in question["forbidden"]}
    assert not [form for form in forbidden if any(is_there(form, answer) for answer in KNOWS_NOTHING)]
