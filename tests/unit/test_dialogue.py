"""A conversation reads the same to who learns from it and to who is asked in it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from doppel.engine.conversation import conversations, dialogue, turns, with_posts
from doppel.engine.prompt import render
from doppel.records import Channel, ChannelKind, Conversation, Message, MessageKind
from tests.fakes.tokenizer import WordTokenizer
from training.examples import build_examples, encode

OPS = Channel("T1", "C1", "ops", ChannelKind.PUBLIC)
PEOPLE = ("ada", "bob", "ines")


def post(number: int, user: str, text: str, root: int | None = None, by_ai: bool = False) -> Message:
    thread = None if root is None else f"{1_700_000_000 + root}.000000"
    kind = MessageKind.BOT if by_ai else MessageKind.HUMAN
    ts = f"{1_700_000_000 + number}.000000"
    return Message("T1", "C1", ts, user.title(), text, kind, user, thread, by_ai=by_ai)


SAID = st.lists(
    st.tuples(st.sampled_from(PEOPLE), st.text(min_size=1, max_size=30).filter(str.strip), st.booleans()),
    min_size=2,
    max_size=12,
)


@given(SAID, st.booleans())
def test_a_question_reads_as_the_example_that_answers_it(said: list[tuple[str, str, bool]], in_thread: bool) -> None:
    """For each answer that a person gave, the prompt that asks them there is that of the example, token for token."""
    root = 0 if in_thread else None
    messages = [post(i, user, text, root, by_ai and i > 0) for i, (user, text, by_ai) in enumerate(said)]
    people = [message for message in messages if not message.by_ai]
    for conversation in conversations(people):
        spoken = with_posts(conversation, [message for message in messages if message.by_ai])
        for example in build_examples([spoken], "ines", 1, channels={("T1", "C1"): OPS}):
            end = len(example.turns)
            asked_at = spoken.messages[end - 1].ts
            # As the bot has it: what was said up to the message that is answered.
            heard = Conversation("T1", "C1", spoken.thread_ts, spoken.messages[:end])
            asked = dialogue(turns(heard.messages, "ines"), heard, OPS, asked_at)
            prompt = render("Ines", asked, WordTokenizer(), 4000)
            assert list(encode(example, "Ines", WordTokenizer(), 4000, 100).prompt_ids) == prompt.ids


def test_what_was_said_through_doppel_stands_where_it_was_said() -> None:
    thread = Conversation("T1", "C1", "1700000000.000000", (post(0, "ada", "why?", 0), post(9, "bob", "hm", 0)))
    answer, elsewhere = post(5, "ines", "because.", 0, by_ai=True), post(6, "ines", "no.", 3, by_ai=True)
    assert [m.text for m in with_posts(thread, [answer, elsewhere]).messages] == ["why?", "because.", "hm"]
    window = Conversation("T1", "C1", None, (post(0, "ada", "why?"), post(9, "bob", "hm")))
    sent, late = post(5, "ines", "as I said", None), post(10, "ines", "later", None)
    assert [m.text for m in with_posts(window, [sent, late, answer]).messages] == ["why?", "as I said", "hm"]
    nothing = Conversation("T1", "C1", None, ())
    assert with_posts(nothing, [sent]) == nothing


def test_a_doppelganger_teaches_its_person_nothing() -> None:
    messages = (post(0, "bob", "why?", 0), post(1, "ines", "because of the disk.", 0, by_ai=True))
    later = (post(2, "bob", "really?", 0), post(3, "ines", "no, it was the broker.", 0))
    (example,) = build_examples([Conversation("T1", "C1", messages[0].thread_ts, messages + later)], "ines", 5)
    assert example.answer == "no, it was the broker."
    assert [(t.text, t.by_persona, t.by_ai) for t in example.turns] == [
        ("why?", False, False),
        ("because of the disk.", True, True),
        ("really?", False, False),
    ]


def test_a_direct_conversation_has_no_place() -> None:
    said = (post(0, "ada", "why?"),)
    direct = Channel("T1", "D1", "Ada and Ines", ChannelKind.IM)
    found = dialogue(turns(said, "ines"), Conversation("T1", "D1", None, said), direct)
    assert (found.channel, found.is_thread) == ("", False)
