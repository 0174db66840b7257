"""The questions about the sample workspace: what a right answer states stands there, and no question gives it away."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
QUESTIONS: list[dict[str, Any]] = [
    json.loads(row) for row in (EXAMPLES / "questions.jsonl").read_text(encoding="utf-8").splitlines()
]
ANSWERABLE = [question for question in QUESTIONS if question["answerable"]]
HOUR = 3600.0


def messages(channel: str) -> list[dict[str, Any]]:
    folder = EXAMPLES / "sample-workspace" / channel
    found = [raw for path in sorted(folder.glob("*.json")) for raw in json.loads(path.read_text(encoding="utf-8"))]
    return [raw for raw in found if raw.get("user") and raw.get("subtype") is None and not raw.get("bot_id")]


CHANNELS = {name: messages(name) for name in ("engineering", "ops", "product", "general", "random")}


def around(channel: str, ts: str) -> str:
    """What stands in the thread of a message, or within an hour of it."""
    said = CHANNELS[channel]
    (stated,) = [raw for raw in said if raw["ts"] == ts]
    root = stated.get("thread_ts", ts)
    thread = [raw for raw in said if raw.get("thread_ts", raw["ts"]) == root]
    near = [raw for raw in said if abs(float(raw["ts"]) - float(ts)) <= HOUR]
    return "\n".join(raw["text"] for raw in (*thread, *near))


def states(text: str, fact: list[str]) -> bool:
    return any(re.search(form, text, re.IGNORECASE | re.MULTILINE) for form in fact)


def test_there_are_enough_and_each_is_asked_once() -> None:
    assert len(ANSWERABLE) == 150
    assert Counter(q["kind"] for q in QUESTIONS if not q["answerable"]) == {"near": 26, "foreign": 12, "premise": 12}
    assert len({q["id"] for q in QUESTIONS}) == len({q["question"].casefold() for q in QUESTIONS}) == 200
    assert 60 <= sum(q["split"] == "choose" for q in QUESTIONS) <= 75


@pytest.mark.parametrize("question", ANSWERABLE, ids=lambda q: str(q["id"]))
def test_what_an_answer_must_state_stands_where_it_is_said(question: dict[str, Any]) -> None:
    text = around(question["thread"]["channel"], question["thread"]["ts"])
    for fact in question["facts"]:
        bare = [form.removeprefix(r"^\W*") for form in fact]
        yes_or_no = any(form.startswith(("^", r"\b(yes", r"\b(no")) for form in fact)
        assert states(text, bare) or yes_or_no
        assert not states(question["question"], fact)
    assert question["facts"]


def test_no_thread_is_in_both_splits() -> None:
    def roots(split: str) -> set[tuple[str, str]]:
        named = [q["thread"] for q in ANSWERABLE if q["split"] == split]
        by_ts = {(channel, raw["ts"]): raw for channel, said in CHANNELS.items() for raw in said}
        return {(t["channel"], by_ts[t["channel"], t["ts"]].get("thread_ts", t["ts"])) for t in named}

    assert not roots("choose") & roots("report")
