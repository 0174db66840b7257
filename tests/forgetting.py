"""A person who is to be forgotten: what Ada wrote, what others copied of it, and where it may still stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import select

from doppel.adapters import AdapterStore
from doppel.archive import Archive, database, tables
from doppel.archive.forgetting import Forgotten
from doppel.ingest import forget_person
from doppel.records import User
from tests.fakes.export_builder import ExportBuilder

ROOT, REPLY, SHARE = "1700000000.000100", "1700000060.000100", "1700000120.000100"
SECRET = "zebrafish"
"""Stands in everything that Ada wrote, and in Slack's copies of it."""


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


def user(archive: Archive, id_: str = "U1") -> User:
    return archive.find_user(id_)


def forget(archive: Archive, messages: bool = True) -> Forgotten:
    """Forget Ada."""
    return forget_person(archive, user(archive), messages, "tests")


def everything(archive: Archive) -> str:
    """Every row of every table."""
    with database.reading(archive._engine, archive.backend) as connection:
        return repr([connection.execute(select(table)).all() for table in tables.metadata.sorted_tables])


def put_bot_rows(archive: Archive) -> None:
    """What the bot of the team keeps: Ada as persona, as asker, and somebody else."""
    store = archive.bot("T1")
    common: dict[str, Any] = {"channel": "C1", "version": "v0001", "reply": f"A {SECRET}", "sources": ()}
    store.add_answer(1, thread_ts=ROOT, asker="U2", user_id="U1", question="Why?", **common)
    store.add_answer(2, thread_ts=ROOT, asker="U1", user_id="U2", question=f"Which {SECRET}?", **common)
    store.add_answer(3, thread_ts=ROOT, asker="U2", user_id="U2", question="Who?", **{**common, "reply": "We."})
    store.accept([("E1", {"user": "U1", "text": SECRET}), ("E2", {"user": "U2", "text": "mine"})], at=1)
    store.set_default_persona("U1", "C1")
    archive.add_feedback("T1", "U1", version=None, question=SECRET, reply=SECRET)
    archive.add_feedback("T1", "U2", version=None, question="hm", reply="hm")


def publish(adapters: AdapterStore, person: User) -> str:
    """A new version of somebody's adapter, and work towards the next; returns its name."""
    folder = adapters.folder(person)
    with folder.writer() as writer:
        draft = writer.draft()
        (draft / "weights").write_text(SECRET)
        (folder.root / "work").mkdir(exist_ok=True)
        (folder.root / "work" / "checkpoint").write_text(SECRET)
        return writer.publish(draft, {"base_model": "m", "channels": []}).name


def holding(folder: Path) -> list[Path]:
    """The files in which a byte of what was forgotten is left."""
    return [path for path in folder.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
