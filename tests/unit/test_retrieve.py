from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doppel.access import OPERATOR, ChannelKey, ReadPolicy
from doppel.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.config import PACKAGED_EMBEDDING_MODEL
from doppel.engine.conversation import conversations
from doppel.engine.queries import queries
from doppel.errors import ArtifactError
from doppel.ingest import import_export, open_archive
from doppel.records import Passage, Query, Span, Turn, ts_key
from doppel.slack.export import open_export
from indexing.chunk import chunk
from indexing.embed import SentenceEmbedder, Vectors
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from indexing.vectors import DEPTH, INDEX_FILE, RANK_OFFSET
from tests.fakes.archive import FakeArchive
from tests.fakes.embedding import FakeEmbedder

C1, C2 = frozenset({("T1", "C1")}), frozenset({("T1", "C2")})


@pytest.fixture
def folder(tmp_path: Path) -> VersionedFolder:
    return VersionedFolder(tmp_path / "index", "index", "run `doppel reindex --full`")


@pytest.fixture
def archive() -> FakeArchive:
    archive = FakeArchive()
    root = archive.said("Why did we drop Kafka?")
    archive.said("x " * 480, "Bo", thread_ts=root.ts)
    archive.said("Kafka was too much to run, a table does the job.", "Cy", thread_ts=root.ts)
    archive.said("Kafka agreed.", "Ada", thread_ts=root.ts)
    other = archive.said("Lunch at noon?")
    archive.said("Soup again.", "Bo", thread_ts=other.ts)
    archive.said("Kafka costs: the secret figure", "Dee", "C2")
    return archive


@pytest.fixture
def retriever(folder: VersionedFolder, archive: FakeArchive) -> IndexRetriever:
    reindex(archive, folder, FakeEmbedder())
    return IndexRetriever(folder, FakeEmbedder(), archive)


def test_the_best_chunk_of_each_conversation_with_all_that_was_said(
    retriever: IndexRetriever, archive: FakeArchive
) -> None:
    best, other = retriever.retrieve("Kafka a table does the job", C1, 9)

    assert best.lines == (
        "Ada: Why did we drop Kafka?",
        "Bo: " + "x " * 480,
        "Cy: Kafka was too much to run, a table does the job.",
        "Ada: Kafka agreed.",
    )
    assert best.focus == (2, 4)
    assert best.quote == "\n".join(best.lines[2:4])
    assert (best.first_ts, best.last_ts, best.thread_ts) == (
        archive.stored[0].ts, archive.stored[3].ts, archive.stored[0].ts,
    )  # fmt: skip
    assert best.channel_name == "name-of-C1"
    assert best.permalink == archive.permalink(("T1", "C1"), archive.stored[2].ts)
    assert best.score > other.score
    assert other.lines == ("Ada: Lunch at noon?", "Bo: Soup again.")


def test_what_may_not_be_read_is_not_there(retriever: IndexRetriever) -> None:
    query = "Kafka costs: the secret figure"
    assert not any("secret" in "".join(p.lines) for p in retriever.retrieve(query, C1, 50))
    assert [p.lines for p in retriever.retrieve(query, C2, 50)] == [("Dee: " + query,)]
    assert retriever.search(query, frozenset(), 50) == []
    assert retriever.retrieve(query, frozenset(), 50) == []


def test_k_counts_chunks(retriever: IndexRetriever) -> None:
    hits = retriever.search("Kafka", C1, 2)
    assert len(hits) == 2
    assert hits[0].score >= hits[1].score


def test_what_was_deleted_since_is_not_shown(retriever: IndexRetriever, archive: FakeArchive) -> None:
    archive.stored[2] = replace(archive.stored[2], text="")
    (passage, *_) = retriever.retrieve("Kafka a table does the job", C1, 1)
    assert "table" not in passage.quote + "".join(passage.lines)
    assert passage.quote == "Ada: Kafka agreed."

    archive.stored[:4] = []
    assert retriever.retrieve("Kafka a table does the job", C1, 1) == []


def test_a_new_version_is_taken_up_without_a_restart(
    retriever: IndexRetriever, archive: FakeArchive, folder: VersionedFolder
) -> None:
    assert not any("zebra" in hit.chunk.text for hit in retriever.search("zebra", C1, 9))
    archive.said("The zebra project starts", "Eve")
    reindex(archive, folder, FakeEmbedder(), keep=1)
    assert "zebra" in retriever.search("zebra project", C1, 1)[0].chunk.text


def test_searches_beside_a_reindexing_see_one_version_whole(
    retriever: IndexRetriever, archive: FakeArchive, folder: VersionedFolder
) -> None:
    faults: list[BaseException] = []
    stop = threading.Event()

    def search() -> None:
        try:
            while not stop.is_set():
                assert len(retriever.search("Kafka", C1, 2)) == 2
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for i in range(8):
        archive.said(f"News {i}", "Eve")
        reindex(archive, folder, FakeEmbedder(), keep=1)
    stop.set()
    for thread in threads:
        thread.join()
    assert faults == []


def test_without_an_index_it_says_what_to_do(folder: VersionedFolder, archive: FakeArchive) -> None:
    with pytest.raises(ArtifactError, match=r"no index yet; run `doppel reindex`\."):
        IndexRetriever(folder, FakeEmbedder(), archive).search("x", C1, 1)


def test_an_index_of_another_model_is_not_searched(
    retriever: IndexRetriever, folder: VersionedFolder, archive: FakeArchive
) -> None:
    with pytest.raises(ArtifactError, match="another embedding model"):
        IndexRetriever(folder, FakeEmbedder("other@1"), archive).search("x", C1, 1)


def test_a_damaged_index_is_one_sentence(
    retriever: IndexRetriever, folder: VersionedFolder, archive: FakeArchive
) -> None:
    version = folder.current()
    assert version is not None
    index = version.path / INDEX_FILE
    index.write_bytes(bytes(len(index.read_bytes())))
    with pytest.raises(ArtifactError, match="run `doppel reindex --full`"):
        retriever.search("x", C1, 1)


# The real parts together: an export, the archive, the packaged model.

TALK: dict[str, list[tuple[str, str, str, str | None]]] = {
    "general": [
        ("U1", "1700000000.000100", "Why did we drop Kafka last year?", "1700000000.000100"),
        ("U2", "1700000060.000100", "Nobody wanted to operate it. A Postgres table was enough.", "1700000000.000100"),
        ("U1", "1700100000.000100", "The coffee machine is broken again.", None),
        ("U2", "1700100010.000100", "I have called the repair service.", None),
    ],
    "board": [("U2", "1700000500.000100", "The message broker licence costs 90,000 a year.", None)],
}


@pytest.fixture
def real_archive(tmp_path: Path) -> Iterator[Archive]:
    export = tmp_path / "export"
    for name, said in TALK.items():
        (export / name).mkdir(parents=True)
        day = [
            {"type": "message", "user": user, "ts": ts, "text": text, **({"thread_ts": root} if root else {})}
            for user, ts, text, root in said
        ]
        (export / name / "2023-11-14.json").write_text(json.dumps(day))
    users = [{"id": i, "team_id": "T1", "name": n.lower(), "real_name": n} for i, n in [("U1", "Ada"), ("U2", "Bo")]]
    (export / "users.json").write_text(json.dumps(users))
    (export / "channels.json").write_text(json.dumps([{"id": "C000000001", "name": "general"}]))
    (export / "groups.json").write_text(json.dumps([{"id": "G000000002", "name": "board"}]))
    with open_archive(tmp_path / "archive.db", "https://acme.slack.com") as archive, open_export(export) as opened:
        import_export(archive, opened)
        yield archive


def test_from_an_export_to_the_thread_that_answers(real_archive: Archive, folder: VersionedFolder) -> None:
    embedder = SentenceEmbedder(PACKAGED_EMBEDDING_MODEL, "cpu")
    report = reindex(real_archive, folder, embedder)
    assert (report.conversations, report.chunks, report.embedded) == (3, 3, 3)
    assert reindex(real_archive, folder, embedder).embedded == 0
    retriever = IndexRetriever(folder, embedder, real_archive)
    public = ReadPolicy(public=True).readable(real_archive.channels())
    everywhere = OPERATOR.readable(real_archive.channels())

    best, *_ = retriever.retrieve("What was wrong with our message broker Kafka?", public, 3)
    assert best.lines == (
        "Ada: Why did we drop Kafka last year?",
        "Bo: Nobody wanted to operate it. A Postgres table was enough.",
    )
    assert best.permalink == "https://acme.slack.com/archives/C000000001/p1700000000000100"
    assert best.channel_name == "general"
    costs = "How much is the licence of the message broker?"
    assert retriever.retrieve(costs, everywhere, 1)[0].channel_name == "board"
    assert {p.channel_name for p in retriever.retrieve(costs, public, 9)} == {"general"}


# Several queries, and the conversation that is answered.


def spans(archive: FakeArchive) -> list[Span]:
    found = conversations(archive.messages())
    return [Span(c.team, c.channel, c.thread_ts, c.first_ts, c.last_ts) for c in found]


def place(passage: Passage) -> tuple[str, str | None, str]:
    return passage.channel_name.removeprefix("name-of-"), passage.thread_ts, passage.first_ts


@st.composite
def archives(draw: st.DrawFn) -> FakeArchive:
    """Threads of one or several chunks, and windows, in two channels."""
    archive, words = FakeArchive(), st.sampled_from(["Kafka", "lunch", "soup", "table " * 90, "why not"])
    for channel in draw(st.lists(st.sampled_from(["C1", "C2"]), min_size=1, max_size=6)):
        root = archive.said(draw(words), channel=channel)
        for _ in range(draw(st.integers(0, 3))):
            archive.said(draw(words), "Bo", channel, root.ts)
        if draw(st.booleans()):
            archive.said(draw(words), "Cy", channel)
        # Two hours and more, after which another window begins.
        archive._clock = count(ts_key(archive.stored[-1].ts)[0] + 3 * 60 * 60)
    return archive


QUERIES = st.lists(
    st.builds(Query, st.sampled_from(["Kafka", "soup table", "why not?", ""]), st.sampled_from([0.5, 1.0])),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60)
@given(archives(), QUERIES, st.sampled_from([C1, C2, C1 | C2]), st.integers(1, 6), st.data())
def test_the_conversation_that_is_answered_is_never_its_own_source(
    archive: FakeArchive, asked: list[Query], scope: frozenset[ChannelKey], k: int, data: st.DataObject
) -> None:
    with TemporaryDirectory() as path:
        folder = VersionedFolder(Path(path), "index", "")
        reindex(archive, folder, FakeEmbedder())
        retriever = IndexRetriever(folder, FakeEmbedder(), archive)
        own = data.draw(st.sampled_from(spans(archive)))
        (found,) = retriever.look_up(asked, [scope], k, archive, own)
        (everything,) = retriever.look_up(asked, [scope], 1000, archive)
        there = [cut for c in conversations(archive.messages()) for cut in chunk(c) if (c.team, c.channel) in scope]
        others = [cut for cut in there if (cut.channel, cut.thread_ts, cut.conversation_first_ts) != _mine(own)]
        hits = retriever._store().best(
            FakeEmbedder().encode_queries([query.text for query in asked]), asked, scope, k,
            retriever._store().rows_of(own),
        )  # fmt: skip
    assert (own.channel, own.thread_ts, own.first_ts) not in {place(passage) for passage in found}
    assert len(hits) == min(k, len(others))
    assert {("T1", place(passage)[0]) for passage in found} <= scope
    kept = [place(passage) for passage in everything if place(passage) != (own.channel, own.thread_ts, own.first_ts)]
    assert set(map(place, found)) <= set(kept)
    if k >= len(others):
        assert set(map(place, found)) == set(kept)


def _mine(own: Span) -> tuple[str, str | None, str]:
    return own.channel, own.thread_ts, own.first_ts


def test_a_window_is_left_out_where_it_overlaps_and_threads_beside_it_are_not(
    retriever: IndexRetriever, archive: FakeArchive, folder: VersionedFolder
) -> None:
    first = archive.said("Kafka once more")
    last = archive.said("Kafka, yes", "Bo")
    reindex(archive, folder, FakeEmbedder())

    def found(start: str, end: str) -> list[str | None]:
        (passages,) = retriever.look_up([Query("Kafka")], [C1], 9, archive, Span("T1", "C1", None, start, end))
        return [passage.thread_ts for passage in passages]

    threads = {archive.stored[0].ts, archive.stored[4].ts}
    # What was said since the index was built belongs to the window as well.
    for start, end in ((first.ts, last.ts), (last.ts, "1800000000.000100"), ("1.000000", first.ts)):
        assert set(found(start, end)) == threads
    assert set(found("1.000000", archive.stored[3].ts)) == {*threads, None}
    assert set(found("1750000000.0", "1800000000.0")) == {*threads, None}


def test_one_query_finds_what_it_found_before_there_were_several(retriever: IndexRetriever) -> None:
    for text in ("Kafka a table", "noon", "", "?!", "zebra"):
        store, vector = retriever._store(), FakeEmbedder().encode_query(text)
        near = [row for row, _ in store._rows(vector[np.newaxis], C1, DEPTH)[0]]
        said = store.documents.matching(text, C1, DEPTH)
        scores: dict[int, float] = {}
        for order in (near, said):
            for rank, row in enumerate(order, start=1):
                scores[row] = scores.get(row, 0.0) + 1 / (RANK_OFFSET + rank)
        rows = sorted(scores, key=lambda row: -scores[row])
        hits = retriever.search(text, C1, 9)
        assert [hit.chunk.id for hit in hits] == [store.documents.entries([row])[row].id for row in rows]
        vectors = store._reconstruct(rows)
        assert [hit.score for hit in hits] == pytest.approx((vectors @ vector).tolist(), abs=1e-5)
        assert [hit.best_score for hit in hits] == [hit.score for hit in hits]
        assert [hit.word_rank for hit in hits] == [said.index(row) + 1 if row in said else None for row in rows]


def test_what_any_query_finds_is_found_by_its_weight(retriever: IndexRetriever, archive: FakeArchive) -> None:
    def best(*asked: Query) -> Passage:
        return retriever.look_up(asked, [C1], 9, archive)[0][0]

    kafka, lunch = "Kafka a table does the job", "Lunch at noon? Soup again."
    assert "Kafka" in best(Query(kafka), Query(lunch, 0.1)).quote
    found = best(Query(kafka, 0.1), Query(lunch))
    assert "Soup" in found.quote
    assert found.best_score is not None
    assert found.best_score > found.score
    assert found.word_rank is None
    assert best(Query("soup")).word_rank == 1
    assert best(Query("Soup again.")).fused_score == pytest.approx(1)
    assert found.fused_score is not None
    assert 0 < found.fused_score < 1


def test_a_follow_up_finds_what_the_conversation_is_about(retriever: IndexRetriever, archive: FakeArchive) -> None:
    turns = [Turn("Eve", "Soup for lunch at noon?"), Turn("Eve", "oh, sure?")]
    alone, together = (retriever.look_up(queries(asked), [C1], 1, archive)[0] for asked in (turns[-1:], turns))
    assert "Soup" not in alone[0].quote
    assert "Soup" in together[0].quote


def test_all_queries_and_scopes_take_one_batch(folder: VersionedFolder, archive: FakeArchive) -> None:
    batches: list[list[str]] = []

    class Counting(FakeEmbedder):
        def encode_queries(self, texts: Sequence[str]) -> Vectors:
            batches.append(list(texts))
            return super().encode_queries(texts)

    reindex(archive, folder, Counting())
    asked = [Query("and why not?"), Query("Kafka\nand why not?")]
    IndexRetriever(folder, Counting(), archive).look_up(asked, [C1, C2, C1 | C2], 3, archive, spans(archive)[0])
    assert batches == [[query.text for query in asked]]
