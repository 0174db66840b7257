"""A forgotten person's name stands nowhere any more: not in the archive, the jobs' records or the logs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doppel.access import ConsentAction, ConsentRecord
from doppel.adapters import AdapterStore
from doppel.archive import Archive
from doppel.config import load_settings
from doppel.errors import ConsentError, TrainingError
from doppel.jobs.queue import Jobs
from doppel.jobs.state import JobFiles, JobState
from doppel.jobs.worker import start_worker
from doppel.logs import remove_lines, stack_of
from doppel.records import ChannelKind
from tests.end_to_end import doppel, environment
from tests.fakes.export_builder import ExportBuilder
from tests.fakes.job import COMMAND, request
from tests.fakes.slack import FakeSlack, Limits, Workspace
from tests.forgetting import everything, forget
from tests.taking_in import take_in
from training.train import gather, train

HANDLE, REAL, DISPLAY, SECRET = "adalhandle", "Ada Qlovelace", "Zcountess", "zebrafish"
MARKS = [mark.casefold().encode() for mark in (HANDLE, "Qlovelace", DISPLAY, SECRET)]
GROUP = f"mpdm-{HANDLE}--grace-1"


def export(team: str = "T1") -> ExportBuilder:
    said = f"The {SECRET}."
    return (
        ExportBuilder(team)
        .user("U1", HANDLE, REAL, DISPLAY)
        .user("U2", "grace", "Grace Hopper", "Grace")
        .channel("C1", "general", "U1", "U2")
        .channel("G1", GROUP, "U1", "U2", list_="mpims")
        .say("general", "1700000000.000100", said, "U1")
        .say("general", "1700000060.000100", f"Is it, <@U1|{HANDLE}>?", "U2")
        .say(GROUP, "1700000120.000100", "Lunch?", "U2")
    )


def naming(folder: Path) -> list[str]:
    """The files in which a byte of a name or of what was said is left."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path.name for path in files if any(mark in path.read_bytes().lower() for mark in MARKS)]


def test_after_every_kind_of_job_no_byte_of_a_name_is_left(tmp_path: Path) -> None:
    data, workspace = tmp_path / "data", Workspace(team="T1")
    ada, grace = workspace.user(HANDLE, REAL, id="U1"), workspace.user("grace", "Grace Hopper", id="U2")
    workspace.channel("general", ada, grace, id="C1")
    workspace.post("general", ada, f"The {SECRET} again.")
    file = export().zip(tmp_path / f"{REAL} export.zip")
    with FakeSlack(workspace, limits=Limits.none(time_scale=20)) as slack:
        environ = {"SLACK_BOT_TOKEN": slack.bot_token, "SLACK_API_URL": slack.api_url}
        for words in (["import", str(file)], ["sync"], ["reindex"], ["consent", "grant", HANDLE, "--by", "tests"]):
            done = doppel(data, *words, environ=environ)
            assert done.status == 0, done.data
    failed = doppel(data, "train", "--user", HANDLE, environ={"DOPPEL_BASE_MODEL": str(tmp_path / "none")})
    assert failed.status == 1
    assert naming(data) != []
    leave_what_earlier_versions_wrote(data)
    receipt = doppel(data, "forget", "U1", "--messages", "--by", "tests").data
    assert receipt["pending"] == []
    assert naming(data) == []
    assert doppel(data, "import", str(file)).status == 0
    assert naming(data) == []


@pytest.mark.parametrize("at_home", [["T1"], ["T1", "T2"]])
def test_of_somebody_in_two_workspaces_nothing_is_left_in_either(tmp_path: Path, at_home: list[str]) -> None:
    data, teams = tmp_path / "data", {"teams": at_home}
    for team, handle in (("T1", HANDLE), ("T2", "other")):
        builder = (
            ExportBuilder(team)
            .user("U1", handle, REAL, enterprise_user=teams)
            .user("U2", "grace", "Grace", is_admin=True)
        )
        builder.channel("C1", "general", "U1", "U2").say("general", "1700000000.000100", f"The {SECRET}.", "U1")
        # By what she is called in the other workspace.
        shared = [{"author_subname": HANDLE, "text": f"Another {SECRET}."}]
        builder.say("general", "1700000060.000100", "Look.", "U2", attachments=shared)
        assert doppel(data, "import", str(builder.zip(tmp_path / f"{team}.zip"))).status == 0
    granted = [doppel(data, "consent", "grant", "U1", "--team", team).status for team in ("T1", "T2")]
    assert granted == [0, 0]
    revoked = doppel(data, "consent", "revoke", HANDLE).data
    assert revoked["workspaces"] == ["T1", "T2"]
    assert [row["what"] for row in doppel(data, "consent", "list", "U1").data["consents"]].count("revoke") == 2
    receipt = doppel(data, "forget", HANDLE, "--messages").data
    assert (receipt["workspaces"], receipt["pending"]) == (["T1", "T2"], [])
    assert (receipt["removed"]["messages"], receipt["removed"]["copies"]) == (2, 2)
    assert naming(data) == []


def test_one_workspace_can_be_chosen(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for team in ("T1", "T2"):
        assert doppel(data, "import", str(export(team).zip(tmp_path / f"{team}.zip"))).status == 0
    assert (
        "several workspaces (T1, T2); say in which with --team" in doppel(data, "consent", "grant", "U1").data["error"]
    )
    assert doppel(data, "forget", "U1", "--messages", "--team", "T2").data["workspaces"] == ["T2"]
    assert doppel(data, "consent", "grant", HANDLE, "--team", "T1").status == 0
    assert "has not agreed" not in str(doppel(data, "consent", "list", HANDLE).data)


def leave_what_earlier_versions_wrote(data: Path) -> None:
    """Records and logs of jobs that name the person."""
    settings = load_settings(environment(data))
    with Jobs(settings) as jobs:
        job, _ = jobs.ask(request("settings", FOR_THE_JOB=f"{REAL}: 3.1 nats"))
        worker = start_worker(settings, COMMAND)
        assert worker
        while not jobs.get(job.id).has_ended:
            pass
        worker.stop()
        assert REAL in str(jobs.result(job.id))
        files = JobFiles.of(settings, job.id)
        files.write(JobState(what=f"Training {DISPLAY}"))
        files.log(f"{DISPLAY} withdrew their consent meanwhile.")
    for name in ("worker.log", "doppel.log", "vllm.log"):
        with (settings.logs_dir / name).open("a") as log:
            log.write(f"JobError: {REAL} has 3 answers to learn from.\nWhat stays.\n")


def test_a_line_that_names_them_goes_from_a_log_that_is_being_written(tmp_path: Path) -> None:
    (tmp_path / "jobs").mkdir()
    path = tmp_path / "jobs" / "1.log"
    with path.open("ab", buffering=0) as writer:
        writer.write(b"one\nAda said no.\nAdapter\n\xff\nada-l\n")
        remove_lines(tmp_path, {"Ada", "x", ""})
        writer.write(b"two\n")
    assert path.read_bytes() == b"one\nAdapter\n\xff\ntwo\n"


def test_where_an_error_arose_is_told_without_what_it_says() -> None:
    def burst() -> None:
        try:
            raise KeyError(SECRET)
        except KeyError as error:
            raise ExceptionGroup(SECRET, [ValueError(SECRET)]) from error

    with pytest.raises(ExceptionGroup) as raised:
        burst()
    told = stack_of(raised.value)
    assert "in burst" in told
    assert all(name in told for name in ("ExceptionGroup", "ValueError", "KeyError"))
    assert SECRET not in told


def test_what_a_database_refuses_is_told_without_its_rows(archive: Archive) -> None:
    with pytest.raises(Exception, match="secrets") as raised, archive._engine.connect() as connection:
        connection.exec_driver_sql("SELECT * FROM secrets WHERE 'x' = %s".replace("%s", "'x'"))
    assert archive._engine.hide_parameters
    assert SECRET not in str(raised.value)


def test_a_training_speaks_of_an_id(archive: Archive, tmp_path: Path) -> None:
    take_in(archive, export())
    person, store, settings = archive.find_user("U1"), AdapterStore(tmp_path), load_settings({})
    tokenizer: Any = None
    with pytest.raises(TrainingError, match=r"^U1 has 0 answers"):
        gather(person, archive, settings, tokenizer)
    with pytest.raises(ConsentError, match=r"^U1 has not agreed"):
        train(person, archive, store, settings, "", print, lambda *_: None)
    assert (person.unnamed.name, person.unnamed.id) == ("U1", "U1")


def test_group_conversations_and_file_names_name_them_no_more(archive: Archive, tmp_path: Path) -> None:
    take_in(archive, export())
    forget(archive)
    assert not [mark for mark in MARKS if mark.decode() in everything(archive).casefold()]
    take_in(archive, export().say("general", "1700000300.000100", "Later.", "U2"))
    assert not [mark for mark in MARKS if mark.decode() in everything(archive).casefold()]
    (group,) = [channel for channel in archive.channels() if channel.kind is ChannelKind.MPIM]
    assert (group.id, group.name) == ("G1", "mpdm-U1--grace-1")
    records: list[ConsentRecord] = archive.consent_records()
    assert [record.action for record in records] == [ConsentAction.FORGET]


@pytest.mark.parametrize("lists", [["users", "channels", "mpims"], ["users", "channels"]])
def test_the_folder_of_a_group_conversation_names_them_nowhere(archive: Archive, lists: list[str]) -> None:
    builder = export().say(f"mpdm-{HANDLE}--pete-1", "1700000180.000100", "Tea?", "U2")
    for name in set(builder.lists) - set(lists):
        builder.without(name)
    take_in(archive, builder)
    archive.snapshot("T1")
    forget(archive)
    assert HANDLE not in everything(archive)
    assert archive.snapshot("T1").channel(("T1", "name:mpdm-U1--pete-1")) is not None
    for _ in range(2):
        take_in(archive, builder)
        assert HANDLE not in everything(archive)
    groups = {channel.id: channel.name for channel in archive.channels() if channel.id.startswith("name:")}
    assert groups["name:mpdm-U1--pete-1"] == "mpdm-U1--pete-1"
    assert [m.text for m in archive.messages() if m.channel == "name:mpdm-U1--pete-1"] == ["Tea?"]
