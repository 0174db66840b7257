"""From a conversation to what is searched for. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from doppel.records import Query, Turn

REACHES = (250, 1000)
"""The characters of each query beyond the question itself: a quarter and all of what a chunk holds."""


def queries(turns: Sequence[Turn]) -> list[Query]:
    """What to search for to answer the last of `turns`: that question, and it after ever more of what was said before.

    How far back the subject lies nobody knows: a short query stays with the point, a long one still names the subject.
    What was said decides how many there are; of a single turn, or after a question as long as a query, it is the
    question alone. Left out are names, and what a model wrote, which is no evidence of what people speak of.
    """
    *before, question = turns
    said = "\n".join([*(turn.text for turn in before if _is_evidence(turn)), question.text])
    longer = [said[-reach:] for reach in REACHES if reach > len(question.text)]
    return [Query(text) for text in dict.fromkeys([question.text, *longer])]


def _is_evidence(turn: Turn) -> bool:
    return bool(turn.text.strip()) and not turn.by_ai
