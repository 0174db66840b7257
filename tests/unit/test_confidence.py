"""How sure it is that something was found: within bounds, surer with every sign, and of nothing where nothing is."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from doppel.config import Settings
from doppel.engine.confidence import confidence, signs
from doppel.records import Passage

QUESTION = "Why did we drop Kafka for Postgres queues?"
SHARE = st.floats(0, 1)
SCORE = st.floats(-1, 1)


def passage(
    text: str = "Bo: The queues of Postgres are enough.",
    score: float = 0.5,
    fused_score: float | None = 0.7,
) -> Passage:
    return Passage("ops", None, "1.0", "2.0", (text,), (0, 1), text, "", score, score, None, fused_score)


PASSAGES = st.lists(st.builds(passage, st.text(), SCORE, st.none() | SHARE), min_size=1, max_size=8)


def test_of_nothing_found_it_is_not_sure_at_all() -> None:
    assert confidence(QUESTION, []) == 0


@given(st.text(), PASSAGES)
def test_any_text_has_a_confidence_between_0_and_1_and_always_the_same(question: str, passages: list[Passage]) -> None:
    found = confidence(question, passages)
    assert 0 < found < 1
    assert found == confidence(question, list(passages)) == confidence(question, passages[::-1])


@given(PASSAGES, SHARE, SHARE)
def test_a_nearer_passage_or_one_that_leads_more_orders_makes_it_surer(
    passages: list[Passage], one: float, other: float
) -> None:
    first, *rest = passages
    less, more = sorted((one, other))
    for field in ("score", "fused_score"):
        low, high = (replace(first, **{field: value}, best_score=None) for value in (less, more))  # type: ignore[arg-type]
        assert confidence(QUESTION, [low, *rest]) <= confidence(QUESTION, [high, *rest])


@given(PASSAGES, st.builds(passage, st.text(), SCORE, st.none() | SHARE))
def test_another_passage_never_makes_it_less_sure(passages: list[Passage], another: Passage) -> None:
    assert confidence(QUESTION, passages) <= confidence(QUESTION, [*passages, another])


def test_more_of_the_question_in_the_quotes_makes_it_surer() -> None:
    texts = ["Lunch?", "Kafka is gone.", "Kafka is gone, for queues.", "We did drop Kafka, for queues in Postgres."]
    found = [confidence(QUESTION, [passage(text)]) for text in texts]
    assert found == sorted(found)
    assert len(set(found)) == len(found)
    assert [signs(QUESTION, [passage(text)]).covered for text in texts] == [0, 0.25, 0.5, 1]


def test_a_hit_that_follows_up_counts_by_its_best_query() -> None:
    assert signs(QUESTION, [replace(passage(score=0.1), best_score=0.6)]).cosine == 0.6


def test_a_question_without_telling_words_has_none_covered() -> None:
    assert signs("Why?", [passage()]).covered == 0


def test_what_hardly_fits_is_below_the_default_and_what_fits_above() -> None:
    least = Settings().min_confidence
    assert confidence("Which league does Ajax play in?", [passage("Hm.", 0.1, 0.4)]) < least
    assert confidence(QUESTION, [passage(QUESTION, 0.8, 1.0)]) > least
