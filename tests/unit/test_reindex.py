from __future__ import annotations

import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from doppel.artifacts import VersionedFolder
from doppel.errors import ArtifactError, BusyError, StorageError
from doppel.records import Hit
from indexing import FORMAT
from indexing.lexical import VERSION
from indexing.reindex import CACHE_FILE, ReindexReport, indexed_revision, is_due, reindex
from indexing.vectors import DOCUMENTS_FILE, INDEX_FILE, FaissVectorStore
from tests.fakes.archive import FakeArchive
from tests.fakes.embedding import FakeEmbedder

ALL = frozenset({("T1", "C1"), ("T1", "C2")})


@pytest.fixture
def folder(tmp_path: Path) -> VersionedFolder:
    return VersionedFolder(tmp_path / "index", "index", "run `doppel reindex --full`")


def threads(count: int, channel: str = "C1", archive: FakeArchive | None = None, first: int = 0) -> FakeArchive:
    """`count` threads of three messages that fill two chunks, numbered from `first`."""
    archive = archive or FakeArchive()
    for i in range(first, first + count):
        root = archive.said(f"Question {i}: " + "why " * 150, channel=channel)
        archive.said(f"Answer {i}: " + "because " * 70, "Bo", channel, root.ts)
        archive.said(f"Thanks {i}", "Ada", channel, root.ts)
    return archive


def counts(report: ReindexReport) -> tuple[int, int, int, int, int]:
    return report.conversations, report.chunks, report.embedded, report.reused, report.removed


def current(folder: VersionedFolder) -> FaissVectorStore:
    version = folder.current()
    assert version is not None
    return FaissVectorStore.published(folder, version, FakeEmbedder())


def everything(folder: VersionedFolder) -> list[Hit]:
    return current(folder).nearest(np.ones(48, dtype=np.float32), ALL, 10_000)


def index_bytes(folder: VersionedFolder) -> bytes:
    version = folder.current()
    assert version is not None
    return (version.path / INDEX_FILE).read_bytes()


def test_first_run_then_nothing_to_do(folder: VersionedFolder) -> None:
    archive, embedder = threads(5), FakeEmbedder()

    first = reindex(archive, folder, embedder)
    assert counts(first) == (5, 10, 10, 0, 0)
    second = reindex(archive, folder, embedder)
    assert counts(second) == (5, 10, 0, 10, 0)
    assert first.version == second.version == folder.current_name()
    assert len(embedder.embedded) == 10
    version = folder.current()
    assert version is not None
    assert dict(version.info) | {"content": ""} == {
        "format": FORMAT, "words": VERSION, "model": "fake@1", "conversations": 5, "chunks": 10, "dimensions": 48,
        "content": "", "revision": 15,
    }  # fmt: skip


def test_the_revision_of_the_archive_is_kept_also_where_a_change_changes_nothing(folder: VersionedFolder) -> None:
    archive = threads(2)
    assert indexed_revision(folder) is None
    first = reindex(archive, folder, FakeEmbedder())
    assert indexed_revision(folder) == archive.revision() == 6
    archive.said("")
    assert reindex(archive, folder, FakeEmbedder()).version == first.version
    assert indexed_revision(folder) == archive.revision() == 7
    archive.said("something new")
    assert reindex(archive, folder, FakeEmbedder()).version != first.version
    assert indexed_revision(folder) == 8


def test_only_what_is_new_is_embedded(folder: VersionedFolder) -> None:
    archive = threads(5)
    first = reindex(archive, folder, FakeEmbedder())
    embedder = FakeEmbedder()
    second = reindex(threads(2, "C2", archive, first=5), folder, embedder)

    assert counts(second) == (7, 14, 4, 10, 0)
    assert {text.split(":")[1] for text in embedder.embedded} == {
        " Question 5",
        " Question 6",
        " Answer 5",
        " Answer 6",
    }
    assert second.version != first.version
    assert len(everything(folder)) == 14


def test_a_growing_thread_changes_its_last_chunk_only(folder: VersionedFolder) -> None:
    archive = threads(3)
    reindex(archive, folder, FakeEmbedder())
    root = archive.stored[0]
    archive.said("One more thing", "Cy", thread_ts=root.ts)
    embedder = FakeEmbedder()
    report = reindex(archive, folder, embedder)

    assert counts(report) == (3, 6, 1, 5, 1)
    assert len(embedder.embedded) == 1
    assert embedder.embedded[0].endswith("Cy: One more thing")
    ends = {hit.chunk.conversation_last_ts for hit in everything(folder) if hit.chunk.thread_ts == root.ts}
    assert ends == {archive.stored[-1].ts}


def test_facts_about_a_chunk_are_published_without_embedding(folder: VersionedFolder) -> None:
    archive = FakeArchive()
    root = archive.said("x" * 950)
    archive.said("y" * 950, thread_ts=root.ts)
    first = reindex(archive, folder, FakeEmbedder())
    archive.stored[1] = replace(archive.stored[1], ts="1700009999.000100")
    second = reindex(archive, folder, FakeEmbedder())

    assert second.embedded == 0
    assert second.version != first.version
    assert {hit.chunk.conversation_last_ts for hit in everything(folder)} == {"1700009999.000100"}


@pytest.mark.parametrize("gone", ["deleted", "emptied"])
def test_what_was_deleted_is_gone_from_the_index(folder: VersionedFolder, gone: str) -> None:
    archive = threads(3)
    reindex(archive, folder, FakeEmbedder())
    if gone == "deleted":
        del archive.stored[3:6]
    else:
        archive.stored[3:6] = [replace(m, text="") for m in archive.stored[3:6]]
    report = reindex(archive, folder, FakeEmbedder())

    assert counts(report) == (2, 4, 0, 4, 2)
    assert not any("Question 1" in hit.chunk.text for hit in everything(folder))


def test_another_model_embeds_everything_again(folder: VersionedFolder) -> None:
    archive = threads(3)
    reindex(archive, folder, FakeEmbedder())
    report = reindex(archive, folder, FakeEmbedder("fake@2", dimensions=24))

    assert counts(report) == (3, 6, 6, 0, 0)
    assert current(folder).dimensions == 24


def test_full_embeds_everything_again(folder: VersionedFolder) -> None:
    archive = threads(3)
    first = reindex(archive, folder, FakeEmbedder())
    report = reindex(archive, folder, FakeEmbedder(), full=True)
    assert counts(report) == (3, 6, 6, 0, 0)
    assert report.version != first.version


def test_an_incremental_index_is_the_one_built_at_once(folder: VersionedFolder, tmp_path: Path) -> None:
    archive = threads(4)
    reindex(archive, folder, FakeEmbedder())
    del archive.stored[4]
    archive.said("A late word", thread_ts=archive.stored[0].ts)
    reindex(threads(2, "C2", archive), folder, FakeEmbedder())
    whole = VersionedFolder(tmp_path / "whole", "index", "")
    reindex(archive, whole, FakeEmbedder())

    assert index_bytes(folder) == index_bytes(whole)
    assert everything(folder) == everything(whole)


def test_equal_texts_are_embedded_once(folder: VersionedFolder) -> None:
    archive = FakeArchive()
    for channel in ("C1", "C2"):
        archive.said("+1", channel=channel)
    embedder = FakeEmbedder()
    assert counts(reindex(archive, folder, embedder)) == (2, 2, 2, 0, 0)
    assert embedder.embedded == ["Ada: +1"]
    assert {hit.chunk.channel for hit in everything(folder)} == {"C1", "C2"}


def test_an_empty_archive_gives_an_empty_index(folder: VersionedFolder) -> None:
    assert counts(reindex(FakeArchive(), folder, FakeEmbedder())) == (0, 0, 0, 0, 0)
    assert everything(folder) == []
    assert counts(reindex(threads(2), folder, FakeEmbedder())) == (2, 4, 4, 0, 0)


def test_progress_and_pruning(folder: VersionedFolder) -> None:
    archive = threads(2)
    told: list[tuple[int, int]] = []
    for i in range(4):
        reindex(archive, folder, FakeEmbedder(), keep=2, progress=lambda done, total: told.append((done, total)))
        archive.said(f"Something new {i}", channel="C2")
    assert told[:2] == [(0, 4), (4, 4)]
    assert len(folder.names()) == 2
    assert folder.current_name() == folder.names()[-1]


# Cut off


def test_an_interrupted_run_goes_on_where_it_was(folder: VersionedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.reindex.BATCH", 4)
    archive = threads(10)
    interrupted = FakeEmbedder(fail_after=11)
    with pytest.raises(KeyboardInterrupt):
        reindex(archive, folder, interrupted)
    assert folder.current_name() is None
    assert (folder.root / CACHE_FILE).is_file()

    embedder = FakeEmbedder()
    report = reindex(archive, folder, embedder)
    assert counts(report) == (10, 20, 12, 8, 0)
    assert sorted(interrupted.embedded[:8] + embedder.embedded) == sorted(h.chunk.text for h in everything(folder))
    assert not (folder.root / CACHE_FILE).exists()


KILLED = """
    import os, sys
    from pathlib import Path
    from doppel.artifacts import VersionedFolder
    from indexing import reindex
    from tests.fakes.embedding import FakeEmbedder
    from tests.unit.test_reindex import threads

    reindex.BATCH = 4
    def progress(done, total):
        if done >= 8:
            os.kill(os.getpid(), 9)
    folder = VersionedFolder(Path(sys.argv[1]), "index", "")
    reindex.reindex(threads(10), folder, FakeEmbedder(), progress=progress)
"""


def test_a_killed_run_ends_with_the_same_index(folder: VersionedFolder, tmp_path: Path) -> None:
    run = [sys.executable, "-c", textwrap.dedent(KILLED), str(folder.root)]
    assert subprocess.run(run, cwd=Path(__file__).parents[2], check=False).returncode == -9

    report = reindex(threads(10), folder, FakeEmbedder())
    assert report.reused >= 4
    assert report.embedded + report.reused == 20
    whole = VersionedFolder(tmp_path / "whole", "index", "")
    reindex(threads(10), whole, FakeEmbedder())
    assert index_bytes(folder) == index_bytes(whole)
    assert not list(folder.root.glob("drafts/*"))


def test_what_another_model_left_behind_is_not_used(folder: VersionedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("indexing.reindex.BATCH", 4)
    with pytest.raises(KeyboardInterrupt):
        reindex(threads(5), folder, FakeEmbedder("old@1", fail_after=8))
    assert counts(reindex(threads(5), folder, FakeEmbedder())) == (5, 10, 10, 0, 0)


@pytest.mark.parametrize("content", [b"nonsense " * 1000, b"", b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_broken_cache_is_thrown_away(folder: VersionedFolder, content: bytes) -> None:
    folder.root.mkdir()
    (folder.root / CACHE_FILE).write_bytes(content)
    assert counts(reindex(threads(2), folder, FakeEmbedder())) == (2, 4, 4, 0, 0)


def test_one_at_a_time(folder: VersionedFolder) -> None:
    with folder.writer(), pytest.raises(BusyError, match="index"):
        reindex(threads(1), folder, FakeEmbedder())


# Damage


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def garble(path: Path) -> None:
    path.write_bytes(bytes(b ^ 0x55 for b in path.read_bytes()))


@pytest.mark.parametrize("file", [INDEX_FILE, DOCUMENTS_FILE, "manifest.json"])
@pytest.mark.parametrize("harm", [cut, garble, Path.unlink])
def test_a_damaged_index_says_so_and_full_heals_it(
    folder: VersionedFolder, file: str, harm: Callable[[Path], None]
) -> None:
    archive = threads(3)
    damaged = reindex(archive, folder, FakeEmbedder()).version
    harm(folder.root / "versions" / damaged / file)

    with pytest.raises(ArtifactError, match="run `doppel reindex --full`"):
        reindex(archive, folder, FakeEmbedder())
    assert folder.current_name() == damaged
    report = reindex(archive, folder, FakeEmbedder(), full=True)
    assert counts(report) == (3, 6, 6, 0, 0)
    assert len(everything(folder)) == 6


def test_an_index_of_another_format_is_built_anew(folder: VersionedFolder) -> None:
    with folder.writer() as writer:
        draft = writer.draft()
        (draft / "old.bin").write_bytes(b"old")
        writer.publish(draft, {"format": 0, "revision": 3})
    assert is_due(folder, 3)
    assert counts(reindex(threads(1), folder, FakeEmbedder())) == (1, 2, 2, 0, 0)
    assert not is_due(folder, 3)
    assert is_due(folder, 4)


FULL_DISK = """
    import resource, sys
    from pathlib import Path
    from doppel.artifacts import VersionedFolder
    from doppel.errors import StorageError
    from indexing.reindex import reindex
    from tests.fakes.embedding import FakeEmbedder
    from tests.unit.test_reindex import threads

    folder = VersionedFolder(Path(sys.argv[1]), "index", "")
    before = reindex(threads(1), folder, FakeEmbedder(dimensions=int(sys.argv[3]))).version
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
    try:
        reindex(threads(400), folder, FakeEmbedder(dimensions=int(sys.argv[3])))
    except StorageError as error:
        print(error, folder.current_name() == before)
"""


@pytest.mark.parametrize(("limit", "dimensions"), [(100_000, 8), (1_200_000, 1000)])
def test_a_full_disk_is_one_sentence_and_leaves_the_index_as_it_was(
    folder: VersionedFolder, limit: int, dimensions: int
) -> None:
    run = [sys.executable, "-c", textwrap.dedent(FULL_DISK), str(folder.root), str(limit), str(dimensions)]
    done = subprocess.run(run, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=True)
    assert "free some space" in done.stdout, done.stdout
    assert done.stdout.endswith(" True\n")


def test_errors_of_sqlite_are_sentences(folder: VersionedFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("indexing.cache.VectorCache.put", full)
    with pytest.raises(StorageError, match="disk is full"):
        reindex(threads(1), folder, FakeEmbedder())
