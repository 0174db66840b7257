"""Threads and windows, and that no message of a person is lost or said twice."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from doppel.engine.conversation import GAP_SECONDS, MAX_WINDOW, conversations
from doppel.records import Message, MessageKind, ts_key


def said(seconds: int, text: str = "hello there", *, thread: int | None = None, **more: object) -> Message:
    ts = f"{1_700_000_000 + seconds}.000100"
    root = None if thread is None else f"{1_700_000_000 + thread}.000100"
    return Message("T1", "C1", ts, "Ada", text, thread_ts=root, **more)  # type: ignore[arg-type]


def starts(messages: list[Message]) -> list[list[int]]:
    return [[int(m.ts[:10]) - 1_700_000_000 for m in c.messages] for c in conversations(messages)]


def test_a_gap_of_two_hours_opens_a_new_window() -> None:
    assert starts([said(0), said(GAP_SECONDS - 1), said(2 * GAP_SECONDS - 1), said(2 * GAP_SECONDS)]) == [
        [0, GAP_SECONDS - 1],
        [2 * GAP_SECONDS - 1, 2 * GAP_SECONDS],
    ]


def test_a_message_that_stands_alone_opens_the_next_window() -> None:
    day = 86_400
    assert starts([said(0), said(day), said(2 * day)]) == [[0, day], [2 * day]]


def test_forty_messages_close_a_window() -> None:
    found = starts([said(i) for i in range(MAX_WINDOW + 3)])
    assert [len(window) for window in found] == [MAX_WINDOW, 3]


def test_replies_join_their_root_and_leave_the_windows() -> None:
    messages = [said(0, thread=0), said(10), said(20), said(30, thread=0), said(40 + 10 * GAP_SECONDS, thread=0)]
    found = list(conversations(messages))
    assert [(c.thread_ts, len(c.messages)) for c in found] == [("1700000000.000100", 3), (None, 2)]


def test_a_root_without_replies_is_an_ordinary_message() -> None:
    assert [c.thread_ts for c in conversations([said(0, thread=0), said(5)])] == [None]


def test_replies_whose_root_is_gone_or_a_bots_stay_a_thread() -> None:
    messages = [said(0, kind=MessageKind.BOT, thread=0), said(10, thread=0), said(20, thread=0)]
    (only,) = conversations(messages)
    assert (only.thread_ts, [m.ts[:10] for m in only.messages]) == ("1700000000.000100", ["1700000010", "1700000020"])


def test_bots_system_messages_and_empty_texts_stay_out() -> None:
    messages = [said(0), said(1, kind=MessageKind.BOT), said(2, kind=MessageKind.SYSTEM), said(3, "  "), said(4)]
    assert starts(messages) == [[0, 4]]


@given(
    st.lists(
        st.tuples(st.integers(0, 40 * GAP_SECONDS), st.booleans(), st.sampled_from(list(MessageKind))),
        unique_by=lambda t: t[0],
        max_size=120,
    )
)
def test_every_message_of_a_person_is_in_exactly_one_conversation(rows: list[tuple[int, bool, MessageKind]]) -> None:
    rows.sort()
    root = rows[0][0] if rows else None
    messages = [said(s, thread=root if in_thread else None, kind=kind) for s, in_thread, kind in rows]
    found = list(conversations(messages))
    flat = [m for c in found for m in c.messages]
    assert sorted(m.ts for m in flat) == sorted(m.ts for m in messages if m.kind is MessageKind.HUMAN)
    assert all(list(c.messages) == sorted(c.messages, key=lambda m: ts_key(m.ts)) for c in found)
    assert all(1 <= len(c.messages) <= MAX_WINDOW for c in found if c.thread_ts is None)
