"""Forgetting a person: what goes, that it stays gone whatever comes later, that nothing of it is shown meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import pytest
from filelock import FileLock
from sqlalchemy import select

from doppel import consent, engine
from doppel.access import OPERATOR, ConsentAction, has_consent
from doppel.adapters import AdapterStore
from doppel.archive import Archive, database, tables
from doppel.archive.forgetting import Forgotten
from doppel.archive.forgotten import FORGOTTEN_NAME
from doppel.artifacts import VersionedFolder
from doppel.config import load_settings
from doppel.engine import Engine
from doppel.errors import ConsentError
from doppel.inference import InferenceClient, Piece
from doppel.records import Finished, Message, Persona, TextDelta, Turn, User
from doppel.slack.events import Change, Deleted, PersonChanged, Said
from doppel.slack.export import open_export
from indexing.reindex import CACHE_FILE, is_clean, reindex
from indexing.retrieve import IndexRetriever
from indexing.search import search_rows
from tests.end_to_end import doppel
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.fakes.tokenizer import WordTokenizer
from tests.syncing import sync
from training.train import _check_once_more

ROOT, REPLY, SHARE = "1700000000.000100", "1700000060.000100", "1700000120.000100"
SECRET = "zebrafish"
"""Stands in everything that Ada wrote, and in Slack's copies of it."""


@pytest.fixture
def archive(where: Path | str) -> Iterator[Archive]:
    with Archive.open(where) as opened:
        yield opened


def team() -> ExportBuilder:
    """Ada's messages, and Grace's, two of which carry a copy of Ada's."""
    profile = {"real_name": "Ada Lovelace", "display_name": "Ada"}
    said = {"user": "U1", "ts": ROOT, "text": f"We dropped Kafka, the {SECRET} said.", "type": "message"}
    shared = {"author_id": "U1", "author_name": "Ada Lovelace", "ts": ROOT, "text": said["text"], "is_share": True}
    edited = {"user": "U1", "ts": "1700000200.000000"}
    return (
        ExportBuilder()
        .user("U1", "ada", "Ada Lovelace", "Ada")
        .user("U2", "grace", "Grace Hopper", "Grace")
        .channel("C1", "general", "U1", "U2")
        .say("general", ROOT, said["text"], thread_ts=ROOT, user_profile=profile)
        .say("general", REPLY, "It woke us, <@U1>.", "U2", thread_ts=ROOT, subtype="thread_broadcast", root=said)
        .say("general", SHARE, "Look at this.", "U2", attachments=[shared])
        .say("general", "1700000180.000100", f"The {SECRET} again.", edited=edited)
        .say("general", "1700000220.000100", f"<@U1> set the topic: {SECRET}", subtype="channel_topic")
        .say("general", "1700000260.000100", "Lunch?", "U2")
    )


def take_in(archive: Archive, builder: ExportBuilder) -> None:
    with TemporaryDirectory() as folder, open_export(builder.zip(Path(folder) / "export.zip")) as export:
        archive.import_export(export)


def user(archive: Archive, id_: str = "U1") -> User:
    return archive.find_user(id_)


def forget(archive: Archive, messages: bool = True) -> Forgotten:
    return archive.forget(user(archive), messages, "tests")


def everything(archive: Archive) -> str:
    """Every row of every table."""
    with database.reading(archive._engine, archive.place) as connection:
        return repr([connection.execute(select(table)).all() for table in tables.metadata.sorted_tables])


def texts(archive: Archive) -> list[str]:
    return [f"{m.author}: {m.text}" for m in archive.messages() if m.text]


REST = ["Grace: It woke us, @someone who was forgotten.", "Grace: Look at this.", "Grace: Lunch?"]


def test_what_somebody_wrote_is_gone_from_every_row(archive: Archive) -> None:
    take_in(archive, team())
    before = archive.counts()
    done = forget(archive)
    assert (done.messages, done.copies) == (3, 2)
    assert SECRET not in everything(archive)
    assert texts(archive) == REST
    assert archive.counts() == before
    known = user(archive)
    assert (known.handle, known.name, known.real_name) == ("", FORGOTTEN_NAME, "")
    assert "Lovelace" not in everything(archive)
    assert [record.action for record in archive.consent_records(known)] == [ConsentAction.FORGET]


def test_without_messages_what_was_said_and_the_name_stay(archive: Archive) -> None:
    take_in(archive, team())
    done = forget(archive, messages=False)
    assert (done.messages, user(archive).name) == (0, "Ada")
    assert sum(SECRET in text for text in texts(archive)) == 3
    assert archive.clean_revision() == 0


def test_an_import_of_the_same_and_of_a_later_export_brings_nothing_back(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive)
    revision = archive.revision()
    take_in(archive, team())
    assert archive.revision() == revision
    later = team().say("general", "1700000300.000100", f"A {SECRET} that was not there before.")
    edit = {"user": "U1", "ts": "1700009000.000000"}
    later.say("general", "1700000190.000100", f"Edited: {SECRET}", edited=edit)
    take_in(archive, later.say("general", "1700000320.000100", "Dinner, <@U1>?", "U2"))
    assert SECRET not in everything(archive)
    assert texts(archive) == [*REST, "Grace: Dinner, @someone who was forgotten?"]
    assert user(archive).name == FORGOTTEN_NAME


def test_an_export_without_a_team_brings_nothing_back(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive)
    nameless = ExportBuilder("").channel("C1", "general", "U1", "U2").say("general", ROOT, f"The {SECRET}")
    take_in(archive, nameless.without("users").say("general", "1700000190.000100", f"More {SECRET}"))
    other = ExportBuilder("").without("users").say("elsewhere", ROOT, f"The {SECRET}", "U1")
    take_in(archive, other)
    assert SECRET not in everything(archive)


def test_late_events_bring_nothing_back_and_a_new_message_counts(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive)
    events, now = archive.events("T1"), round(time.time() * 1e6)
    old = {"type": "message", "user": "U1", "ts": ROOT, "text": f"{SECRET}, edited", "edited": {"ts": "1800000000.0"}}
    lost = {"type": "message", "user": "U1", "ts": "1700000195.000100", "text": f"{SECRET}, late"}
    person = {"id": "U1", "team_id": "T1", "name": "ada", "profile": {"real_name": "Ada Lovelace"}}
    told: list[Change] = [Said("C1", old), Said("C1", lost), PersonChanged(person), Deleted("C1", ROOT)]
    events.take([(change, now) for change in told])
    assert SECRET not in everything(archive)
    assert texts(archive) == REST
    assert user(archive).name == FORGOTTEN_NAME
    profile = {"real_name": "Ada Lovelace", "display_name": "Ada"}
    new = {
        "type": "message",
        "user": "U1",
        "ts": f"{time.time() + 60:.6f}",
        "text": "I am back.",
        "user_profile": profile,
    }
    events.take([(Said("C1", new), now)])
    assert texts(archive) == [*REST, "someone who was forgotten: I am back."]
    assert "Lovelace" not in everything(archive)


def test_a_sync_before_and_after_brings_nothing_back_and_a_new_yes_is_a_new_start(archive: Archive) -> None:
    workspace = Workspace()
    ada, grace = workspace.user("ada", "Ada Lovelace", id="U1"), workspace.user("grace", "Grace Hopper", id="U2")
    workspace.channel("general", ada, grace, id="C1")
    root = workspace.post("general", ada, f"The {SECRET} is out.")
    workspace.post("general", grace, "Is it, <@U1>?", thread_ts=root)
    workspace.post("general", ada, f"Yes, the {SECRET}.", thread_ts=root)
    with FakeSlack(workspace, limits=Limits.none(time_scale=20)) as slack:
        sync(slack, archive)
        # Slack's clock here is the workspace's: what it says now must lie before the forgetting.
        assert forget(archive).messages == 2
        workspace.edit("general", root, f"The {SECRET} was out.")
        sync(slack, archive)
        assert SECRET not in everything(archive)
        assert texts(archive) == ["grace: Is it, @someone who was forgotten?"]
        consent.grant(archive, user(archive), "ada")
        sync(slack, archive)
    assert has_consent(archive.consent_records(user(archive)))
    assert user(archive).name == "ada"
    assert texts(archive) == ["grace: Is it, @ada?"]
    assert SECRET not in everything(archive)


def put_bot_rows(archive: Archive) -> None:
    """What the bot of the team keeps: Ada as persona, as asker, and somebody else."""
    store = archive.bot("T1")
    common: dict[str, Any] = {"channel": "C1", "version": "v0001", "reply": f"A {SECRET}", "sources": ()}
    store.add_answer(1, thread_ts=ROOT, asker="U2", user_id="U1", question="Why?", **common)
    store.add_answer(2, thread_ts=ROOT, asker="U1", user_id="U2", question=f"Which {SECRET}?", **common)
    store.add_answer(3, thread_ts=ROOT, asker="U2", user_id="U2", question="Who?", **{**common, "reply": "We."})
    store.accept([("E1", {"user": "U1", "text": SECRET}), ("E2", {"user": "U2", "text": "mine"})], at=1)
    store.set_voice("U1", "C1")
    archive.add_feedback("T1", "U1", version=None, question=SECRET, reply=SECRET)
    archive.add_feedback("T1", "U2", version=None, question="hm", reply="hm")


def test_answers_votes_and_questions_go_and_are_counted(archive: Archive) -> None:
    posted = {"subtype": "bot_message", "bot_id": "B1", "username": "Ada", "thread_ts": ROOT}
    take_in(archive, team().say("general", "1700000280.000100", f"As an AI: {SECRET}", None, **posted))
    put_bot_rows(archive)
    done = forget(archive)
    assert (done.answers, done.feedback, done.questions, done.voices, done.posts) == (2, 1, 1, 1, 1)
    store = archive.bot("T1")
    assert [answer.question for answer in store.answers("C1", ROOT)] == ["Who?"]
    assert [question.event_id for question in store.open_questions()] == ["E2"]
    assert store.accept([("E1", {"user": "U1"})], at=2) == set()
    assert [row.question for row in archive.feedback()] == ["hm"]
    assert store.voice("C1") is None
    assert SECRET not in everything(archive)


def test_what_was_in_flight_is_not_kept(archive: Archive) -> None:
    take_in(archive, team())
    asked_at = round(time.time() * 1e6)
    forget(archive, messages=False)
    store = archive.bot("T1")
    fields: dict[str, Any] = {
        "channel": "C1",
        "thread_ts": ROOT,
        "version": None,
        "question": "?",
        "reply": "!",
        "sources": (),
    }
    for asker, persona in (("U1", "U2"), ("U2", "U1")):
        store.add_answer(time.time_ns() // 1000, asked_at=asked_at, asker=asker, user_id=persona, **fields)
    with pytest.raises(ConsentError, match="was forgotten"):
        archive.add_feedback("T1", "U1", version=None, question="?", reply="!")
    assert store.answers("C1", ROOT) == []
    later = round((time.time() + 1) * 1e6)
    store.add_answer(later, asked_at=later, asker="U1", user_id="U2", **fields)
    assert len(store.answers("C1", ROOT)) == 1


def test_forgetting_twice_is_fine(archive: Archive) -> None:
    take_in(archive, team())
    forget(archive, messages=False)
    assert forget(archive).messages == 3
    assert forget(archive).messages == 0
    archive.scrub()
    assert SECRET not in everything(archive)


def test_a_copied_archive_remembers_who_was_forgotten(archive: Archive, tmp_path: Path) -> None:
    take_in(archive, team())
    forget(archive)
    with Archive.open(tmp_path / "copy.db") as copy:
        archive.copy_to(copy)
        take_in(copy, team())
        assert SECRET not in everything(copy)


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "data" / "adapters")


def publish(adapters: AdapterStore, person: User) -> str:
    folder = adapters.folder(person)
    with folder.writer() as writer:
        draft = writer.draft()
        (draft / "weights").write_text(SECRET)
        (folder.root / "work").mkdir(exist_ok=True)
        (folder.root / "work" / "checkpoint").write_text(SECRET)
        return writer.publish(draft, {"base_model": "m", "channels": []}).name


def holding(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_adapters_and_work_towards_them_go_and_a_new_yes_starts_anew(
    archive: Archive, adapters: AdapterStore, tmp_path: Path
) -> None:
    take_in(archive, team())
    person = user(archive)
    consent.grant(archive, person, "ada")
    versions = [publish(adapters, person), publish(adapters, person)]
    receipt = consent.forget(archive, adapters, person, messages=True, by="ada")
    assert (receipt.name, receipt.adapters, receipt.pending) == ("Ada", tuple(sorted(versions)), ())
    assert receipt.archive.record.by == "ada"
    assert holding(tmp_path / "data") == []
    assert adapters.published(person) is None
    consent.grant(archive, person, "ada")
    assert publish(adapters, person) not in versions


def test_a_training_that_holds_the_adapters_is_waited_for_or_told_of_and_swept_later(
    archive: Archive, adapters: AdapterStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consent, "PATIENCE_SECONDS", 0.5)
    take_in(archive, team())
    person = user(archive)
    publish(adapters, person)
    with FileLock(adapters.folder(person).root / "lock"):
        receipt = consent._retire(adapters, person, seconds=0.5)
        told = consent.forget(archive, adapters, person, messages=False, by="ada")
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
    return repr((retriever.retrieve(query, channels, 9), search_rows(retriever, archive, query, 9)))


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
    with Archive.open(tmp_path / "data" / "archive.db") as archive:
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
        consent.forget(archive, adapters, user(archive), messages=True, by="ada")
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


class Model:
    """A model that says three words and does something in between."""

    def __init__(self, meanwhile: Any) -> None:
        self.meanwhile, self.closed = meanwhile, False

    async def stream(self, *_: Any) -> AsyncGenerator[Piece, None]:
        try:
            for number, word in enumerate(("It ", "woke ", "us.")):
                yield Piece(word, number + 1)
                self.meanwhile(number)
        finally:
            self.closed = True


class NothingFound:
    def retrieve(self, *_: Any) -> list[Any]:
        return []


async def answer(archive: Archive, adapters: AdapterStore, model: Model, tmp_path: Path) -> list[Any]:
    """The events of an answer as Ada, up to its end or its error, which is the last."""
    settings = load_settings({"DOPPEL_DATA_DIR": str(tmp_path)})
    client = cast(InferenceClient, model)
    made = Engine(settings, archive, NothingFound(), adapters, WordTokenizer(), client)
    told: list[Any] = []
    replying = made.reply(Persona("T1", "U1", "Ada", "ada"), [Turn("Grace", "Why?")], OPERATOR)
    while not told or not isinstance(told[-1], Finished | ConsentError):
        try:
            told.append(await anext(replying))
        except ConsentError as error:
            told.append(error)
    return told


@pytest.mark.parametrize(("look_seconds", "words"), [(0.0, 1), (60.0, 3)])
async def test_an_answer_in_flight_stops(
    archive: Archive,
    adapters: AdapterStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    look_seconds: float,
    words: int,
) -> None:
    """At the next word if it is time to look, and at the end in any case: it never counts as finished."""
    monkeypatch.setattr(engine, "LOOK_SECONDS", look_seconds)
    take_in(archive, team())
    consent.grant(archive, user(archive), "ada")
    whole = await answer(archive, adapters, Model(lambda number: None), tmp_path)
    assert isinstance(whole[-1], Finished)
    model = Model(lambda number: number == 0 and forget(archive, messages=False))
    told = await answer(archive, adapters, model, tmp_path)
    assert isinstance(told[-1], ConsentError)
    # The last word may wait for what follows, as it could be the beginning of a secret.
    assert words - 1 <= sum(isinstance(event, TextDelta) for event in told) <= words
    assert model.closed


async def test_an_answer_in_flight_stops_also_if_its_person_agrees_again_at_once(
    archive: Archive, adapters: AdapterStore, tmp_path: Path
) -> None:
    take_in(archive, team())
    consent.grant(archive, user(archive), "ada")

    def back_and_forth(number: int) -> None:
        if number == 0:
            forget(archive, messages=False)
            consent.grant(archive, user(archive), "ada")

    told = await answer(archive, adapters, Model(back_and_forth), tmp_path)
    assert "meanwhile" in str(told[-1])
    assert isinstance((await answer(archive, adapters, Model(lambda number: None), tmp_path))[-1], Finished)


async def test_an_answer_that_may_quote_somebody_who_is_forgotten_stops(
    archive: Archive, adapters: AdapterStore, tmp_path: Path
) -> None:
    take_in(archive, team())
    consent.grant(archive, user(archive), "ada")
    grace = replace(user(archive, "U2"))
    model = Model(lambda number: number == 0 and archive.forget(grace, True, "grace"))
    told = await answer(archive, adapters, model, tmp_path)
    assert "ask again" in str(told[-1])


def test_messages_of_others_are_as_they_were(archive: Archive) -> None:
    take_in(archive, team())

    def of_grace() -> list[Message]:
        return [message for message in archive.messages() if message.user == "U2"]

    before = of_grace()
    forget(archive)
    assert [replace(m, text=m.text.replace(FORGOTTEN_NAME, "Ada")) for m in of_grace()] == before
