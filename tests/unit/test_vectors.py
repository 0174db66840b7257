from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from langchain_core.documents import Document
from numpy.typing import NDArray

from doppel.access import ChannelKey
from doppel.artifacts import Version, VersionedFolder
from doppel.errors import ArtifactError, DoppelError, NotReadableError, StorageError
from doppel.records import Chunk
from indexing.documents import Documents, Entry
from indexing.embed import Vectors, unit
from indexing.vectors import DOCUMENTS_FILE, INDEX_FILE, NO_CHANNEL, FaissVectorStore, write_index
from tests.fakes.embedding import FakeEmbedder

DIMENSIONS = 48
OPEN, SECRET = ("T1", "C1"), ("T1", "C2")


def some_chunk(number: int, channel: ChannelKey = OPEN) -> Chunk:
    ts = f"{1_700_000_000 + number}.000100"
    return Chunk(f"id{number}", *channel, None, ts, ts, ts, ts, ("Ada", "Bo"), f"text {number}")


def random_vectors(n: int, seed: int = 0, dimensions: int = DIMENSIONS) -> Vectors:
    return unit(np.random.default_rng(seed).standard_normal((n, dimensions), dtype=np.float32))


def publish(root: Path, chunks: Iterable[Chunk], vectors: Vectors) -> tuple[VersionedFolder, Version]:
    folder = VersionedFolder(root, "index", "run `doppel reindex --full`")
    with folder.writer() as writer:
        draft = writer.draft()
        documents = Documents.new(draft / DOCUMENTS_FILE)
        rows = documents.add([Entry.of(c) for c in chunks])
        documents.close()
        write_index(draft / INDEX_FILE, vectors.shape[1], [(rows, vectors)])
        return folder, writer.publish(draft, {})


def opened(root: Path, channels: list[ChannelKey], vectors: Vectors) -> FaissVectorStore:
    folder, version = publish(root, [some_chunk(i, c) for i, c in enumerate(channels)], vectors)
    return FaissVectorStore.published(folder, version, FakeEmbedder())


def brute_force(vectors: Vectors, query: Vectors, allowed: NDArray[np.bool_], k: int) -> list[int]:
    cosines = np.where(allowed, vectors @ query, -np.inf)
    return [int(i) for i in np.argsort(-cosines, kind="stable")[: min(k, int(allowed.sum()))]]


def numbers(store: FaissVectorStore, query: Vectors, channels: Iterable[ChannelKey], k: int) -> list[int]:
    return [int(hit.chunk.id[2:]) for hit in store.nearest(query, frozenset(channels), k)]


def test_order_and_scores_are_those_of_brute_force(tmp_path: Path) -> None:
    vectors = random_vectors(2000)
    store = opened(tmp_path, [OPEN] * 2000, vectors)
    stored = vectors.astype(np.float16).astype(np.float32)
    for query in random_vectors(20, seed=1):
        hits = store.nearest(query * 7, frozenset({OPEN}), 25)
        assert [int(h.chunk.id[2:]) for h in hits] == brute_force(stored, query, np.ones(2000, dtype=bool), 25)
        for hit in hits:
            assert hit.score == pytest.approx(float(vectors[int(hit.chunk.id[2:])] @ query), abs=1e-3)


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3])
def test_a_narrow_selector_costs_no_recall(tmp_path: Path, share: float) -> None:
    n = 20_000
    allowed = np.random.default_rng(2).random(n) < share
    vectors = random_vectors(n)
    store = opened(tmp_path, [OPEN if a else SECRET for a in allowed], vectors)
    found = wanted = 0
    for query in random_vectors(20, seed=3):
        gold = brute_force(vectors, query, allowed, 10)
        got = numbers(store, query, {OPEN}, 10)
        assert allowed[got].all()
        found, wanted = found + len(set(got) & set(gold)), wanted + len(gold)
    assert found / wanted >= 0.99


def test_what_may_not_be_read_never_appears_even_as_the_best_match(tmp_path: Path) -> None:
    vectors = random_vectors(300)
    store = opened(tmp_path, [SECRET if i % 3 else OPEN for i in range(300)], vectors)
    for i in (1, 2, 4):
        assert numbers(store, vectors[i], {SECRET}, 1) == [i]
        assert all(j % 3 == 0 for j in numbers(store, vectors[i], {OPEN}, 300))
        assert len(numbers(store, vectors[i], {OPEN}, 300)) == 100


def test_the_same_channel_id_in_another_team_is_another_channel(tmp_path: Path) -> None:
    vectors = random_vectors(2)
    store = opened(tmp_path, [("T1", "C1"), ("T2", "C1")], vectors)
    assert numbers(store, vectors[0], {("T2", "C1")}, 5) == [1]


def test_no_channels_or_unknown_ones_give_nothing(tmp_path: Path) -> None:
    vectors = random_vectors(3)
    store = opened(tmp_path, [OPEN] * 3, vectors)
    assert store.nearest(vectors[0], frozenset(), 5) == []
    assert store.nearest(vectors[0], frozenset({SECRET, NO_CHANNEL}), 5) == []
    assert store.nearest(vectors[0], frozenset({OPEN}), 0) == []
    assert len(store.nearest(vectors[0], frozenset({OPEN, SECRET}), 99)) == 3


def test_equals_come_in_the_order_of_the_index(tmp_path: Path) -> None:
    vectors = np.repeat(random_vectors(1), 500, axis=0)
    store = opened(tmp_path, [SECRET] * 7 + [OPEN] * 493, vectors)
    for k in (1, 5, 40):
        assert numbers(store, vectors[0], {OPEN}, k) == list(range(7, 7 + k))
    assert store.nearest(vectors[0], frozenset({OPEN}), 1)[0].score == pytest.approx(1, abs=1e-4)


def test_a_hit_is_the_chunk_that_went_in(tmp_path: Path) -> None:
    store = opened(tmp_path, [OPEN], random_vectors(1))
    assert store.nearest(random_vectors(1)[0], frozenset({OPEN}), 1)[0].chunk == some_chunk(0)


def test_an_empty_index_finds_nothing(tmp_path: Path) -> None:
    store = opened(tmp_path, [], np.zeros((0, DIMENSIONS), dtype=np.float32))
    assert store.nearest(random_vectors(1)[0], frozenset({OPEN}), 5) == []


def test_a_published_index_is_never_changed(tmp_path: Path) -> None:
    store = opened(tmp_path, [OPEN], random_vectors(1))
    with pytest.raises(ArtifactError, match="doppel reindex"):
        store.add_texts(["more"])
    with pytest.raises(ArtifactError, match="doppel reindex"):
        store.delete(["id0"])


@pytest.mark.parametrize("count", [1, 10_000])
def test_a_disk_that_is_full_is_never_taken_for_a_written_index(count: int) -> None:
    vectors = random_vectors(count)
    with pytest.raises(StorageError, match="No space left"):
        write_index(Path("/dev/full"), DIMENSIONS, [(list(range(count)), vectors)])


# LangChain's side


def slack_documents() -> list[Document]:
    return [
        Document("the budget is secret", metadata={"team": "T1", "channel": "C2"}, id="secret"),
        Document("the budget is public", metadata={"team": "T1", "channel": "C1"}, id="public"),
        Document("lunch is at noon", metadata={"team": "T1", "channel": "C1"}, id="lunch"),
    ]


def test_without_channels_nothing_is_read_through_langchain() -> None:
    store = FaissVectorStore(FakeEmbedder())
    store.add_documents(slack_documents())
    readings: list[Callable[[], object]] = [
        lambda: store.similarity_search("the budget is secret"),
        lambda: store.max_marginal_relevance_search("the budget is secret"),
        lambda: store.similarity_search_by_vector([1.0] * DIMENSIONS),
        lambda: store.get_by_ids(["secret"]),
        lambda: store.as_retriever().invoke("the budget is secret"),
    ]
    for read in readings:
        with pytest.raises(NotReadableError, match="channels"):
            read()


@pytest.mark.parametrize("search_type", ["similarity", "mmr", "similarity_score_threshold"])
def test_a_retriever_reads_the_channels_of_its_store_or_of_the_call(search_type: str) -> None:
    store = FaissVectorStore(FakeEmbedder(), channels=frozenset({OPEN}))
    store.add_documents(slack_documents())
    more = {"score_threshold": 0.0} if search_type.endswith("threshold") else {}

    for channels, ids in [({}, {"public", "lunch"}), ({"channels": frozenset({SECRET})}, {"secret"})]:
        retriever = store.as_retriever(search_type=search_type, search_kwargs={"k": 9, **more, **channels})
        assert {d.id for d in retriever.invoke("budget secret public lunch")} == ids
    assert [d.id for d in store.get_by_ids(["lunch", "secret", "public", "none"])] == ["lunch", "public"]


def test_plain_documents_are_not_read_with_a_channel() -> None:
    store = FaissVectorStore(FakeEmbedder(), channels=frozenset({OPEN}))
    store.add_texts(["from nowhere"], [{"channel": "C1"}])
    assert store.similarity_search("from nowhere") == []
    assert len(store.similarity_search("from nowhere", channels=frozenset({NO_CHANNEL}))) == 1


def test_an_argument_that_would_narrow_a_search_is_not_dropped() -> None:
    store = FaissVectorStore.from_texts(["a"], FakeEmbedder(), channels=frozenset({NO_CHANNEL}))
    with pytest.raises(TypeError, match="filter"):
        store.similarity_search("a", filter={"channel": "C1"})


def test_changes_keep_order_and_channels_right() -> None:
    store = FaissVectorStore(FakeEmbedder(), channels=frozenset({NO_CHANNEL}))
    store.add_texts([f"word{i}" for i in range(50)], ids=[str(i) for i in range(50)])
    store.delete([str(i) for i in range(0, 50, 2)])
    store.add_texts(["moved", "again", "again"], [{"team": "T1", "channel": "C1"}, {}, {}], ids=["3", "4", "4"])

    assert len(store.similarity_search("word", k=100)) == 25
    for i in (1, 25, 49):
        assert store.similarity_search(f"word{i}", k=1)[0].id == str(i)
    assert [d.id for d in store.similarity_search("moved", channels=frozenset({OPEN}))] == ["3"]
    store.delete()
    assert store.similarity_search("word", k=100) == []


def test_mmr_prefers_what_is_unlike() -> None:
    texts = ["cat sat mat", "cat sat mat too", "dog sat log"]
    store = FaissVectorStore.from_texts(texts, FakeEmbedder(), channels=frozenset({NO_CHANNEL}))
    plain = [d.page_content for d in store.similarity_search("cat sat mat", k=2)]
    diverse = [d.page_content for d in store.max_marginal_relevance_search("cat sat mat", k=2, lambda_mult=0.1)]
    assert plain == texts[:2]
    assert diverse == [texts[0], texts[2]]


# Damage


@pytest.mark.parametrize("file", [INDEX_FILE, DOCUMENTS_FILE])
@pytest.mark.parametrize("harm", ["garbage", "half", "gone", "flipped", "empty"])
def test_a_damaged_version_is_one_sentence(tmp_path: Path, file: str, harm: str) -> None:
    folder, version = publish(tmp_path, [some_chunk(i) for i in range(200)], random_vectors(200))
    path = version.path / file
    whole = path.read_bytes()
    if harm == "gone":
        path.unlink()
    else:
        middle = len(whole) // 2
        flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
        path.write_bytes(
            {"garbage": b"\x7f" * len(whole), "half": whole[:middle], "flipped": flipped, "empty": b""}[harm]
        )

    with pytest.raises(DoppelError, match=r"damaged .*; run `doppel reindex --full`\.") as caught:
        FaissVectorStore.published(folder, folder.load(version.name), FakeEmbedder())
    assert isinstance(caught.value, ArtifactError)


@pytest.mark.parametrize("file", [INDEX_FILE, DOCUMENTS_FILE])
def test_files_that_were_published_wrong_are_one_sentence_too(tmp_path: Path, file: str) -> None:
    folder, version = publish(tmp_path, [some_chunk(i) for i in range(200)], random_vectors(200))
    with folder.writer() as writer:
        draft = writer.draft()
        for name in (INDEX_FILE, DOCUMENTS_FILE):
            content = (version.path / name).read_bytes()
            (draft / name).write_bytes(b"nonsense" * 999 if name == file else content)
        wrong = writer.publish(draft, {})
    with pytest.raises(ArtifactError, match="damaged"):
        FaissVectorStore.published(folder, wrong, FakeEmbedder())


def test_an_index_of_fewer_vectors_than_documents_is_damaged(tmp_path: Path) -> None:
    folder, version = publish(tmp_path, [some_chunk(0), some_chunk(1)], random_vectors(2))
    manifest = json.loads((version.path / "manifest.json").read_text())
    with folder.writer() as writer:
        draft = writer.draft()
        (draft / DOCUMENTS_FILE).write_bytes((version.path / DOCUMENTS_FILE).read_bytes())
        write_index(draft / INDEX_FILE, DIMENSIONS, [([0], random_vectors(1))])
        short = writer.publish(draft, manifest["info"])
    with pytest.raises(ArtifactError, match="damaged"):
        FaissVectorStore.published(folder, short, FakeEmbedder())
