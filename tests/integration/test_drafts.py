"""Drafts in the archive: sent once, kept only where changed and agreed to, and gone with their person."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import select

from doppel.access import ConsentAction
from doppel.archive import Archive, database, tables
from doppel.archive.drafts import KEPT_UNSENT, Draft, Wanted
from doppel.config import load_settings
from doppel.errors import ConsentError
from doppel.ingest import forget_person, import_export, open_archive
from doppel.records import KeptEdit, User
from doppel.slack.export import open_export
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.tokenizer import WordTokenizer
from training.train import gather

ROOT, REPLY, LATER, LONE = "1700000000.000100", "1700000060.000100", "1700000120.000100", "1700010000.000100"
ADA = User("T1", "U1", "ada")
NOW = 1_800_000_000_000_000


def team() -> ExportBuilder:
    """A thread of Grace's and Ada's, and what stands outside of it."""
    return (
        ExportBuilder()
        .user("U1", "ada", "Ada Lovelace", "Ada")
        .user("U2", "grace", "Grace Hopper", "Grace")
        .channel("C1", "general", "U1", "U2")
        .channel("C2", "other", "U1", "U2")
        .say("general", ROOT, "Why did we drop the zebrafish?", "U2", thread_ts=ROOT)
        .say("general", REPLY, "It woke us.", "U1", thread_ts=ROOT)
        .say("general", LATER, "At night?", "U2", thread_ts=ROOT)
        .say("general", "1700009000.000100", "Hungry, anyone?", "U2")
        .say("general", LONE, "Lunch, then?", "U2")
        .say("general", "1700010060.000100", "Build failed.", None, subtype="bot_message", bot_id="B1", username="ci")
        .say("general", "1700010070.000100", "I am.", "U1")
    )


@pytest.fixture
def archive(where: Path | str) -> Iterator[Archive]:
    with open_archive(where) as opened, TemporaryDirectory() as folder:
        with open_export(team().zip(Path(folder) / "export.zip")) as export:
            import_export(opened, export)
        for user in ("U1", "U2"):
            opened.record_consent(opened.find_user(user), ConsentAction.GRANT, user)
        yield opened


def add(archive: Archive, wanted: Wanted, text: str = "Because.", now: int = NOW) -> Draft:
    draft = archive.drafts("T1").add(now, wanted, text, "v1", asked_at=now)
    assert draft is not None
    return draft


def sent(archive: Archive, wanted: Wanted, changed: str | None, ts: str = "1800000000.000100") -> None:
    """A draft that was sent, `changed` by its person or not."""
    store, draft = archive.drafts("T1"), add(archive, wanted)
    final = store.edit(draft, changed) if changed else draft
    assert final is not None
    assert store.claim(final.id)
    store.finish(final, ts)


def everything(archive: Archive) -> str:
    """Every row of the drafts."""
    with database.reading(archive._engine, archive.backend) as connection:
        return repr(connection.execute(select(tables.drafts)).all())


ANSWER = Wanted("U1", "C1", ROOT, LATER)


def test_a_draft_is_its_persons_and_of_its_workspace(archive: Archive) -> None:
    draft = add(archive, ANSWER)
    assert archive.drafts("T1").open_draft(draft.id, "U1") == draft
    assert archive.drafts("T1").open_draft(draft.id, "U2") is None
    assert archive.drafts("T2").open_draft(draft.id, "U1") is None
    assert not archive.drafts("T2").claim(draft.id)


def test_of_many_who_send_one_does(archive: Archive) -> None:
    store, draft = archive.drafts("T1"), add(archive, ANSWER)
    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda _: store.claim(draft.id), range(8))) == 1
    assert store.open_draft(draft.id, "U1") is None
    assert store.edit(draft, "Changed.") is None
    assert store.add(NOW, ANSWER, "Another.", None, NOW, instead_of=draft.id) is None
    store.give_back(draft.id)
    assert store.open_draft(draft.id, "U1") == draft
    assert store.claim(draft.id)
    store.finish(draft, "1800000000.000100")
    store.give_back(draft.id)
    assert not store.claim(draft.id)


def test_another_takes_its_place_under_another_id(archive: Archive) -> None:
    store, first = archive.drafts("T1"), add(archive, ANSWER)
    second = store.add(NOW, ANSWER, "Anew.", None, NOW, instead_of=first.id)
    assert second is not None
    third = store.edit(second, "Mine.")
    assert third is not None
    assert (third.text, third.edited, second.edited) == ("Mine.", True, False)
    assert [store.open_draft(draft.id, "U1") for draft in (first, second, third)] == [None, None, third]


def test_what_was_changed_is_kept_by_reference_and_the_rest_is_not(archive: Archive) -> None:
    sent(archive, ANSWER, None)
    assert archive.kept_edits(ADA) == []
    assert "Because." not in everything(archive)
    sent(archive, ANSWER, "Every night.")
    sent(archive, Wanted("U1", "C1", "", "", "When do we meet?"), "At ten.", "1800000001.000100")
    assert archive.kept_edits(ADA) == [
        KeptEdit("T1", "C1", "1800000000.000100", LATER, "", "Every night."),
        KeptEdit("T1", "C1", "1800000001.000100", "", "When do we meet?", "At ten."),
    ]
    assert "zebrafish" not in everything(archive)
    assert archive.kept_edits(User("T2", "U1", "ada")) == archive.kept_edits(User("T1", "U2", "grace")) == []


def test_drafts_that_nobody_sends_go_after_a_week_and_edits_stay(archive: Archive) -> None:
    sent(archive, ANSWER, "Every night.")
    old = add(archive, ANSWER)
    add(archive, ANSWER, now=NOW + KEPT_UNSENT)
    assert archive.drafts("T1").open_draft(old.id, "U1") == old
    add(archive, ANSWER, now=NOW + KEPT_UNSENT + 1)
    assert archive.drafts("T1").open_draft(old.id, "U1") is None
    assert len(archive.kept_edits(ADA)) == 1


@pytest.mark.parametrize("action", [ConsentAction.REVOKE, ConsentAction.DECLINE])
def test_a_no_removes_what_was_drafted_and_changed(archive: Archive, action: ConsentAction) -> None:
    sent(archive, Wanted("U1", "C1", "", "", "When do we meet?"), "At ten.")
    draft, of_grace = add(archive, ANSWER), add(archive, Wanted("U2", "C1", "", REPLY))
    archive.record_consent(ADA, action, "ada")
    store = archive.drafts("T1")
    assert archive.kept_edits(ADA) == []
    assert store.open_draft(draft.id, "U1") is None
    assert store.open_draft(of_grace.id, "U2") == of_grace
    for text in ("At ten.", "When do we meet?", LATER):
        assert text not in everything(archive)
    with pytest.raises(ConsentError):
        add(archive, ANSWER)


def test_a_pause_removes_nothing(archive: Archive) -> None:
    sent(archive, ANSWER, "Every night.")
    archive.record_consent(ADA, ConsentAction.PAUSE, "ada")
    assert len(archive.kept_edits(ADA)) == 1


def test_what_is_sent_as_its_person_withdraws_is_not_kept(archive: Archive) -> None:
    store, draft = archive.drafts("T1"), add(archive, ANSWER)
    final = store.edit(draft, "Every night.")
    assert final is not None
    store.claim(final.id)
    archive.record_consent(ADA, ConsentAction.REVOKE, "ada")
    store.finish(final, "1800000000.000100")
    archive.record_consent(ADA, ConsentAction.GRANT, "ada")
    assert archive.kept_edits(ADA) == []


def test_whoever_is_forgotten_takes_their_drafts_along_and_what_others_were_drafted_from_them(archive: Archive) -> None:
    sent(archive, ANSWER, "Every night.")
    sent(archive, Wanted("U2", "C1", "", REPLY), "Grace's own words.")
    draft, of_grace = add(archive, ANSWER), add(archive, Wanted("U2", "C1", "", REPLY), "It woke us, said Ada.")
    done = forget_person(archive, archive.find_user("U1"), messages=True, by="ada")
    assert done.drafts == 2
    store = archive.drafts("T1")
    assert (store.open_draft(draft.id, "U1"), store.open_draft(of_grace.id, "U2")) == (None, None)
    assert [edit.text for edit in archive.kept_edits(archive.find_user("U2"))] == ["Grace's own words."]
    assert "woke" not in everything(archive)
    assert archive.leading_to("T1", "C1", REPLY) == []


def test_without_their_messages_others_keep_their_drafts(archive: Archive) -> None:
    of_grace = add(archive, Wanted("U2", "C1", "", REPLY))
    assert forget_person(archive, archive.find_user("U1"), messages=False, by="ada").drafts == 0
    assert archive.drafts("T1").open_draft(of_grace.id, "U2") == of_grace


def test_what_they_sent_is_erased_where_it_is_archived(archive: Archive) -> None:
    post = "1700010080.000100"
    later = team().say("general", post, "Every night.", None, subtype="bot_message", bot_id="B1", username="Ada")
    with TemporaryDirectory() as folder, open_export(later.zip(Path(folder) / "export.zip")) as export:
        import_export(archive, export)
    sent(archive, ANSWER, None, post)
    assert forget_person(archive, archive.find_user("U1"), messages=False, by="ada").posts == 1
    assert "Every night." not in [message.text for message in archive.messages()]


def test_what_was_drafted_while_somebody_was_forgotten_is_not_kept(archive: Archive) -> None:
    before = round(time.time() * 1e6)
    forget_person(archive, archive.find_user("U2"), messages=True, by="grace")
    with pytest.raises(ConsentError, match="Somebody was forgotten"):
        add(archive, ANSWER, now=before)
    assert add(archive, ANSWER, now=round((time.time() + 1) * 1e6))


def test_the_last_that_somebody_else_said_stands_in_the_channel_and_is_of_a_person(archive: Archive) -> None:
    for_ada, for_grace = (archive.last_said("T1", "C1", user) for user in ("U1", "U2"))
    assert for_ada is not None
    assert for_grace is not None
    assert (for_ada.ts, for_grace.text) == (LONE, "I am.")
    assert archive.last_said("T1", "C2", "U1") is None
    assert archive.last_said("T2", "C1", "U1") is None


@pytest.mark.parametrize(
    ("ts", "texts"),
    [
        (ROOT, ["Why did we drop the zebrafish?"]),
        (LATER, ["Why did we drop the zebrafish?", "It woke us.", "At night?"]),
        (LONE, ["Hungry, anyone?", "Lunch, then?"]),
        ("1700010060.000100", []),
        ("1.0", []),
    ],
)
def test_what_led_to_a_message(archive: Archive, ts: str, texts: list[str]) -> None:
    assert [message.text for message in archive.leading_to("T1", "C1", ts)] == texts


def learned(archive: Archive, tmp_path: Path, channels: str = "public") -> dict[str, str]:
    """Prompt by answer of all that a training of Ada would learn from."""
    environ = {"DOPPEL_DATA_DIR": str(tmp_path), "DOPPEL_MIN_EXAMPLES": "2", "DOPPEL_MIN_ANSWER_CHARS": "4"}
    settings = load_settings(environ | {"DOPPEL_TRAIN_CHANNELS": channels})
    tokenizer = WordTokenizer()
    found = gather(archive.find_user("U1"), archive, settings, tokenizer)  # type: ignore[arg-type]
    examples = (*found.train, *found.held_out)
    return {tokenizer.decode(e.completion_ids[:-1]): tokenizer.decode(e.prompt_ids) for e in examples}


def test_training_learns_from_kept_edits_of_channels_that_it_may_read(archive: Archive, tmp_path: Path) -> None:
    own = {"It woke us.", "I am."}
    assert learned(archive, tmp_path).keys() == own
    sent(archive, ANSWER, "Every night.")
    sent(archive, Wanted("U1", "D1", "", "", "Secret?"), "Very secret.")
    sent(archive, Wanted("U1", "C2", "", "", "And where?"), "Over there.")
    found = learned(archive, tmp_path)
    assert found.keys() == own | {"Every night.", "Over there."}
    assert learned(archive, tmp_path, "general").keys() == own | {"Every night."}
    for said, stands in (("zebrafish", True), ("It woke us.", True), ("At night?", True), ("Lunch", False)):
        assert (said in found["Every night."]) == stands
    assert "Colleague: And where?" in found["Over there."]
    archive.record_consent(ADA, ConsentAction.REVOKE, "ada")
    assert learned(archive, tmp_path).keys() == own
