"""What a short question in mid-conversation finds: python -m benchmarks.followups

A conversation is cut at a short message. What was said up to there are the turns of a question, and its first message
is not in the index; what was said after it is, as a conversation of its own. That is what should be found.
"""

from __future__ import annotations

import json
import random
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from statistics import NormalDist

import numpy as np

from benchmarks.command import main, say
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.workspace import import_into, public_name, settings_for
from doppel.access import ChannelKey
from doppel.artifacts import VersionedFolder
from doppel.engine.conversation import conversations
from doppel.engine.queries import queries
from doppel.errors import BadInputError
from doppel.ingest import open_archive
from doppel.records import Channel, Chunk, Conversation, Message, Query, Span, Turn
from indexing.cache import VectorCache
from indexing.chunk import chunk, text_hash
from indexing.embed import Embedder, SentenceEmbedder, Vectors
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever

FIRST = 6
"""Chunks that are looked up, as many as for an answer."""
LEAST_MESSAGES = 8
SHORT = 80
"""Characters that a question has less of."""
SAMPLES = 2000
"""Drawn for a bootstrap interval."""

DOES_NOT_SHOW = (
    "real questions to Doppel: the rest of a conversation stands in for what would answer, and the same people go on "
    "in it; names are in no query of Doppel's, but they are in those of everything that was said.",
    "how well the answer is found, or what a model makes of it; only whether a chunk of the rest is there.",
    "people's judgement of what belongs together: labels come from a program, windows from the clock.",
    "conversations with a model in them; all turns are people's.",
)


@dataclass(frozen=True, slots=True)
class Question:
    """The conversation that is asked in, and the number of its messages up to the question, which is the last."""

    conversation: Conversation
    length: int

    @property
    def turns(self) -> list[Turn]:
        """What was said up to the question."""
        return [Turn(message.author, message.text) for message in self.conversation.messages[: self.length]]

    @property
    def asked(self) -> Conversation:
        """The part of the conversation that was said up to the question."""
        return replace(self.conversation, messages=self.conversation.messages[: self.length])

    @property
    def span(self) -> Span:
        """Where the whole conversation stands."""
        found = self.conversation
        return Span(found.team, found.channel, found.thread_ts, found.first_ts, found.last_ts)

    @property
    def rest_channel(self) -> str:
        """The channel of its own in which the rest of the conversation stands, for this question alone."""
        return f"{self.conversation.channel} after {self.conversation.messages[self.length - 1].ts}"

    @property
    def rest(self) -> list[Message]:
        """What was said after the question."""
        return [replace(message, channel=self.rest_channel) for message in self.conversation.messages[self.length :]]


Ask = Callable[[Question], list[Query]]


class RememberingEmbedder(SentenceEmbedder):
    """Keeps vectors in a file, so that a second run is quick."""

    def __init__(self, model: str, device: str, kept: Path) -> None:
        super().__init__(model, device)
        self._kept = VectorCache(kept, self.model_id)

    def encode_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """As it does, of what isn't there yet."""
        if progress:
            progress(len(texts))
        return self._remembered("", texts, super().encode_documents)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """As it does, of what isn't there yet."""
        return self._remembered("q", texts, super().encode_queries)

    def _remembered(self, kind: str, texts: Sequence[str], encode: Callable[[list[str]], Vectors]) -> Vectors:
        by_hash = {kind + text_hash(text): text for text in texts}
        known = self._kept.vectors_by_hash(by_hash)
        if missing := [hash_ for hash_ in by_hash if hash_ not in known]:
            self._kept.put(missing, encode([by_hash[hash_] for hash_ in missing]))
            known = self._kept.vectors_by_hash(by_hash)
        return np.stack([known[kind + text_hash(text)] for text in texts])


@dataclass(frozen=True)
class Corpus:
    """Conversations of an export, what is asked in them, and an index of both."""

    name: str
    whole: list[Conversation]
    folder: VersionedFolder
    embedder: Embedder
    hits: dict[Ask, list[bool]] = field(default_factory=dict)

    @cached_property
    def questions(self) -> list[Question]:
        """One in each conversation that is long enough and has a short message at a third of the way or later."""
        return [found for conversation in self.whole if (found := question(conversation))]

    def messages(self) -> Iterator[Message]:
        """Every conversation whole, then the rests, each in a channel of its own."""
        said = [message for conversation in self.whole for message in conversation.messages]
        yield from sorted(said, key=lambda message: (message.channel, message.ts))
        yield from (message for found in self.questions for message in found.rest)

    def revision(self) -> int:
        """Nothing changes."""
        return 0

    clean_revision = revision

    def snapshot(self) -> Corpus:
        """It is what it is."""
        return self

    def channel(self, key: ChannelKey) -> Channel | None:
        """Channels have no names but their ids here."""
        return None

    def conversations(self, chunks: Sequence[Chunk]) -> list[Conversation]:
        """The conversation of each chunk."""
        return [self._by_place[cut.team, cut.channel, cut.thread_ts or cut.conversation_first_ts] for cut in chunks]

    def permalink(self, channel: ChannelKey, ts: str, thread_ts: str | None) -> str:
        """There is no Slack."""
        return ""

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, str], Conversation]:
        found = conversations(self.messages())
        return {(each.team, each.channel, each.thread_ts or each.first_ts): each for each in found}

    def found(self, ask: Ask) -> list[bool]:
        """Whether each question finds the rest of its conversation."""
        if ask not in self.hits:
            retriever, asked = IndexRetriever(self.folder, self.embedder, self), [ask(each) for each in self.questions]
            # All at once, which is quicker; they are remembered.
            self.embedder.encode_queries([query.text for each in asked for query in each])
            together = zip(asked, self.questions, strict=True)
            self.hits[ask] = [self._is_found(retriever, *each) for each in together]
        return self.hits[ask]

    def _is_found(self, retriever: IndexRetriever, asked: list[Query], each: Question) -> bool:
        rest = (each.conversation.team, each.rest_channel)
        scope = frozenset({rest, *((whole.team, whole.channel) for whole in self.whole)})
        (passages,) = retriever.look_up(asked, [scope], FIRST, self, each.span)
        return any(passage.channel_name == each.rest_channel for passage in passages)


def question(conversation: Conversation) -> Question | None:
    """The first short message from a third of the way on that something follows."""
    messages = conversation.messages
    if len(messages) < LEAST_MESSAGES:
        return None
    later = range(-(-len(messages) // 3), len(messages) - 1)
    cut = next((i for i in later if len(messages[i].text) < SHORT), None)
    return None if cut is None else Question(conversation, cut + 1)


def of_the_conversation(asked: Question) -> list[Query]:
    """As Doppel searches."""
    return queries(asked.turns)


def of_the_last_line(asked: Question) -> list[Query]:
    """The question alone."""
    return queries(asked.turns[-1:])


def of_everything(asked: Question) -> list[Query]:
    """The question, and all that was said as if it were indexed, with names: more than a question could afford."""
    return [*of_the_last_line(asked), *(Query(cut.text) for cut in chunk(asked.asked))]


def prepare(given: Namespace, work: Path) -> Benchmark:
    """An index for each export, and for each way to tell its conversations."""
    settings = settings_for(work)
    kept = given.vectors or work / "vectors.sqlite"
    embedder = RememberingEmbedder(settings.embedding_model, settings.device, kept)
    exports = [("chosen on", given.export, given.labels)]
    exports += [("held out", given.held_out, given.held_out_labels)] if given.held_out else []
    corpora = [corpus for export in exports for corpus in _corpora(*export, work, embedder)]
    for corpus in corpora:
        if not corpus.questions:
            raise MeasurementError(f"In no conversation of {corpus.name} is there anything to ask.")
        say(f"{corpus.name}: {len(corpus.questions)} questions in {len(corpus.whole)} conversations; indexing.")
        reindex(corpus, corpus.folder, embedder, progress=lambda done, total: say(f"  {done} of {total} chunks"))
    ways = {"the conversation": of_the_conversation, "last line alone": of_the_last_line, "everything": of_everything}
    return Benchmark(
        name="followups",
        title=f"The rest of a conversation among the first {FIRST}; min and max are the ends of 95 % intervals",
        contenders=tuple(Contender(name, partial(_figures, corpora, ask)) for name, ask in ways.items()),
        workload={
            "model": public_name(settings.embedding_model),
            **{f"questions, {corpus.name}": len(corpus.questions) for corpus in corpora},
            **{f"conversations, {corpus.name}": len(corpus.whole) for corpus in corpora},
        },
        libraries=("sentence-transformers", "torch", "faiss-cpu", "numpy"),
        does_not_show=DOES_NOT_SHOW,
    )


def _corpora(name: str, export: Path, labels: Path | None, work: Path, embedder: Embedder) -> Iterator[Corpus]:
    said, names = imported(name, export, work)
    tellings = {"windows": said}
    if labels:
        tellings = {"labelled": threaded(said, names, labels), **tellings}
    for kind, messages in tellings.items():
        folder = VersionedFolder(work / f"{name}, {kind}", "index", "build it again")
        yield Corpus(f"{name}, {kind}", list(conversations(messages)), folder, embedder)


def imported(name: str, export: Path, work: Path) -> tuple[list[Message], dict[ChannelKey, str]]:
    """The messages of an export, imported under `name`, and its channels' names."""
    archive_path = work / f"{name}.db"
    import_into(archive_path, export)
    with open_archive(archive_path) as archive:
        return list(archive.messages()), {(each.team, each.id): each.name for each in archive.channels()}


def threaded(said: Iterable[Message], names: dict[ChannelKey, str], labels: Path) -> list[Message]:
    """The messages with each labelled conversation as a thread. Raises BadInputError."""
    roots: dict[tuple[str, str], str] = {}
    try:
        for row in map(json.loads, labels.read_text(encoding="utf-8").splitlines()):
            roots |= {(row["channel"], ts): row["ts"][0] for ts in row["ts"]}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise BadInputError(f'The labels must be lines of {{"channel": …, "ts": […]}}: {error!r}.') from error
    return [replace(m, thread_ts=roots.get((names[m.team, m.channel], m.ts), m.thread_ts)) for m in said]


def _figures(corpora: Sequence[Corpus], ask: Ask) -> Samples:
    """Percentages between the ends of their intervals; the frame takes none of zero, so those are left out."""
    figures: dict[str, tuple[float, float, float]] = {}
    for corpus in corpora:
        found, alone = corpus.found(ask), corpus.found(of_the_last_line)
        low, high = wilson(sum(found), len(found))
        figures[f"{corpus.name}: found, %"] = low, sum(found) / len(found), high
        if ask is not of_the_last_line:
            pairs = list(zip(alone, found, strict=True))
            low, high = bootstrap(pairs)
            figures[f"{corpus.name}: failures gone, %"] = low, failures_gone(pairs), high
    shown = {name: [100 * share for share in shares if share > 0] for name, shares in figures.items()}
    return {name: shares for name, shares in shown.items() if shares}


def failures_gone(pairs: Sequence[tuple[bool, bool]]) -> float:
    """By which share there are fewer failures than before; pairs are what was found before and now."""
    before, now = (len(pairs) - sum(found) for found in zip(*pairs, strict=True))
    return (before - now) / before if before else 0.0


def bootstrap(pairs: Sequence[tuple[bool, bool]]) -> tuple[float, float]:
    """The interval of 95 % of `failures_gone`, of questions drawn again and again."""
    chance = random.Random(0)
    drawn = sorted(failures_gone(chance.choices(pairs, k=len(pairs))) for _ in range(SAMPLES))
    return drawn[SAMPLES // 40], drawn[-SAMPLES // 40 - 1]


def wilson(found: int, of: int) -> tuple[float, float]:
    """The interval of 95 % of a share (Wilson 1927)."""
    z = NormalDist().inv_cdf(0.975)
    share, spread = found / of, z * z / of
    middle, reach = share + spread / 2, z * (share * (1 - share) / of + spread / of / 4) ** 0.5
    return (middle - reach) / (1 + spread), (middle + reach) / (1 + spread)


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--labels", type=Path, help="its conversations, as lines of JSON with a channel's name and ts")
    parser.add_argument("--held-out", type=Path, help="another export, on which nothing was chosen")
    parser.add_argument("--held-out-labels", type=Path, help="its conversations")
    parser.add_argument("--vectors", type=Path, help="a file that keeps the chunks' vectors, for the next run")


if __name__ == "__main__":
    main("followups", prepare, rounds=1, warmup=0, options=_options)
