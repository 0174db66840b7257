"""What is searched for: the question alone where nothing was said before, else it after what was said."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from doppel.engine.queries import REACHES, queries
from doppel.records import Query, Turn

TURNS = st.lists(st.builds(Turn, st.sampled_from(["Ada", "Bo"]), st.text(max_size=300), st.booleans()), min_size=1)


def test_one_turn_is_one_query() -> None:
    assert queries([Turn("Ada", "Why did we drop Kafka?")]) == [Query("Why did we drop Kafka?", 1.0)]


def test_a_follow_up_is_also_looked_for_with_what_was_said_before() -> None:
    turns = [Turn("Ada", "Do we use Kafka?"), Turn("Bo", "No."), Turn("Ada", "and why not?")]
    assert queries(turns) == [Query("and why not?"), Query("Do we use Kafka?\nNo.\nand why not?")]


def test_what_was_said_last_stays_and_each_query_reaches_further() -> None:
    turns = [Turn("Bo", f"Point {number} of many, with some words to it.") for number in range(60)]
    texts = [query.text for query in queries([*turns, Turn("Ada", "and why not?")])]
    assert [len(text) for text in texts] == [12, *REACHES]
    assert all(text.endswith("Point 59 of many, with some words to it.\nand why not?") for text in texts[1:])


def test_a_long_question_needs_nothing_else() -> None:
    turns = [Turn("Bo", "Lunch?"), Turn("Ada", "Kafka " * 200)]
    assert queries(turns) == [Query(turns[-1].text)]


def test_what_the_model_wrote_and_names_are_left_out() -> None:
    turns = [Turn("Ada", "Do we use Kafka?"), Turn("Bo", "Zebras do.", by_ai=True), Turn("Ada", "and why not?")]
    found = " ".join(query.text for query in queries(turns))
    assert "Zebras" not in found
    assert not {"Ada", "Bo"} & set(found.split())
    assert queries(turns[1:]) == [Query("and why not?")]


@given(TURNS)
def test_the_question_comes_first_and_there_are_few(turns: list[Turn]) -> None:
    found = queries(turns)
    assert found[0] == Query(turns[-1].text)
    assert len(found) == len({query.text for query in found}) <= 1 + len(REACHES)
    assert all(query.weight > 0 for query in found)
    assert all(len(query.text) <= max(REACHES) and query.text.endswith(turns[-1].text) for query in found[1:])
