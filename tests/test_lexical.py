"""Search by words: what an embedding is blind to, within the channels that may be read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.access import ChannelKey
from doppel.artifacts import VersionedFolder
from doppel.errors import ArtifactError
from indexing.documents import Documents, Entry
from indexing.lexical import COMMON, match
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from indexing.vectors import DEPTH, DOCUMENTS_FILE
from tests.fakes.archive import FakeArchive
from tests.fakes.embedding import FakeEmbedder

OPEN, SECRET = ("T1", "C1"), ("T1", "C2")
JUNE = 1_749_700_000
"""12 June 2025."""


def written(*texts: str, channel: ChannelKey = OPEN, at: int = 1_700_000_000) -> list[Entry]:
    return [Entry(f"{channel}{at}{text}", channel, text, {"first_ts": f"{at}.000100"}) for text in texts]


def found(
    documents: Documents, query: str, channels: frozenset[ChannelKey] = frozenset({OPEN}), k: int = 9
) -> list[str]:
    rows = documents.matching(query, channels, k)
    entries = documents.entries(rows)
    return [entries[row].text for row in rows]


@pytest.fixture
def documents() -> Documents:
    made = Documents.new()
    made.add(written("Ines: error E-4711 on kestrel", "Jun: errors everywhere", "Bo: lunch?"))
    made.add(written("Bram: E-4711 costs us the contract", channel=SECRET))
    made.add(written("Ines: the disk is full", at=JUNE))
    return made


def test_the_rarer_word_decides(documents: Documents) -> None:
    assert found(documents, "What is the error E-4711?") == ["Ines: error E-4711 on kestrel", "Jun: errors everywhere"]
    assert found(documents, "What is the error E-4711?", k=1) == ["Ines: error E-4711 on kestrel"]


def test_what_may_not_be_read_is_not_found(documents: Documents) -> None:
    assert found(documents, "contract", frozenset({OPEN})) == found(documents, "contract", frozenset()) == []
    assert found(documents, "contract", frozenset({SECRET})) == ["Bram: E-4711 costs us the contract"]
    assert found(documents, "contract", frozenset({("T2", "C2"), OPEN})) == []


def test_a_day_is_found_by_its_date(documents: Documents) -> None:
    assert found(documents, "What happened on 12 June?") == ["Ines: the disk is full"]
    assert found(documents, "and on 13 June 2024?") == ["Ines: the disk is full"]
    assert found(documents, "in May?") == []


def test_what_is_deleted_is_found_no_more(documents: Documents) -> None:
    documents.delete([f"{OPEN}1700000000Bo: lunch?"])
    assert found(documents, "lunch") == []
    documents.delete(None)
    assert found(documents, "error") == []


def test_common_words_count_only_where_there_are_no_others() -> None:
    assert match("Who is on call?") == '"call"'
    assert match("What is it?") == '"what" OR "is" OR "it"'
    assert all(word == word.lower().strip() for word in COMMON)


@given(st.text())
def test_whatever_is_asked_is_no_expression(query: str) -> None:
    documents = Documents.new()
    documents.add(written("NEAR AND OR NOT * ^ \" ' : text day"))
    documents.matching(query, {OPEN}, 3)


@pytest.mark.parametrize(
    "query", ["", "?!", "_", '"', 'error" OR "x', "NEAR(error", "text : error", "error*", "-error", "^"]
)
def test_operators_of_the_search_are_nothing_but_marks(documents: Documents, query: str) -> None:
    expected = ["Ines: error E-4711 on kestrel", "Jun: errors everywhere"] if "error" in query else []
    assert sorted(found(documents, query)) == expected


@pytest.fixture
def folder(tmp_path: Path) -> VersionedFolder:
    return VersionedFolder(tmp_path / "index", "index", "run `doppel reindex --full`")


def test_a_name_that_the_vectors_miss_leads(folder: VersionedFolder) -> None:
    archive, embedder, leak = FakeArchive(), FakeEmbedder(dimensions=2), "Ada: the pump of depot Esbjerg leaks\nAda: oh"
    for i in range(3 * DEPTH):
        archive.said("yes", thread_ts=archive.said(f"all is quiet on host {i}").ts)
    archive.said("oh", thread_ts=archive.said("the pump of depot Esbjerg leaks").ts)
    reindex(archive, folder, embedder)
    retriever = IndexRetriever(folder, embedder, archive)
    everywhere = frozenset({OPEN})
    near = [hit.chunk.text for hit in retriever._store().nearest(embedder.encode_query("Esbjerg?"), everywhere, DEPTH)]
    assert leak not in near

    best = retriever.search("Esbjerg?", everywhere, 2)
    assert leak in [hit.chunk.text for hit in best]
    for hit in best:
        vectors = embedder.encode_documents([hit.chunk.text])
        assert hit.score == pytest.approx(float(vectors[0] @ embedder.encode_query("Esbjerg?")), abs=2e-3)


def test_an_index_without_words_asks_for_a_reindex(folder: VersionedFolder) -> None:
    archive, embedder = FakeArchive(), FakeEmbedder()
    archive.said("Why did we drop Kafka?")
    version = reindex(archive, folder, embedder).version
    with folder.writer() as writer:
        draft = writer.draft()
        with sqlite3.connect(draft / DOCUMENTS_FILE) as old:
            old.execute("CREATE TABLE documents (row INTEGER PRIMARY KEY)")
        writer.publish(draft, dict(folder.load(version).info) | {"format": 1})
    with pytest.raises(ArtifactError, match=r"another version of Doppel; run `doppel reindex`\."):
        IndexRetriever(folder, embedder, archive).search("Kafka", frozenset({OPEN}), 1)
    reindex(archive, folder, embedder)
    assert IndexRetriever(folder, embedder, archive).search("Kafka", frozenset({OPEN}), 1)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("駅前の本棚を直した", "本棚"),
        ("駅前の本棚を直した", "棚"),
        ("请把vpnx配置好", "VPNX"),
        ("명단이 여기에 있다", "명단을"),
        ("ขอรหัสผ่านใหม่", "รหัส"),
        ("ຂໍລະຫັດໃໝ່", "ລະຫັດ"),
        ("សូមពាក្យសម្ងាត់", "ពាក្យ"),
        ("စကားဝှက်အသစ်", "ဝှက်"),
        ("ｋｅｙ９ is new", "key9"),
        ("ｶｷﾞを返す", "カギ"),
    ],
)
def test_words_without_spaces_are_found(text: str, query: str) -> None:
    made = Documents.new()
    made.add(written("nothing of it", text))
    assert found(made, query) == [text]
    made.delete(None)
    assert found(made, query) == []
