from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from doppel.access import OPERATOR, ReadPolicy
from doppel.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.config import PACKAGED_EMBEDDING_MODEL
from doppel.errors import ArtifactError
from doppel.ingest import import_export, open_archive
from doppel.slack.export import open_export
from indexing.embed import SentenceEmbedder
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from indexing.vectors import INDEX_FILE
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
