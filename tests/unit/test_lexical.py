"""Search by words: what an embedding is blind to, within the channels that may be read."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from doppel.access import ChannelKey
from doppel.artifacts import VersionedFolder
from doppel.engine.words import COMMON
from doppel.errors import ArtifactError
from indexing.documents import Documents, Entry
from indexing.lexical import VERSION, match, words_of
from indexing.reindex import is_due, reindex
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
        ("Kei: 駅前の蕎麦屋で会いましょう", "蕎麦屋はどこですか"),
        ("Kei: 証明書の更新を忘れずに", "証明書"),
        ("Kei: サーバーが落ちた", "サーバー"),
        ("Kei: ｻｰﾊﾞｰが落ちた", "サーバー"),
        ("Kei: サーバーが落ちた", "ｻｰﾊﾞｰ"),
        ("Kei: お茶がない", "茶"),
        ("Kei: 茶", "茶"),
        ("Kei: 明天去itgc开会", "itgc"),
        ("Kei: 明天去ＩＴＧＣ开会", "itgc"),
        ("Kei: 端口8443被占用", "8443"),
        ("Kei: 我们决定不再使用卡夫卡", "为什么不用卡夫卡"),
        ("Kei: 𠮷野家に行く", "𠮷野家"),
        ("Kei: 서버가 내려갔어요", "서버"),
        ("Kei: 서버가 내려갔어요".encode().decode(), "\u1109\u1165\u1107\u1165"),
        ("Kei: เซิร์ฟเวอร์ล่มเมื่อคืนนี้", "เซิร์ฟเวอร์"),
        ("Kei: ເຊີບເວີລົ້ມເຫຼວ", "ເຊີບເວີ"),
        ("Kei: ម៉ាស៊ីនមេដាច់ហើយ", "ម៉ាស៊ីនមេ"),
        ("Kei: ဆာဗာပျက်နေသည်", "ဆာဗာ"),
        ("Kei: सर्वर हिन्दी में है", "हिन्दी"),
        ("Kei: Привет, сервер упал", "сервер"),
        ("Kei: der Größe wegen", "grosse größe"),
        ("Kei: cafe\u0301 au lait", "caf\u00e9"),
        ("Kei: the ﬁle is gone", "file"),
    ],
)
def test_words_of_any_script_are_found_by_themselves(text: str, query: str) -> None:
    documents = Documents.new()
    documents.add(written("Kei: something else", "Kei: 他の話題", "Kei: 다른 이야기", "Kei: เรื่องอื่น", text))
    assert found(documents, query)[:1] == [text]
    documents.delete(None)
    assert found(documents, query) == []


def test_a_syllable_that_marks_tell_apart_is_still_one_word() -> None:
    assert match("हिन्दी") == '"हनद"'
    assert match("サーバー") == '"サー" OR "ーバ" OR "バー"'
    assert match("itgc证明") == '"itgc" OR "证明"'
    assert match("・。、") == ""


@pytest.mark.parametrize(
    ("text", "words"),
    [("plain", None), ("Größe – “naïve”", None), ("ｋｅｙ", "key"), ("vpn設定", "vpn 設定 設 定 ")],
)
def test_a_text_is_kept_twice_only_where_its_words_are_others(text: str, words: str | None) -> None:
    assert words_of(text) == words


def test_an_index_of_before_answers_and_is_due_for_another(tmp_path: Path) -> None:
    archive, folder = FakeArchive(), VersionedFolder(tmp_path / "index", "index", "run `doppel reindex`")
    archive.said("error E-4711")
    first = reindex(archive, folder, FakeEmbedder())
    assert not is_due(folder, archive.revision())
    manifest = folder.path("versions", first.version) / "manifest.json"
    manifest.write_text(manifest.read_text().replace(f'"words": {VERSION}', '"words": 1'))
    assert IndexRetriever(folder, FakeEmbedder(), archive).search("E-4711", frozenset({OPEN}), 1)
    assert is_due(folder, archive.revision())
    second = reindex(archive, folder, FakeEmbedder())
    assert (second.embedded, second.reused) == (0, first.chunks)
    assert second.version != first.version
