"""The benchmark of abstention: what it asks, and its figures."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.abstention import Case, asks, auroc, calibration_error, fitted, key, with_interval
from doppel.engine.confidence import COSINE, COVERED, FUSED, confidence
from doppel.records import Conversation, Message, Passage


def conversation(*texts: str) -> Conversation:
    said = [Message("T1", "C1", f"{1700000000 + i}.000100", "Ada", text) for i, text in enumerate(texts)]
    return Conversation("T1", "C1", said[0].ts, tuple(said))


@pytest.mark.parametrize(
    ("texts", "is_asked"),
    [
        (["How do we roll back a broken deploy?", "By hand.", "Ah."], True),
        (["tell me how the broken deploy rolls back", "By hand.", "Ah."], True),
        (["How do we roll back a broken deploy?", "By hand."], False),
        (["Lunch today?", "Yes.", "Ah."], False),
        (["We roll back the broken deploy by hand.", "Good.", "Ah."], False),
    ],
)
def test_a_question_opens_a_conversation_and_says_enough(texts: list[str], is_asked: bool) -> None:
    assert asks(conversation(*texts)) is is_asked


def test_a_key_tells_messages_apart_and_nothing_else() -> None:
    first, second, _ = conversation("Who deploys?", "Bo.", "Ah.").messages
    assert key(first) == key(first) != key(second)
    assert not {"C1", "Who", first.ts} & {*key(first).split()}


def test_the_area_is_the_share_of_pairs_in_order() -> None:
    assert auroc(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 1
    assert auroc(np.array([1.0, 3.0]), np.array([1.0, 2.0])) == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    low, area, high = with_interval(np.arange(0.0, 60), np.arange(-20.0, 40))
    assert low < area < high < 1


def test_the_calibration_error_is_the_gap_of_each_bin_with_half_of_it_so() -> None:
    assert calibration_error(np.full(4, 0.5), np.array([1.0, 0, 0, 0])) == pytest.approx(0)
    assert calibration_error(np.array([0.15, 1.0]), np.array([0.0, 1])) == pytest.approx(0.15 / 2)
    assert calibration_error(np.array([0.15, 0.15, 1.0]), np.array([1.0, 1, 0])) == pytest.approx(0.85 / 2 + 1 / 2)


def test_a_fit_finds_the_model_that_drew_its_cases() -> None:
    chance = np.random.default_rng(0)
    cases = []
    for score, fused in chance.uniform(0.1, 1, (4000, 2)).tolist():
        quote = str(chance.choice(["Lunch?", "Deploys break.", "They break."]))
        found = [Passage("ops", None, "1.0", "2.0", (quote,), (0, 1), quote, "", score, score, None, fused)]
        is_found = bool(chance.random() < confidence("Why do deploys break?", found))
        cases.append(Case("Why do deploys break?", found, is_found))
    base, *weights = fitted(cases)
    assert base < 0 < min(weights)
    assert weights == pytest.approx([COSINE, FUSED, COVERED], abs=1)
