"""The sync against a fake Slack: the same archive as an import, whatever goes wrong on the way."""

from __future__ import annotations

import json
import random
import re
import socket
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import median
from threading import Thread

import pytest

from doppel.archive import Archive
from doppel.errors import BadInputError, SlackError, SlackTokenError
from doppel.ingest import import_export, open_archive
from doppel.ingest.sync import HISTORY, MEMBERS, SyncProgress, SyncReport
from doppel.records import ChannelKind, MessageKind
from doppel.slack.api import Json, SlackApi
from doppel.slack.budget import StoppableClock
from doppel.slack.export import open_export
from tests.end_to_end import SAMPLE, archive_at
from tests.fakes.slack import FakeSlack, Fault, Faults, Limits, Workspace
from tests.syncing import kill, listed_rows, rows, start_sync, sync

HOUR, DAY = 3600.0, 86_400.0


@pytest.fixture
def once(tmp_path: Path) -> Iterator[Archive]:
    """An archive for what depends on Slack and the clock alone: on one database."""
    with open_archive(archive_at(tmp_path)) as opened:
        yield opened


class Clock:
    """A time that a test sets."""

    def __init__(self) -> None:
        self.now = time.time() - 2 * DAY

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def team(clock: Clock) -> Workspace:
    """Two people, a public and a private channel, and a thread."""
    workspace = Workspace(clock=clock)
    ada, grace = workspace.user("ada", "Ada Lovelace", id="U1"), workspace.user("grace", "Grace Hopper", id="U2")
    workspace.channel("general", ada, grace, id="C1")
    workspace.channel("secret", ada, id="C2", kind="private")
    root = workspace.post("general", ada, "Why did we drop Kafka?")
    workspace.post("general", grace, "It woke us at night.", thread_ts=root)
    workspace.post("general", grace, "Lunch?")
    workspace.post("secret", ada, "The budget is cut.")
    return workspace


@pytest.fixture
def slack(team: Workspace, request: pytest.FixtureRequest) -> Iterator[FakeSlack]:
    with FakeSlack(team) as running:
        running.behaviour.oldest_without_latest = getattr(request, "param", False)
        yield running


in_both_orders = pytest.mark.parametrize("slack", [False, True], indirect=True, ids=["newest-first", "oldest-first"])
"""How Slack's history begins where it is told the oldest message alone."""


def texts(archive: Archive, channel: str = "C1") -> list[str]:
    return [m.text for m in archive.messages() if m.channel == channel and m.kind is MessageKind.HUMAN and m.text]


def counts(report: SyncReport) -> tuple[int, int, int]:
    return report.added, report.updated, report.deleted


def sample() -> Workspace:
    return Workspace.from_export(SAMPLE, bot_in=("public", "private"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """The sample workspace after one sync of which nothing is disturbed."""
    with open_archive(archive_at(tmp_path_factory.mktemp("sync"))) as opened, FakeSlack(sample()) as running:
        sync(running, opened)
        yield opened


def test_a_sync_gives_the_same_archive_as_an_import(undisturbed: Archive, archive: Archive) -> None:
    workspace = sample()
    listed = {place.id for place in workspace.channels.values() if place.kind in ("public", "private")}
    with open_export(SAMPLE) as export:
        import_export(archive, export)
    synced, taken_in = (listed_rows(a, listed, workspace.bot_user) for a in (undisturbed, archive))
    assert synced["messages"] == taken_in["messages"]
    assert synced["users"] == taken_in["users"]
    assert synced["channels"] == taken_in["channels"]
    assert len(synced["messages"]) > 1000


def test_a_second_sync_costs_one_call_a_channel_and_changes_nothing(archive: Archive) -> None:
    with FakeSlack(sample()) as slack:
        sync(slack, archive)
        before, revision = rows(archive), archive.revision()
        slack.calls.clear()
        assert counts(sync(slack, archive)) == (0, 0, 0)
        channels = slack.count("conversations.history")
        assert channels == 6
        assert len(slack.calls) == channels + 4
    assert rows(archive) == before
    assert archive.revision() == revision


def test_an_import_and_a_sync_make_one_row_of_a_message(archive: Archive) -> None:
    with open_export(SAMPLE) as export:
        import_export(archive, export)
    workspace = sample()
    with FakeSlack(workspace) as slack:
        report = sync(slack, archive)
        assert slack.count("conversations.replies") == 0
    assert counts(report) == (0, 0, 0)
    with open_export(SAMPLE) as export:
        again = import_export(archive, export)
    assert (again.added, again.updated) == (0, 0)


def test_what_is_new_comes_with_the_next_sync(slack: FakeSlack, archive: Archive, clock: Clock) -> None:
    assert counts(sync(slack, archive)) == (4, 0, 0)
    clock.now += HOUR
    slack.workspace.post("general", "U1", "Pizza.")
    assert counts(sync(slack, archive)) == (1, 0, 0)
    assert texts(archive) == ["Why did we drop Kafka?", "It woke us at night.", "Lunch?", "Pizza."]


@in_both_orders
def test_edits_deletions_and_reactions_arrive(slack: FakeSlack, archive: Archive) -> None:
    sync(slack, archive)
    root, lunch = [m.ts for m in archive.messages() if m.text in ("Why did we drop Kafka?", "Lunch?")]
    slack.workspace.edit("general", root, "Why did we drop RabbitMQ?")
    slack.workspace.react("general", root, "U2", "eyes")
    slack.workspace.delete("general", lunch)
    assert counts(sync(slack, archive)) == (0, 1, 1)
    assert texts(archive) == ["Why did we drop RabbitMQ?", "It woke us at night."]
    assert counts(sync(slack, archive)) == (0, 0, 0)


def test_a_late_reply_to_a_thread_within_the_horizon_arrives(slack: FakeSlack, archive: Archive, clock: Clock) -> None:
    sync(slack, archive)
    clock.now += DAY
    root = next(m.ts for m in archive.messages() if m.text == "Why did we drop Kafka?")
    slack.workspace.post("general", "U1", "Now I see.", thread_ts=root)
    assert counts(sync(slack, archive)) == (1, 1, 0)
    assert "Now I see." in texts(archive)


def test_a_late_reply_under_an_old_message_arrives_while_its_thread_is_active(archive: Archive) -> None:
    clock = Clock()
    workspace = Workspace(clock=clock)
    clock.now -= 60 * DAY
    workspace.user("ada", id="U1")
    workspace.channel("general", "U1", id="C1")
    root = workspace.post("general", "U1", "An old question")
    clock.now += 58 * DAY
    workspace.post("general", "U1", "An answer two days ago", thread_ts=root)
    with FakeSlack(workspace) as slack:
        sync(slack, archive)
        _left_alone(archive)
        workspace.post("general", "U1", "And one today", thread_ts=root)
        assert sync(slack, archive).added == 1
    assert texts(archive) == ["An old question", "An answer two days ago", "And one today"]


@in_both_orders
def test_an_edited_and_a_deleted_reply_of_a_recent_thread_arrive(slack: FakeSlack, archive: Archive) -> None:
    workspace = slack.workspace
    root = next(raw["ts"] for raw in workspace.find("general").log if "Kafka" in raw["text"])
    second = workspace.post("general", "U1", "Really?", thread_ts=root)
    sync(slack, archive)
    first = next(m.ts for m in archive.messages() if m.text == "It woke us at night.")
    workspace.edit("general", first, "It woke me at night.")
    workspace.delete("general", second)
    _left_alone(archive)
    report = sync(slack, archive)
    assert report.deleted == 1
    assert "It woke me at night." in texts(archive)
    assert "Really?" not in texts(archive)


def test_a_deletion_is_not_undone_by_an_older_export(archive: Archive) -> None:
    workspace = sample()
    place = workspace.find("general")
    with open_export(SAMPLE) as export:
        import_export(archive, export)
    victim = next(raw["ts"] for raw in place.log if "thread_ts" not in raw and raw["text"])
    with FakeSlack(workspace) as slack:
        sync(slack, archive)
        workspace.delete("general", victim)
        assert sync(slack, archive, horizon_days=36500).deleted == 1
    with open_export(SAMPLE) as export:
        import_export(archive, export)
    assert [m.text for m in archive.messages() if m.ts == victim and m.channel == place.id] == [""]


@in_both_orders
def test_what_slack_hides_from_a_free_plan_is_not_deleted(slack: FakeSlack, archive: Archive, clock: Clock) -> None:
    sync(slack, archive)
    slack.behaviour.hides_before = clock.now + HOUR
    assert sync(slack, archive).deleted == 0
    assert len(texts(archive)) == 3


def test_renames_archived_channels_and_members_arrive(slack: FakeSlack, archive: Archive) -> None:
    sync(slack, archive)
    slack.workspace.rename_channel("general", "town-square")
    slack.workspace.update_user("U2", profile={"display_name": "Amazing Grace"})
    slack.workspace.join("secret", "U2")
    sync(slack, archive)
    channels = {channel.id: channel for channel in archive.channels()}
    assert channels["C1"].name == "town-square"
    assert set(channels["C2"].members) >= {"U1", "U2"}
    assert {user.id: user.name for user in archive.users()}["U2"] == "Amazing Grace"
    slack.workspace.leave("secret", "U2")
    slack.workspace.archive_channel("town-square")
    sync(slack, archive)
    channels = {channel.id: channel for channel in archive.channels()}
    assert "U2" not in channels["C2"].members
    assert channels["C1"].archived


def test_who_may_read_a_channel_that_the_bot_was_put_out_of_is_unknown(slack: FakeSlack, archive: Archive) -> None:
    sync(slack, archive)
    assert {c.id: c.kind for c in archive.channels()}["C2"] is ChannelKind.PRIVATE
    slack.workspace.leave("secret", slack.workspace.bot_user)
    sync(slack, archive)
    assert {c.id: c.kind for c in archive.channels()}["C2"] is ChannelKind.UNKNOWN


def test_what_the_bot_wrote_is_neither_learned_nor_a_source(slack: FakeSlack, archive: Archive) -> None:
    workspace = slack.workspace
    workspace.post("general", workspace.bot_user, "I am Ada.", bot_id=workspace.bot_id, username="Ada (AI)")
    sync(slack, archive)
    assert "I am Ada." not in texts(archive)
    assert {m.kind for m in archive.messages() if m.text == "I am Ada."} == {MessageKind.BOT}


def test_a_channel_without_the_bot_is_a_sentence_and_the_rest_goes_on(slack: FakeSlack, archive: Archive) -> None:
    slack.workspace.channel("elsewhere", "U1", id="C3", bot=False)
    slack.workspace.post("elsewhere", "U1", "Nobody listens.")
    said: list[str] = []
    report = sync(slack, archive, said)
    assert said == ["Left out #elsewhere: The bot is not in it; invite it, or join public channels with --join."]
    assert report.warnings == tuple(said)
    assert len(texts(archive)) == 3
    assert sync(slack, archive, join=True).warnings == ()
    assert texts(archive, "C3") == ["Nobody listens."]


def test_a_missing_scope_is_a_sentence_and_the_rest_goes_on(slack: FakeSlack, archive: Archive) -> None:
    slack.tokens[slack.bot_token].scopes -= {"groups:read", "groups:history"}
    report = sync(slack, archive)
    assert len(report.warnings) == 1
    assert "Private channels are left out: The Slack app lacks groups:read" in report.warnings[0]
    assert len(texts(archive)) == 3
    assert texts(archive, "C2") == []


@pytest.mark.parametrize("status", [200, 404, 405])
def test_methods_that_an_emulator_lacks_are_done_without(team: Workspace, archive: Archive, status: int) -> None:
    missing = ["conversations.members", "usergroups.list"]
    with FakeSlack(team, faults=Faults(missing_methods=missing, missing_status=status)) as slack:
        (warning,) = sync(slack, archive).warnings
        assert warning.startswith("User groups read as their ids: ")
        assert (slack.count("conversations.members"), slack.count("usergroups.list")) == (2, 1)
    assert len(texts(archive)) == 3


def test_user_groups_read_by_their_names_also_where_they_get_them_late(slack: FakeSlack, archive: Archive) -> None:
    slack.workspace.post("general", "U1", "<!subteam^S1> look, and <!subteam^S2>")
    rich = {"type": "rich_text_section", "elements": [{"type": "usergroup", "usergroup_id": "S1"}]}
    slack.workspace.post("general", "U1", "", blocks=[{"type": "rich_text", "elements": [rich]}])
    slack.tokens[slack.bot_token].scopes.remove("usergroups:read")
    (warning,) = sync(slack, archive).warnings
    assert warning.startswith("User groups read as their ids: The Slack app lacks usergroups:read")
    assert texts(archive)[-2:] == ["@S1 look, and @S2", "@S1"]

    slack.tokens[slack.bot_token].scopes.add("usergroups:read")
    slack.workspace.usergroups["S1"] = {"id": "S1", "handle": "platform", "name": "Platform", "date_delete": 0}
    slack.workspace.usergroups["S2"] = {"id": "S2", "handle": "on-call", "name": "On call", "date_delete": 1}
    assert sync(slack, archive).warnings == ()
    assert texts(archive)[-2:] == ["@platform look, and @on-call", "@platform"]

    slack.workspace.usergroups["S1"]["handle"] = "infra"
    sync(slack, archive)
    slack.workspace.post("general", "U1", "thanks <!subteam^S1>")
    sync(slack, archive)
    assert texts(archive)[-3:] == ["@infra look, and @on-call", "@infra", "thanks @infra"]


def test_the_wrong_kind_of_token_is_a_sentence(slack: FakeSlack, archive: Archive) -> None:
    with pytest.raises(SlackTokenError, match="belongs into SLACK_APP_TOKEN"):
        sync(slack, archive, token=slack.app_token)


@pytest.mark.parametrize(
    ("state", "words"),
    [
        ("token_revoked", "was revoked"),
        ("invalid_auth", "does not know the token"),
        ("account_inactive", "deactivated"),
    ],
)
def test_a_dead_token_ends_it_with_one_sentence(slack: FakeSlack, archive: Archive, state: str, words: str) -> None:
    slack.revoke(slack.bot_token, state)  # type: ignore[arg-type]
    with pytest.raises(SlackTokenError, match=f"{words}; put a valid one into SLACK_BOT_TOKEN"):
        sync(slack, archive)


def test_a_token_revoked_in_the_middle_keeps_what_was_read(archive: Archive) -> None:
    with FakeSlack(sample()) as slack:

        def revoke(now: SyncProgress) -> None:
            if now.messages > 100:
                slack.revoke(slack.bot_token)

        with pytest.raises(SlackTokenError):
            sync(slack, archive, progress=revoke)
        kept = archive.counts().messages
        slack.revoke(slack.bot_token, "active")
        assert sync(slack, archive).added == 1089 - kept
    assert kept > 0


def test_an_unreachable_slack_is_one_sentence(team: Workspace, once: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.slack.api.FIRST_BACKOFF_SECONDS", 0.001)
    slack = FakeSlack(team)
    slack.start()
    slack.stop()
    with pytest.raises(SlackError, match=r"could not be reached for auth\.test"):
        sync(slack, once)


@pytest.mark.parametrize("token", ["xoxb-s3cr\net", "xoxb-s3cr\x00et", "xoxb-s3cr\u2026et", "xoxb-s3cr et"])
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/api/", "s3cret", "http://[s3cret", "http://s3 cr\net/"])
def test_no_failure_of_a_call_repeats_what_was_sent(token: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.slack.api.FIRST_BACKOFF_SECONDS", 0.001)
    with pytest.raises(SlackError) as caught:
        SlackApi(lambda: token, url, StoppableClock()).call("auth.test")
    said = str(caught.value).replace(url, "")
    assert "s3" not in said
    assert re.search(r"for auth\.test at  \(\w+(: Connection refused)?\);", said)


@pytest.mark.parametrize(
    ("status", "body"),
    [
        *((200, body) for body in (b"", b"<html>", b"{}", b"[]", b'{"ok": false}', b'{"ok": false, "error": null}')),
        *((404, body) for body in (b"", b"<html>", b'{"error": "not_found"}', b'{"ok": false, "error": "no_route"}')),
        (405, b'{"error": "method_not_allowed"}'),
        (403, b'{"error": "forbidden"}'),
    ],
)
def test_what_is_not_slack_is_told_at_the_first_call(status: int, body: bytes) -> None:
    class Other(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Other)
    Thread(target=server.serve_forever, daemon=True).start()
    api = SlackApi(lambda: "xoxb-1", f"http://127.0.0.1:{server.server_port}/api/", StoppableClock())
    try:
        with pytest.raises(SlackError, match="check the network and SLACK_API_URL"):
            api.call("auth.test")
    finally:
        server.shutdown()
        server.server_close()


def test_a_host_that_says_nothing_is_waited_for_shortly_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.slack.api.FIRST_TIMEOUT_SECONDS", 0.2)
    monkeypatch.setattr("doppel.slack.api.FIRST_BACKOFF_SECONDS", 0.001)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = SlackApi(lambda: "xoxb-1", f"http://127.0.0.1:{silent.getsockname()[1]}/api/", StoppableClock())
        started = time.monotonic()
        with pytest.raises(SlackError, match="check the network and SLACK_API_URL"):
            api.call("auth.test")
        assert api.calls == 3
        assert time.monotonic() - started < 10


@pytest.mark.parametrize(
    "answers",
    [
        lambda n: {"members": [], "response_metadata": {"next_cursor": f"c{n}"}},
        lambda n: {"members": [], "response_metadata": {"next_cursor": f"c{n % 3}"}},
    ],
    ids=["ever new", "in a circle"],
)
def test_pages_that_lead_nowhere_end(answers: Callable[[int], Json]) -> None:
    class Endless(SlackApi):
        def call(self, method: str, **params: object) -> Json:
            self.calls += 1
            return answers(self.calls)

    api = Endless(lambda: "xoxb-1", "http://127.0.0.1:9/api/", StoppableClock())
    with pytest.raises(SlackError, match=r"the same page of users\.list again and again"):
        list(api.pages("users.list", "members"))
    assert api.calls <= 100


def test_calls_grow_with_the_channels_that_the_bot_is_in(slack: FakeSlack, archive: Archive) -> None:
    for number in range(20):
        slack.workspace.channel(f"elsewhere-{number}", "U1", id=f"C9{number}", bot=False)
    said: list[str] = []
    assert sync(slack, archive, said).channels == 2
    asked = [call.params.get("channel") for call in slack.calls if call.method in (HISTORY, MEMBERS)]
    assert set(asked) == {"C1", "C2"}
    assert len(said) == 1
    assert "and 15 more" in said[0]


def test_one_channel_alone_and_an_unknown_one(slack: FakeSlack, archive: Archive) -> None:
    assert sync(slack, archive, channels=("#secret",)).channels == 1
    assert texts(archive) == []
    assert texts(archive, "C2") == ["The budget is cut."]
    with pytest.raises(BadInputError, match='no channel "genral"; the nearest are general'):
        sync(slack, archive, channels=("genral",))


def test_since_leaves_out_what_is_older_until_it_is_asked_for(archive: Archive) -> None:
    workspace = sample()
    stamps = sorted(float(raw["ts"]) for raw in workspace.find("general").log)
    middle = round(stamps[len(stamps) // 2] * 1e6)
    with FakeSlack(workspace) as slack:
        sync(slack, archive, since=middle)
        early = [m for m in archive.messages() if float(m.ts) * 1e6 < middle and m.thread_ts in (None, m.ts)]
        assert early == []
        sync(slack, archive)
    assert archive.counts().messages == 1089


def test_a_tenth_of_the_calls_may_fail(undisturbed: Archive, archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.slack.api.FIRST_BACKOFF_SECONDS", 0.02)
    faults = Faults(rate=0.1, seed=7, retry_after=0.05, slow_seconds=0.05)
    with FakeSlack(sample(), limits=Limits.none(time_scale=20), faults=faults) as slack:
        report = sync(slack, archive)
    assert sum(faults.injected.values()) > 5
    assert len(faults.injected) > 3
    assert report.warnings == ()
    assert rows(archive) == rows(undisturbed)


def test_killed_at_random_moments_it_ends_as_if_undisturbed(
    undisturbed: Archive, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Rounds of a sync that is killed again and again until it gets through, until there were enough kills."""
    wanted, kills, rounds, chance = request.config.getoption("--kills"), 0, 0, random.Random(5)
    with FakeSlack(sample(), limits=Limits.none(time_scale=20), faults=Faults(slow_seconds=0.1)) as slack:
        while kills < wanted:
            data, rounds, done = tmp_path / f"round-{rounds}", rounds + 1, False
            while not done:
                slack.faults.fail_next(Fault.SLOW, 20, "conversations.replies")
                called = len(slack.calls)
                process = start_sync(slack, data)
                _wait_for_calls(slack, called + chance.randint(1, 120), process)
                kill(process)
                done = process.wait() == 0
                process.communicate()
                kills += not done
            with open_archive(archive_at(data)) as archive:
                assert rows(archive) == rows(undisturbed)
    assert kills >= wanted


def test_a_resumed_sync_repeats_no_more_than_the_pages_in_flight(tmp_path: Path) -> None:
    with FakeSlack(sample()) as slack:
        process = start_sync(slack, tmp_path)
        _wait_for_calls(slack, 60, process)
        kill(process)
        process.communicate()
        before = slack.count("conversations.replies", "")
        finished = start_sync(slack, tmp_path)
        report = json.loads(finished.communicate()[0])
        replies = slack.count("conversations.replies", "")
    assert finished.returncode == 0
    assert set(report) >= {"channels", "messages", "added", "updated", "deleted", "pages"}
    assert set(report) >= {"rate_limited_seconds", "seconds"}
    assert before < replies <= 102 + 4


def test_held_to_fifteen_messages_a_minute_it_says_so_and_estimates_the_end(once: Archive) -> None:
    """A minute lasts 0.4 seconds here. The median estimate of the middle of the run is compared with what it took."""
    seen: list[tuple[float, float]] = []
    started = time.monotonic()

    def note(now: SyncProgress) -> None:
        if now.seconds_left is not None:
            seen.append((time.monotonic() - started, now.seconds_left))

    said: list[str] = []
    with FakeSlack(sample(), limits=Limits(restricted=True, time_scale=150)) as slack:
        report = sync(slack, once, said, note)
        assert max(call.status for call in slack.calls) == 429
        refused = sum(call.status == 429 for call in slack.calls)
        assert refused < len(slack.calls) * 0.7
    took = time.monotonic() - started
    assert once.counts().messages == 1089
    assert report.rate_limited_seconds > took / 4
    assert any(line.startswith("Slack holds this app to 15 messages a call") for line in said)
    middle = [at + left for at, left in seen if took * 0.4 < at < took * 0.6]
    assert middle
    assert abs(median(middle) - took) < 0.2 * took, (took, [round(end, 1) for end in middle])


def _wait_for_calls(slack: FakeSlack, calls: int, process: object) -> None:
    poll = process.poll  # type: ignore[attr-defined]
    while len(slack.calls) < calls and poll() is None:
        time.sleep(0.002)


def _left_alone(archive: Archive) -> None:
    """As if the threads had last been looked at a day ago."""
    from sqlalchemy import update

    from doppel.archive import database, tables

    with database.writing(archive._engine, archive.backend) as connection:
        t = tables.sync_threads
        connection.execute(update(t).values(looked_at=t.c.looked_at - round(DAY * 1e6)))
