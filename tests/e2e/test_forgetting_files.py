"""Forgetting a person outside the archive: adapters, the index, the whole data folder, and the command."""

from __future__ import annotations

import json
from pathlib import Path
from typing import cast

import pytest
from filelock import FileLock

from doppel.access import OPERATOR
from doppel.adapters import AdapterStore
from doppel.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.errors import ConsentError
from doppel.ingest import open_archive
from doppel.services import consent, forgetting
from indexing.reindex import CACHE_FILE, is_clean, reindex
from indexing.retrieve import IndexRetriever
from indexing.search import search_rows
from tests.end_to_end import doppel
from tests.fakes.embedding import FakeEmbedder
from tests.forgetting import SECRET, forget, holding, publish, put_bot_rows, team, user
from tests.taking_in import take_in
from training.train import _check_once_more


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "data" / "adapters")


def test_adapters_and_work_towards_them_go_and_a_new_yes_starts_anew(
    archive: Archive, adapters: AdapterStore, tmp_path: Path
) -> None:
    take_in(archive, team())
    person = user(archive)
    consent.grant(archive, person, "ada")
    versions = [publish(adapters, person), publish(adapters, person)]
    receipt = forgetting.forget_stored(archive, adapters, person, messages=True, by="ada")
    assert (receipt.name, receipt.adapters, receipt.pending) == ("Ada", tuple(sorted(versions)), ())
    assert receipt.archive.record.by == "ada"
    assert holding(tmp_path / "data") == []
    assert adapters.published(person) is None
    consent.grant(archive, person, "ada")
    assert publish(adapters, person) not in versions


def test_a_training_that_holds_the_adapters_is_waited_for_or_told_of_and_swept_later(
    archive: Archive, adapters: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forgetting, "PATIENCE_SECONDS", 0.5)
    take_in(archive, team())
    person = user(archive)
    publish(adapters, person)
    with FileLock(adapters.folder(person).root / "lock"):
        receipt = consent.retire(adapters, person, seconds=0.5)
        told = forgetting.forget_stored(archive, adapters, person, messages=False, by="ada")
    assert (receipt, told.adapters) == (False, ())
    consent.sweep(archive, adapters)
    assert holding(adapters.root) == []


def test_a_training_that_ends_as_its_person_is_forgotten_leaves_nothing(
    archive: Archive, adapters: AdapterStore
) -> None:
    take_in(archive, team())
    person = user(archive)
    publish(adapters, person)

    def refused() -> None:
        raise ConsentError("no")

    with pytest.raises(ConsentError):
        _check_once_more(refused, adapters, person)
    assert adapters.folder(person).names() == []


@pytest.fixture
def index(tmp_path: Path) -> VersionedFolder:
    return VersionedFolder(tmp_path / "data" / "index", "index", "")


def shown(archive: Archive, retriever: IndexRetriever, query: str) -> str:
    """Everything that retrieval and search tell."""
    channels = OPERATOR.readable(archive.channels())
    return repr((retriever.retrieve(query, channels, 9), search_rows(retriever, archive.snapshot(), query, 9)))


def test_nothing_is_shown_before_the_index_is_made_anew(archive: Archive, index: VersionedFolder) -> None:
    take_in(archive, team())
    reindex(archive, index, FakeEmbedder())
    retriever = IndexRetriever(index, FakeEmbedder(), archive)
    question = f"Kafka {SECRET} woke us lunch"
    assert SECRET in shown(archive, retriever, question)
    done = forget(archive)
    told = shown(archive, retriever, question)
    assert SECRET not in told
    assert "Ada" not in told
    assert "Lunch?" in told
    assert not is_clean(index, done.revision)


def test_a_reindex_leaves_no_version_that_holds_what_was_forgotten(archive: Archive, index: VersionedFolder) -> None:
    take_in(archive, team())
    first = reindex(archive, index, FakeEmbedder()).version
    take_in(archive, team().say("general", "1700000400.000100", "Soup.", "U2"))
    second = reindex(archive, index, FakeEmbedder()).version
    assert index.names() == [first, second]
    (index.root / CACHE_FILE).write_bytes(b"")
    done = forget(archive)
    third = reindex(archive, index, FakeEmbedder()).version
    assert index.names() == [third]
    assert is_clean(index, done.revision)
    assert holding(index.root) == []


def test_an_index_that_was_made_anew_by_somebody_else_loses_its_older_versions_too(
    archive: Archive, index: VersionedFolder
) -> None:
    take_in(archive, team())
    reindex(archive, index, FakeEmbedder())
    done = forget(archive)
    unaware = cast(Archive, _Unaware(archive))
    version = reindex(unaware, index, FakeEmbedder()).version
    assert len(index.names()) == 2
    assert reindex(archive, index, FakeEmbedder()).version == version
    assert index.names() == [version]
    assert is_clean(index, done.revision)


class _Unaware:
    """An archive in which nobody was forgotten."""

    def __init__(self, archive: Archive) -> None:
        self.messages, self.revision = archive.messages, archive.revision

    def clean_revision(self) -> int:
        return 0


def test_no_byte_of_it_is_left_in_the_data_folder(
    tmp_path: Path, index: VersionedFolder, adapters: AdapterStore
) -> None:
    with open_archive(tmp_path / "data" / "archive.db") as archive:
        big = team()
        for number in range(300):
            big.say(
                "general",
                f"{1700001000 + number}.000100",
                f"{SECRET if number % 3 else 'other'} {number} " * 60,
                f"U{2 - bool(number % 3)}",
            )
        take_in(archive, big)
        put_bot_rows(archive)
        reindex(archive, index, FakeEmbedder())
        publish(adapters, user(archive))
        assert len({path.parent.name for path in holding(tmp_path)}) >= 3
        forgetting.forget_stored(archive, adapters, user(archive), messages=True, by="ada")
        reindex(archive, index, FakeEmbedder())
        assert holding(tmp_path) == []
    assert holding(tmp_path) == []


def test_the_command_prints_a_receipt_and_leaves_no_byte(tmp_path: Path) -> None:
    team().zip(tmp_path / "export.zip")
    data = tmp_path / "data"
    for words in (["import", str(tmp_path / "export.zip")], ["reindex"], ["consent", "grant", "ada"]):
        assert doppel(data, *words).status == 0
    before = len(holding(data))
    receipt = doppel(data, "forget", "ada", "--messages", "--by", "grace").data
    assert (receipt["who"], receipt["user_id"], receipt["by"]) == ("Ada", "U1", "grace")
    assert receipt["pending"] == []
    removed = receipt["removed"]
    assert (removed["messages"], removed["copies"], removed["adapters"]) == (3, 2, [])
    assert removed["chunks"] >= 1
    assert len(removed["index_versions"]) == 1
    assert holding(data) == []
    assert before >= 1
    again = doppel(data, "import", str(tmp_path / "export.zip")).data
    assert (again["added"], again["updated"]) == (0, 0)
    assert holding(data) == []
    assert doppel(data, "search", SECRET).data["results"] != []
    assert SECRET not in json.dumps(doppel(data, "search", "lunch kafka").data)
    assert "has not agreed" in doppel(data, "train", "--user", "U1").data["error"]
