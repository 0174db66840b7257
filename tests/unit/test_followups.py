"""The benchmark of follow-ups: where a conversation is cut, and its intervals."""

from __future__ import annotations

import pytest

from benchmarks.followups import bootstrap, failures_gone, question, wilson
from doppel.records import Conversation, Message

LONG = "A long message says so much that nobody would take it for a short question, as it goes on and on."


def conversation(*texts: str) -> Conversation:
    said = [Message("T1", "C1", f"{1700000000 + i}.000100", "Ada", text) for i, text in enumerate(texts)]
    return Conversation("T1", "C1", None, tuple(said))


def test_it_is_cut_at_the_first_short_message_from_a_third_of_the_way_on() -> None:
    found = question(conversation("Hm?", LONG, LONG, LONG, "And why not?", LONG, "Oh?", LONG))
    assert found is not None
    assert [turn.text for turn in found.turns] == ["Hm?", LONG, LONG, LONG, "And why not?"]
    assert [message.text for message in found.rest] == [LONG, "Oh?", LONG]
    assert {message.channel for message in found.rest} == {found.rest_channel}
    assert found.rest_channel != "C1"
    assert (found.span.first_ts, found.span.last_ts) == ("1700000000.000100", "1700000007.000100")


@pytest.mark.parametrize("texts", [["Hm?"] * 7, [*["Hm?"] * 3, *[LONG] * 6], [*[LONG] * 8, "Hm?"]])
def test_a_short_conversation_or_one_without_a_short_message_before_its_end_is_not_asked_in(texts: list[str]) -> None:
    assert question(conversation(*texts)) is None


def test_failures_gone_are_fewer_failures() -> None:
    pairs = [(False, True)] * 30 + [(False, False)] * 30 + [(True, False)] * 6 + [(True, True)] * 34
    assert failures_gone(pairs) == pytest.approx(24 / 60)
    low, high = bootstrap(pairs)
    assert low < 0.4 < high
    assert failures_gone([(True, True)]) == 0


def test_the_interval_of_a_share() -> None:
    assert wilson(50, 100) == pytest.approx((0.404, 0.596), abs=1e-3)
    assert wilson(0, 10)[0] == pytest.approx(0, abs=1e-9)
