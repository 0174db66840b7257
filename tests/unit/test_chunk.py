import re

from hypothesis import given, settings
from hypothesis import strategies as st

from doppel.engine.prompt import label, line
from doppel.records import Conversation, Message
from indexing.chunk import CHUNK_CHARS, chunk


def conversation(*said: tuple[str, str], thread_ts: str | None = "1700000000.000100") -> Conversation:
    messages = [
        Message("T1", "C1", f"{1_700_000_000 + i}.000100", author, text, thread_ts=thread_ts)
        for i, (author, text) in enumerate(said)
    ]
    return Conversation("T1", "C1", thread_ts, tuple(messages))


def without_space(text: str) -> str:
    return "".join(text.split())


def repeated(text: str, size: int) -> str:
    return (text * size)[:size]


# Names are made of a letter that no text has, so a test can tell them apart again.
names = st.builds(repeated, st.just("N"), st.one_of(st.integers(1, 12), st.integers(990, 1010)))
short_texts = st.text(st.characters(exclude_characters="N", exclude_categories=["Cs"]), min_size=1, max_size=60)
long_texts = st.builds(repeated, st.text("ab \n", min_size=1, max_size=20), st.integers(300, 3000))
texts = st.one_of(short_texts, long_texts).filter(str.strip)
talks = st.lists(st.tuples(names, texts), min_size=1, max_size=12)


@settings(max_examples=80)
@given(talks)
def test_no_chunk_is_too_long_and_nothing_is_lost(said: list[tuple[str, str]]) -> None:
    chunks = chunk(conversation(*said))

    assert all(0 < len(c.text) <= CHUNK_CHARS for c in chunks)
    assert len({c.id for c in chunks}) == len(chunks)
    texts_again = "".join(part for c in chunks for part in re.split(r"(?:^|\n)N+: ", c.text))
    assert without_space(texts_again) == without_space("".join(text for _, text in said))


@settings(max_examples=80)
@given(talks)
def test_messages_that_fit_stay_whole(said: list[tuple[str, str]]) -> None:
    said = [(name[:20], text[:300]) for name, text in said if text[:300].strip()] or [("N", "x")]
    chunks = chunk(conversation(*said))
    assert "\n".join(c.text for c in chunks) == "\n".join(line(name, text) for name, text in said)


@settings(max_examples=80)
@given(
    st.lists(st.tuples(names, st.text(st.sampled_from("N:#ab \n\r\u2028\x85"), max_size=2500)), min_size=1, max_size=4)
)
def test_only_a_messages_first_line_begins_at_the_margin(said: list[tuple[str, str]]) -> None:
    chunks = chunk(conversation(*said))
    names = {label(name[:80]) for name, _ in said}
    assert all(0 < len(c.text) <= CHUNK_CHARS for c in chunks)
    for beginning in (row for c in chunks for row in c.text.splitlines() if row[:1].strip()):
        assert beginning.partition(":")[0] in names


@settings(max_examples=60)
@given(talks, talks)
def test_a_growing_thread_leaves_earlier_chunks_alone(
    before: list[tuple[str, str]], more: list[tuple[str, str]]
) -> None:
    early, late = chunk(conversation(*before)), chunk(conversation(*before, *more))

    assert [c.id for c in early[:-1]] == [c.id for c in late[: len(early) - 1]]
    assert [c.text for c in early[:-1]] == [c.text for c in late[: len(early) - 1]]
    assert late[len(early) - 1].text.startswith(early[-1].text)


def test_every_part_of_what_another_wrote_says_so() -> None:
    head = "[forwarded from Erik, #general] "
    forwarded = head + "\n  ".join(f"Paragraph {i}. " + "word " * 30 for i in range(12))
    chunks = chunk(conversation(("Ada", f"Mine. {'own ' * 300}\n{forwarded}\n[file: plan.pdf]\nMine again.")))
    rows = [row for c in chunks for row in c.text.splitlines() if not row.startswith("  ")]
    assert all(0 < len(c.text) <= CHUNK_CHARS for c in chunks)
    assert all(row.startswith(f"Ada: {head}") for row in rows if "word" in row)
    assert all(row.startswith("Ada: ") and head not in row for row in rows if "own " in row)
    assert len([row for row in rows if head in row]) > 2
    assert chunks[-1].text.endswith("Ada: [file: plan.pdf]\n  Mine again.")


def test_cuts_between_messages() -> None:
    one, two, three = chunk(conversation(("Ada", "a" * 600), ("Bo", "b" * 300), ("Ada", "c" * 600), ("Cy", "d" * 900)))

    assert one.text == f"Ada: {'a' * 600}\nBo: {'b' * 300}"
    assert two.text == f"Ada: {'c' * 600}"
    assert three.text == f"Cy: {'d' * 900}"
    assert one.authors == ("Ada", "Bo")
    assert (one.first_ts, one.last_ts) == ("1700000000.000100", "1700000001.000100")
    assert (two.first_ts, two.last_ts) == ("1700000002.000100", "1700000002.000100")
    assert two.conversation_first_ts == "1700000000.000100"
    assert two.conversation_last_ts == "1700000003.000100"


def test_exactly_a_thousand_characters_fit() -> None:
    (whole,) = chunk(conversation(("Ada", "x" * 493), ("Bo", "y" * 497)))
    assert len(whole.text) == 1000
    assert len(chunk(conversation(("Ada", "x" * 493), ("Bo", "y" * 498)))) == 2


def test_every_part_of_a_long_message_says_who_speaks() -> None:
    paragraphs = [f"Paragraph {i}. " + "word " * 80 for i in range(12)]
    chunks = chunk(conversation(("Ada", "\n\n".join(paragraphs))))

    assert len(chunks) > 4
    assert all(c.text.startswith("Ada: Paragraph") for c in chunks)
    assert {c.first_ts for c in chunks} == {"1700000000.000100"}


def test_a_text_of_40_kb_without_a_space() -> None:
    chunks = chunk(conversation(("Ada", "x" * 40_000)))
    assert sum(c.text.count("x") for c in chunks) == 40_000
    assert len({c.id for c in chunks}) == len(chunks)


def test_ids_tell_places_apart_and_last() -> None:
    talk = conversation(("Ada", "Same words."))
    elsewhere = Conversation("T2", talk.channel, talk.thread_ts, talk.messages)
    window = Conversation(talk.team, talk.channel, None, talk.messages)
    ids = [chunk(c)[0].id for c in (talk, elsewhere, window)]

    assert len(set(ids)) == 3
    assert chunk(talk)[0].id == ids[0] == "9d6d25dff65db530c883809ccd7e1117"
