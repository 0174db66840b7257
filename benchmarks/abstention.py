"""Whether Doppel knows when not to answer: python -m benchmarks.abstention

A question is what opens a conversation. It is never in the index; what was said after it is, as a conversation of its
own, or it is taken out. Questions of another workspace are asked here, too. What was found should tell which is which.
"""

from __future__ import annotations

import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.command import SAMPLE, main, say
from benchmarks.followups import (
    FIRST,
    SAMPLES,
    Corpus,
    Question,
    RememberingEmbedder,
    imported,
    of_the_last_line,
    threaded,
    wilson,
)
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.workspace import import_into, public_name, settings_for
from doppel.access import ReadPolicy
from doppel.artifacts import VersionedFolder
from doppel.engine.confidence import confidence, signs
from doppel.engine.conversation import conversations
from doppel.engine.words import telling
from doppel.errors import BadInputError
from doppel.ingest import open_archive
from doppel.records import Conversation, Message, Passage
from indexing.chunk import text_hash
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever

LEAST_MESSAGES = 3
LEAST_WORDS = 4
BINS = 10
QUESTIONS = SAMPLE.with_name("questions.jsonl")
READ = Path(__file__).with_name("abstention_read.json")
"""Whether another conversation answers a question whose own was taken out, as a language model judged; by `key`."""
PARTS = ("found", "read")
"""Groups that are parts of others."""
ALLOWED = 0.1
"""The share of the answerable that may be refused, where it is asked how much of the rest is, then."""

_ASKS = re.compile(r"\?|\b(?:how|what|when|where|which|who|whose|whom|why)\b", re.IGNORECASE)

DOES_NOT_SHOW = (
    "whether an answer is right: a question is answerable where its own conversation is in the index, and found where "
    "that is among the passages, whatever was said in it.",
    "that nothing else answers what was taken out; for 100 such questions a language model judged it.",
    "real questions to Doppel: those of a channel are long, and asked of people who know what was just said.",
    "other embedding models, whose cosines are others.",
    "the probability elsewhere: it holds where half of what is asked can be found, as each corpus is weighted.",
)

Values = NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class Case:
    """A question and what was found for it; `key` tells it from others without its text."""

    question: str
    passages: Sequence[Passage]
    is_found: bool = False
    key: str = ""


Measure = Callable[[Case], float]


@dataclass(frozen=True)
class Opened(Corpus):
    """Conversations whose first message is the question."""

    @cached_property
    def questions(self) -> list[Question]:
        """One for each conversation that opens with something asked and goes on."""
        return [Question(each, 1) for each in self.whole if each.thread_ts is not None and asks(each)]


@dataclass(frozen=True)
class Cases:
    """The cases of a workspace by group, and which groups are compared.

    A question's own conversation is "in" the index, and then "found" or not, or "out" of it; of those "read" it is out,
    and none was seen that answers instead. "foreign" are those of the other workspace; "both" are out or foreign.
    """

    name: str
    groups: Mapping[str, Sequence[Case]]
    compared: Sequence[tuple[str, str]]

    @property
    def all(self) -> list[Case]:
        """Each case once."""
        return [case for name, cases in self.groups.items() if name not in PARTS for case in cases]


def asks(conversation: Conversation) -> bool:
    """Whether its first message asks something, in enough words, and others follow."""
    text = conversation.messages[0].text
    is_long = len(conversation.messages) >= LEAST_MESSAGES and len({*telling(text)}) >= LEAST_WORDS
    return is_long and bool(_ASKS.search(text))


def key(message: Message) -> str:
    """A name for a message that tells nothing of it."""
    return text_hash(f"{message.channel} {message.ts}")


def auroc(positive: Values, negative: Values) -> float:
    """The probability that a positive is above a negative; equals count half."""
    order = np.sort(negative)
    below = np.searchsorted(order, positive, "left") + np.searchsorted(order, positive, "right")
    return float(below.mean() / 2 / len(order))


def with_interval(positive: Values, negative: Values) -> tuple[float, float, float]:
    """The AUROC between the ends of its 95 % interval, of cases drawn again and again."""
    chance = np.random.default_rng(0)
    drawn = sorted(
        auroc(chance.choice(positive, len(positive)), chance.choice(negative, len(negative))) for _ in range(SAMPLES)
    )
    return drawn[SAMPLES // 40], auroc(positive, negative), drawn[-SAMPLES // 40 - 1]


def halved(is_so: Values) -> Values:
    """Weights, 1 in all, that give half to what is so and half to what isn't."""
    share = is_so.mean()
    return np.where(is_so == 1, 0.5 / share, 0.5 / (1 - share)) / len(is_so)


def calibration_error(probabilities: Values, is_so: Values) -> float:
    """How far, in ten bins and on average, a probability is from the share of what is so, with half of it so."""
    bins = np.minimum((probabilities * BINS).astype(int), BINS - 1)
    gaps = halved(is_so) * (probabilities - is_so)
    return float(sum(abs(gaps[bins == each].sum()) for each in range(BINS)))


def fitted(cases: Sequence[Case]) -> list[float]:
    """The logistic model of `cases`, half of them found: what it begins with, and the weight of each sign.

    By Newton's method.
    """
    found = [signs(case.question, case.passages) for case in cases if case.passages]
    rows = np.array([[1.0, each.cosine, each.fused, each.covered] for each in found])
    is_so = np.array([float(case.is_found) for case in cases if case.passages])
    counts, model = halved(is_so), np.zeros(rows.shape[1])
    for _ in range(25):
        chance = 1 / (1 + np.exp(-rows @ model))
        curve = rows.T @ (rows * (counts * chance * (1 - chance))[:, None])
        model += np.linalg.solve(curve, rows.T @ (counts * (is_so - chance)))
    return [float(weight) for weight in model]


def of_confidence(case: Case) -> float:
    """As Doppel judges."""
    return confidence(case.question, case.passages)


def of_cosine(case: Case) -> float:
    """The largest cosine alone."""
    return max((passage.score for passage in case.passages), default=0.0)


def prepare(given: Namespace, work: Path) -> Benchmark:
    """All that is found for every question, once."""
    settings = settings_for(work)
    embedder = RememberingEmbedder(settings.embedding_model, settings.device, given.vectors or work / "vectors.sqlite")
    exports = [("chosen on", given.export, given.labels)]
    exports += [("held out", given.held_out, given.held_out_labels)] if given.held_out else []
    opened = [_opened(*export, work, embedder) for export in exports]
    read = json.loads(READ.read_text(encoding="utf-8"))
    measured = [_cases(corpus, [other for other in opened if other is not corpus], read) for corpus in opened]
    measured.append(_written(given.questions, work, embedder))
    first = measured[0]
    say("Fitted anew on the first: " + ", ".join(f"{weight:.2f}" for weight in fitted(first.all)))
    least, sure = settings.min_confidence, np.array([of_confidence(case) for case in first.groups["in"]])
    # The peer's threshold refuses as many of the first workspace's answerable questions.
    cosines = np.array([of_cosine(case) for case in first.groups["in"]])
    same = float(np.quantile(cosines, (sure < least).mean()))
    return Benchmark(
        name="abstention",
        title=f"Answerable or not, by the first {FIRST} passages; min and max are the ends of 95 % intervals",
        contenders=(
            Contender("Doppel's confidence", partial(_figures, measured, of_confidence, least, True)),
            Contender("largest cosine", partial(_figures, measured, of_cosine, same, False)),
        ),
        workload={
            "model": public_name(settings.embedding_model),
            "refused below": least,
            "refused below, cosine": round(same, 3),
            **{f"{each.name}: {group}": len(cases) for each in measured for group, cases in each.groups.items()},
        },
        libraries=("sentence-transformers", "torch", "faiss-cpu", "numpy"),
        does_not_show=DOES_NOT_SHOW,
    )


def _opened(name: str, export: Path, labels: Path | None, work: Path, embedder: RememberingEmbedder) -> Opened:
    said, names = imported(name, export, work)
    whole = list(conversations(threaded(said, names, labels) if labels else said))
    corpus = Opened(name, whole, VersionedFolder(work / name, "index", "build it again"), embedder)
    if not corpus.questions:
        raise MeasurementError(f"In {name} no conversation opens with a question.")
    say(f"{name}: {len(corpus.questions)} questions in {len(whole)} conversations; indexing.")
    reindex(corpus, corpus.folder, embedder, progress=lambda done, total: say(f"  {done} of {total} chunks"))
    # All at once, which is quicker; they are remembered.
    embedder.encode_queries([each.turns[-1].text for each in corpus.questions])
    return corpus


def _cases(corpus: Opened, others: Sequence[Opened], read: Mapping[str, bool]) -> Cases:
    retriever = IndexRetriever(corpus.folder, corpus.embedder, corpus)
    there = [_case(corpus, retriever, each, True) for each in corpus.questions]
    out = [_case(corpus, retriever, each, False) for each in corpus.questions]
    groups = {
        "in": there,
        "found": [case for case in there if case.is_found],
        "out": out,
        "read": [case for case in out if read.get(case.key) is False],
        "foreign": [_case(corpus, retriever, each, False) for other in others for each in other.questions],
    }
    unlike = ("out", "read", "foreign", "both")
    pairs = [(answerable, other) for answerable in ("in", "found") for other in unlike]
    return Cases(corpus.name, {name: cases for name, cases in groups.items() if cases}, pairs)


def _case(corpus: Opened, retriever: IndexRetriever, each: Question, with_its_own: bool) -> Case:
    """What is found in all of `corpus` but the question's conversation, or in that and the rest of it."""
    scope = {(whole.team, whole.channel) for whole in corpus.whole}
    if with_its_own:
        scope.add((each.conversation.team, each.rest_channel))
    (passages,) = retriever.look_up(of_the_last_line(each), [frozenset(scope)], FIRST, corpus, each.span)
    is_found = any(passage.channel_name == each.rest_channel for passage in passages)
    return Case(each.turns[-1].text, passages, is_found, key(each.conversation.messages[0]))


def _written(questions: Path, work: Path, embedder: RememberingEmbedder) -> Cases:
    """Questions that were written about the sample workspace. Raises BadInputError."""
    archive_path, folder = work / "sample.db", VersionedFolder(work / "sample", "index", "build it again")
    import_into(archive_path, SAMPLE)
    groups: dict[str, list[Case]] = {"answerable": [], "near misses": [], "far": []}
    with open_archive(archive_path) as archive:
        reindex(archive, folder, embedder)
        retriever = IndexRetriever(folder, embedder, archive)
        scope = ReadPolicy(public=True).readable(archive.channels())
        for text, group in _rows(questions):
            found = retriever.retrieve(text, scope, FIRST)
            groups[group].append(Case(text, found, group == "answerable"))
    pairs = [("answerable", other) for other in ("near misses", "far", "both")]
    return Cases("written", {name: cases for name, cases in groups.items() if cases}, pairs)


def _rows(questions: Path) -> Iterator[tuple[str, str]]:
    try:
        for row in map(json.loads, questions.read_text(encoding="utf-8").splitlines()):
            yield row["question"], "answerable" if row["answerable"] else "near misses" if row["thread"] else "far"
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f'Questions must be lines of {{"question": …, "answerable": …}}: {error!r}.') from error


def _figures(measured: Sequence[Cases], measure: Measure, least: float, is_probability: bool) -> Samples:
    """Areas and percentages between the ends of their intervals; the frame takes none of zero."""
    figures: dict[str, Sequence[float]] = {}
    for each in measured:
        values = {name: np.array([measure(case) for case in cases]) for name, cases in each.groups.items()}
        unlike = [values[name] for name in values if name in ("out", "foreign", "near misses", "far")]
        values["both"] = np.concatenate(unlike)
        compared = [(answerable, other) for answerable, other in each.compared if other in values]
        for answerable, other in compared:
            area = with_interval(values[answerable], values[other])
            figures[f"{each.name}: AUROC, {answerable}/{other}"] = area
        if is_probability:
            is_so = np.array([float(case.is_found) for case in each.all])
            error = calibration_error(np.array([measure(case) for case in each.all]), is_so)
            figures[f"{each.name}: calibration error, %"] = [100 * error]
        for name in values:
            figures[f"{each.name}: refused, {name}, %"] = _refused(values[name], least)
        for answerable, other in compared:
            allowed = float(np.quantile(values[answerable], ALLOWED))
            figures[f"{each.name}: at 10 % of {answerable}, {other}, %"] = _refused(values[other], allowed)
    shown = {name: [share for share in shares if share > 0] for name, shares in figures.items()}
    return {name: shares for name, shares in shown.items() if shares}


def _refused(values: Values, least: float) -> list[float]:
    """The percentage below `least` between the ends of its interval."""
    refused = int((values < least).sum())
    low, high = wilson(refused, len(values))
    return [100 * low, 100 * refused / len(values), 100 * high]


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--labels", type=Path, help="its conversations, as lines of JSON with a channel's name and ts")
    parser.add_argument("--held-out", type=Path, help="another export, on which nothing was chosen")
    parser.add_argument("--held-out-labels", type=Path, help="its conversations")
    parser.add_argument(
        "--questions", type=Path, default=QUESTIONS, help="questions about the sample workspace, as lines of JSON"
    )
    parser.add_argument("--vectors", type=Path, help="a file that keeps the chunks' vectors, for the next run")


if __name__ == "__main__":
    main("abstention", prepare, rounds=1, warmup=0, options=_options)
