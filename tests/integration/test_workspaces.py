"""Two workspaces whose people and channels have the same ids, in one Doppel: installed, kept apart, removed."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from sqlalchemy import select

from doppel.access import ConsentAction, Readership
from doppel.adapters import AdapterStore
from doppel.archive import Archive, tables
from doppel.artifacts import VersionedFolder
from doppel.errors import UnknownUserError
from doppel.ingest import open_archive
from doppel.jobs.queue import Jobs
from doppel.keys import new_key
from doppel.records import Persona
from doppel.services import workspaces
from doppel.services.ask import Engine
from doppel.slack.blocks import FEEDBACK, SHARE
from doppel.slack.consent_blocks import AGREE
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from tests.end_to_end import archive_at, doppel
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.engine import FakeEngine, answer, passage
from tests.fakes.slack import BOT, TEAM, FakeSlack, Limits, Workspace
from tests.fakes.slack.payloads import Payloads
from tests.listening import Listening, heard_since, open_to_all
from tests.syncing import sync
from tests.unit.test_artifacts import publish

ACME, BRICK = TEAM, "T0FAKE0002"
BOTS = {ACME: BOT, BRICK: "U0FAKEBOT2"}
ADA, BEN = Persona(ACME, "U1", "Ada", "ada"), Persona(BRICK, "U1", "Ben", "ben")


def workspace(team: str, name: str, person: str, secret: str) -> Workspace:
    made = Workspace(team, name, f"https://{name.lower()}.slack.com/", bot_user=BOTS[team], bot_id=f"B{team}")
    made.user(person.lower(), person, id="U1", is_admin=True, profile={"display_name": person})
    made.user(f"{person.lower()}s-friend", f"{person}'s friend", id="U2")
    made.channel("general", "U1", "U2", id="C1")
    made.post("C1", "U1", f"The password of the door is {secret}, says {person}.")
    return made


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    acme, brick = workspace(ACME, "Acme", "Ada", "walrus"), workspace(BRICK, "Brick", "Ben", "otter")
    with FakeSlack(acme, brick, limits=Limits.none(time_scale=20)) as running:
        running.behaviour.token_rotation = True
        yield running


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Archive]:
    with open_archive(archive_at(tmp_path)) as opened:
        yield opened


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([ADA, BEN], lambda persona, turns: answer(persona, f"I am {persona.name}.", [passage()]))


@pytest.fixture(params=["socket", "http"])
async def running(
    request: pytest.FixtureRequest, slack: FakeSlack, archive: Archive, tmp_path: Path, engine: FakeEngine
) -> AsyncIterator[Listening]:
    async with open_to_all(slack, archive, tmp_path, request.param, engine) as found:
        yield found


async def install(doppel: Listening, team: str, **changed: str) -> httpx2.Response:
    """Install the app in a workspace as an admin's browser does; `changed` alters what comes back from Slack."""
    async with httpx2.AsyncClient() as browser:
        page = await browser.get(f"{doppel.url}/slack/install")
        asked = httpx2.URL(page.headers["location"]).copy_merge_params({"team": team})
        back = httpx2.URL((await browser.get(asked)).headers["location"])
        return await browser.get(back.copy_merge_params(changed))


async def installed(doppel: Listening, *teams: str) -> None:
    """Installed, at work, and with what was said before in the archive."""
    for team in teams:
        page = await install(doppel, team)
        assert "Doppel is installed" in page.text
    for team in teams:
        await doppel.until(lambda team=team: heard(doppel, team))
    for place in doppel.slack.workspaces:
        if place.team in teams:
            token = doppel.slack.add_token("bot", workspace=place).value
            await asyncio.to_thread(sync, doppel.slack, doppel.archive, token=token)


def heard(doppel: Listening, team: str) -> bool:
    return heard_since(doppel.archive, team) is not None


async def asked(doppel: Listening, place: Workspace, text: str) -> dict[str, Any]:
    """What the bot says to a mention."""
    root = place.post("C1", "U2", f"<@{place.bot_user}> {text}")

    def replies() -> list[dict[str, Any]]:
        is_open = doppel.archive.bot(place.team).open_questions()
        return [] if is_open else [raw for raw in place.find("C1").log.replies(root) if raw.get("bot_id")]

    await doppel.until(replies)
    return replies()[0]


async def say(doppel: Listening, place: Workspace, text: str) -> str:
    """What somebody alone reads after typing a command in a workspace."""
    return str(await doppel.answer_to(text, payloads=Payloads(doppel.slack, place)))


async def test_each_workspace_is_answered_by_its_own_people_alone(
    running: Listening, slack: FakeSlack, engine: FakeEngine
) -> None:
    acme, brick = slack.workspaces
    await installed(running, ACME, BRICK)
    assert "I am Ada" in (await asked(running, acme, "who are you?"))["text"]
    assert "I am Ben" in (await asked(running, brick, "who are you?"))["text"]
    assert [(persona.name, place.team) for persona, _, place in engine.asked if isinstance(place, Readership)] == [
        ("Ada", ACME),
        ("Ben", BRICK),
    ]
    texts = {m.team: m.text for m in running.archive.messages() if "password" in m.text}
    assert "walrus" in texts[ACME]
    assert "otter" in texts[BRICK]
    for place, own, other in ((acme, "Ada", "Ben"), (brick, "Ben", "Ada")):
        listed = await say(running, place, "list")
        assert own in listed
        assert other not in listed
        assert f'Nobody is called "{other}"' in await say(running, place, f"use {other}")
        assert "of 1 channels" in await say(running, place, "status")


async def test_ids_and_buttons_of_one_workspace_mean_nothing_in_another(
    running: Listening, slack: FakeSlack, archive: Archive
) -> None:
    acme, brick = slack.workspaces
    await installed(running, ACME, BRICK)
    for person in (archive.find_user("U1", ACME), archive.find_user("U1", BRICK)):
        archive.record_consent(person, ConsentAction.GRANT, "tests")
    await asked(running, acme, "who are you?")
    (told,) = answers(archive, ACME)
    assert "in a direct message" in await say(running, acme, "train <@U2>")
    (request,) = archive.bot(ACME).requests("open")
    theirs = Payloads(slack, brick)
    place = {"channel": "C1", "ts": next(iter(brick.find("C1").log))["ts"]}
    for action, value, user in (
        (AGREE, request.id, "U2"),
        (SHARE, told.id, "U2"),
        (FEEDBACK, f"like:{told.id}", "U2"),
    ):
        kind = "feedback_buttons" if action == FEEDBACK else "button"
        await running.act(theirs.block_action(action, value, user=user, kind=kind, **place))
    await say(running, brick, "forget me and my messages")
    # What was pressed before may be answered between.
    await running.until(lambda: "You were forgotten" in str(slack.responses.said))
    assert [found.id for found in archive.bot(ACME).requests("open")] == [request.id]
    assert (archive.feedback(), answers(archive, BRICK)) == ([], [])
    assert [r.action for r in archive.consent_records(archive.find_user("U1", ACME))] == [ConsentAction.GRANT]
    assert archive.find_user("U1", ACME).name == "Ada"
    assert any("walrus" in message.text for message in archive.messages())
    assert not any("otter" in message.text for message in archive.messages())


def answers(archive: Archive, team: str) -> list[Any]:
    with archive._engine.connect() as connection:
        return list(connection.execute(select(tables.answers).where(tables.answers.c.team == team)))


async def test_jobs_are_seen_and_cancelled_by_their_own_workspace(running: Listening, slack: FakeSlack) -> None:
    acme, brick = slack.workspaces
    await installed(running, ACME, BRICK)
    job = re.search(r"is job (\w+)", await say(running, acme, "reindex"))
    assert job
    assert job[1] in await say(running, acme, "status")
    assert job[1] not in await say(running, brick, "status")
    assert "No job of this workspace" in await say(running, brick, f"cancel {job[1]}")
    assert "cancelled" in await say(running, acme, f"cancel {job[1]}")


async def test_a_removed_app_does_nothing_more_and_its_data_goes(
    running: Listening, slack: FakeSlack, archive: Archive, tmp_path: Path
) -> None:
    acme, brick = slack.workspaces
    await installed(running, ACME, BRICK)
    ben = archive.find_user("U1", BRICK)
    archive.record_consent(ben, ConsentAction.GRANT, "tests")
    adapter = AdapterStore(running.run.settings.adapters_dir).folder(ben)
    publish(adapter, "what Ben writes like")
    await say(running, brick, "sync")
    slack.uninstall(brick)
    await running.until(lambda: archive.installations.get(BRICK) is None)
    gone = next(found for found in archive.installations.all() if found.team == BRICK)
    assert (gone.bot_token, gone.refresh_token) == ("", "")
    await running.until(lambda: not heard(running, BRICK))
    await running.until(lambda: all(job.has_ended for job in team_jobs(running, BRICK)))
    calls = len(slack.calls)
    brick.post("C1", "U2", f"<@{brick.bot_user}> still there?")
    await asyncio.sleep(0.5)
    assert len(slack.calls) == calls
    assert "I am Ada" in (await asked(running, acme, "and you?"))["text"]
    assert archive.counts(BRICK).messages > 0
    listed = doppel(tmp_path, "workspaces", "list").data["workspaces"]
    assert ["removed" in row["state"] for row in listed] == [False, True]
    assert await asyncio.to_thread(workspaces.erase_the_removed, running.run, archive) == []
    done = await asyncio.to_thread(doppel, tmp_path, "workspaces", "remove", BRICK)
    assert done.status == 0, done.stderr
    assert archive.counts(BRICK).messages == archive.counts(BRICK).users == 0
    assert archive.consent_records(ben) == []
    assert adapter.names() == []
    assert team_jobs(running, BRICK) == []
    assert archive.counts(ACME).messages > 0
    await installed(running, BRICK)
    assert "I am Ben" in (await asked(running, brick, "who?"))["text"]


def team_jobs(running: Listening, team: str) -> list[Any]:
    with Jobs(running.run.settings) as jobs:
        return [job for job in jobs.all() if team in job.arguments]


async def test_what_is_left_goes_after_the_grace_period(
    slack: FakeSlack, archive: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with open_to_all(slack, archive, tmp_path, "http", engine, DOPPEL_UNINSTALL_GRACE="1s") as running:
        await installed(running, ACME, BRICK)
        slack.uninstall(slack.workspaces[1])
        await running.until(lambda: archive.installations.get(BRICK) is None)
        await asyncio.sleep(1.2)
        assert await asyncio.to_thread(workspaces.erase_the_removed, running.run, archive) == [BRICK]
    assert archive.counts(BRICK).messages == 0
    assert [found.team for found in archive.installations.all()] == [ACME]


async def test_a_sync_reads_the_workspace_that_it_is_for(
    slack: FakeSlack, archive: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with open_to_all(slack, archive, tmp_path, "http", engine) as running:
        for team in (ACME, BRICK):
            await install(running, team)
        settings = running.run.settings
        environ = {
            "SLACK_API_URL": settings.slack_api_url,
            "SLACK_CLIENT_ID": settings.slack_client_id,
            "SLACK_CLIENT_SECRET": settings.slack_client_secret.get_secret_value(),
            "SLACK_SIGNING_SECRET": "x",
            "DOPPEL_PUBLIC_URL": running.url,
            "DOPPEL_TOKEN_KEYS": settings.token_keys.get_secret_value(),
        }
        unsaid = await asyncio.to_thread(doppel, tmp_path, "sync", environ=environ)
        assert f"name one with --team: {ACME}, {BRICK}" in unsaid.data["error"]
        done = await asyncio.to_thread(doppel, tmp_path, "sync", "--team", BRICK, environ=environ)
        assert done.status == 0, done.stderr
        # The server asked for a sync of each; whichever of them ran, each read its own workspace alone.
        texts = {team: " ".join(m.text for m in archive.messages() if m.team == team) for team in (ACME, BRICK)}
        assert archive.counts(BRICK).messages == 1
        assert ("otter" in texts[BRICK], "otter" in texts[ACME], "walrus" in texts[BRICK]) == (True, False, False)
        refused = await asyncio.to_thread(doppel, tmp_path, "sync", "--team", "T9", environ=environ)
        assert "not installed in the workspace T9" in refused.data["error"]


async def test_a_server_that_starts_with_a_new_key_needs_the_old_one_no_more(
    slack: FakeSlack, archive: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    old, new = new_key(), new_key()
    for keys in (old, f"{new},{old}", new):
        async with open_to_all(slack, archive, tmp_path, "http", engine, DOPPEL_TOKEN_KEYS=keys) as running:
            if keys == old:
                await installed(running, ACME)
            assert "I am Ada" in (await asked(running, slack.workspaces[0], "who are you?"))["text"]


async def test_an_installation_that_was_not_begun_here_is_refused(
    slack: FakeSlack, archive: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    async with open_to_all(slack, archive, tmp_path, "http", engine) as running:
        for changed in ({"state": "made up"}, {"state": ""}, {"code": "made up"}):
            page = await install(running, ACME, **changed)
            assert page.status_code == 403
            assert "was not installed" in page.text
        async with httpx2.AsyncClient() as browser, httpx2.AsyncClient() as other:
            sent = (await browser.get(f"{running.url}/slack/install")).headers["location"]
            back = (await browser.get(sent)).headers["location"]
            assert "another browser" in (await other.get(back)).text
            assert "Doppel is installed in Acme" in (await browser.get(back)).text
            assert "was not installed" in (await browser.get(back)).text
        slack.oauth.deny = True
        assert "Slack said no (access_denied)" in (await install(running, BRICK)).text
    assert [found.team for found in archive.installations.all()] == [ACME]


@pytest.fixture
def both(slack: FakeSlack, archive: Archive) -> Archive:
    """Both workspaces in one archive, without a server."""
    for place in slack.workspaces:
        sync(slack, archive, token=slack.add_token("bot", workspace=place).value)
    return archive


def test_the_engine_of_one_workspace_knows_nobody_of_another(both: Archive, tmp_path: Path) -> None:
    for team in (ACME, BRICK):
        both.record_consent(both.find_user("U1", team), ConsentAction.GRANT, "tests")
    nothing: Any = None
    whole = Engine(nothing, both, nothing, AdapterStore(tmp_path), nothing, nothing)
    for team, own, other in ((ACME, "Ada", "Ben"), (BRICK, "Ben", "Ada")):
        engine = whole.within(team)
        assert [person.name for person in asyncio.run(engine.personas())] == [own]
        assert asyncio.run(engine.persona("U1")).team == team
        for name in (other, other.lower()):
            with pytest.raises(UnknownUserError):
                asyncio.run(engine.persona(name))


def test_the_search_of_one_workspace_finds_nothing_of_another(both: Archive, tmp_path: Path) -> None:
    folder = VersionedFolder(tmp_path / "index", "index", "")
    reindex(both, folder, FakeEmbedder())
    retriever = IndexRetriever(folder, FakeEmbedder(), both)
    for team, own in ((ACME, "walrus"), (BRICK, "otter")):
        place = Readership.of_person(team, "U1", both.users())
        (found,) = retriever.retrieve("password of the door walrus otter", place.readable(both.channels()), 10)
        assert own in found.quote


def test_the_same_name_in_two_workspaces_is_told_apart(both: Archive, tmp_path: Path) -> None:
    done = doppel(tmp_path, "consent", "grant", "U1")
    assert done.status == 1
    assert "is in several workspaces" in done.data["error"]
    assert doppel(tmp_path, "consent", "grant", "ben").status == 1
    assert doppel(tmp_path, "consent", "grant", "ben", "--team", BRICK).status == 0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"SLACK_CLIENT_ID": "1.2"}, "SLACK_CLIENT_SECRET, DOPPEL_TOKEN_KEYS, DOPPEL_PUBLIC_URL"),
        (
            {
                "SLACK_CLIENT_ID": "1.2",
                "SLACK_CLIENT_SECRET": "s",
                "SLACK_SIGNING_SECRET": "s",
                "DOPPEL_PUBLIC_URL": "https://d.example",
            },
            "DOPPEL_TOKEN_KEYS",
        ),
        (
            {
                "SLACK_CLIENT_ID": "1.2",
                "SLACK_CLIENT_SECRET": "s",
                "SLACK_SIGNING_SECRET": "s",
                "DOPPEL_PUBLIC_URL": "https://d.example",
                "DOPPEL_TOKEN_KEYS": "abc",
            },
            "is no key",
        ),
    ],
)
def test_without_a_key_the_server_does_not_start(tmp_path: Path, given: dict[str, str], said: str) -> None:
    done = doppel(tmp_path, "serve", environ=given)
    assert done.status == 1
    assert said in done.data["error"]


def test_listening_wider_without_signing_in_is_refused_unless_a_setting_says_so(tmp_path: Path) -> None:
    done = doppel(tmp_path, "serve", "--host", "0.0.0.0")
    assert done.status == 1
    assert "DOPPEL_WEB_OPEN_TO_ANYONE" in done.data["error"]
