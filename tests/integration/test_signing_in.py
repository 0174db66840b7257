"""Signing in to the web chat with Slack: who comes in, what they may read, and what is theirs alone."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from playwright.async_api import expect

from doppel.access import Readership
from doppel.archive import Archive
from doppel.records import Persona
from doppel.web.auth import SESSION
from tests.browser import chromium
from tests.fakes.engine import FakeEngine
from tests.fakes.slack import TEAM, FakeSlack, Limits, Workspace
from tests.integration.test_workspaces import heard, install
from tests.listening import Listening, open_to_all
from tests.syncing import sync

OTHER = "T0FAKE0002"
ADA = Persona(TEAM, "U1", "Ada", "ada")


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    made, other = Workspace(), Workspace(OTHER, "Brick", bot_user="U0FAKEBOT2", bot_id="B0FAKEBOT2")
    made.user("ada", "Ada Lovelace", id="U1")
    made.user("grace", "Grace Hopper", id="U2")
    made.user("gus", "Gus Guest", id="U4", is_restricted=True)
    made.channel("general", "U1", "U2", id="C1")
    made.channel("secret", "U1", id="C2", kind="private")
    other.user("ada", "Another Ada", id="U1")
    other.channel("general", "U1", id="C1")
    with FakeSlack(made, other, limits=Limits.none(time_scale=20)) as running:
        yield running


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine([ADA, Persona(OTHER, "U1", "Ben", "ben")])


@pytest.fixture
async def doppel(slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine) -> AsyncIterator[Listening]:
    async with open_to_all(slack, synced, tmp_path, "http", engine) as running:
        await install(running, TEAM)
        await running.until(lambda: heard(running, TEAM))
        yield running


async def sign_in(doppel: Listening, browser: httpx2.AsyncClient, user: str, team: str = TEAM) -> httpx2.Response:
    """What a browser sees that comes back from Slack."""
    doppel.slack.oauth.user = user
    sent = (await browser.get(f"{doppel.url}/slack/sign-in")).headers["location"]
    back = await browser.get(httpx2.URL(sent).copy_merge_params({"team": team}))
    return await browser.get(back.headers["location"])


async def status(doppel: Listening, browser: httpx2.AsyncClient) -> int:
    """Of the web chat, asked for by a program."""
    return (await browser.get(f"{doppel.url}/config")).status_code


async def test_a_visitor_is_led_to_slack_and_back_and_asks_from_what_they_may_read(
    doppel: Listening, synced: Archive, engine: FakeEngine
) -> None:
    async with chromium() as browser:
        for user, name in (("U1", "ada"), ("U2", "grace")):
            doppel.slack.oauth.user = user
            page = await (await browser.new_context()).new_page()
            await page.goto(doppel.url)
            await expect(page.get_by_label("Whom to ask")).to_have_value("Ada")
            await expect(page.locator("#visitor")).to_contain_text(name)
            await page.get_by_label("Your question").fill("why?")
            await page.get_by_label("Your question").press("Enter")
            await expect(page.get_by_test_id("bot")).to_contain_text("About why?")
            assert engine.asked[-1][2] == Readership.of_person(TEAM, user, synced.users())
            await page.get_by_role("button", name="Sign out").click()
            await expect(page.get_by_role("heading")).to_have_text("You are signed out.")
    readable = [place.readable(synced.channels()) for _, _, place in engine.asked]
    assert readable == [{(TEAM, "C1"), (TEAM, "C2")}, {(TEAM, "C1")}]


async def test_people_of_another_workspace_meet_their_own_alone(
    doppel: Listening, slack: FakeSlack, synced: Archive, engine: FakeEngine
) -> None:
    await install(doppel, OTHER)
    sync(slack, synced, token=slack.add_token("bot", workspace=slack.workspaces[1]).value)
    async with chromium() as browser, httpx2.AsyncClient() as visitor:
        await sign_in(doppel, visitor, "U1", OTHER)
        context = await browser.new_context()
        await context.add_cookies([{"name": SESSION, "value": visitor.cookies[SESSION], "url": doppel.url}])
        page = await context.new_page()
        await page.goto(doppel.url)
        await expect(page.get_by_label("Whom to ask")).to_have_value("Ben")
        await page.get_by_label("Whom to ask").click()
        await expect(page.get_by_role("option")).to_have_count(1)
        await page.get_by_label("Your question").fill("why?")
        await page.get_by_label("Your question").press("Enter")
        await expect(page.get_by_test_id("bot")).to_contain_text("About why?")
    ((persona, _, place),) = engine.asked
    assert (persona.name, place) == ("Ben", Readership.of_person(OTHER, "U1", synced.users()))
    assert {team for team, _ in place.readable(synced.channels())} == {OTHER}


async def test_nothing_is_to_be_had_without_signing_in(doppel: Listening) -> None:
    async with httpx2.AsyncClient() as browser:
        for path in ("/config", "/gradio_api/info", "/gradio_api/queue/data?session_hash=x", "/theme.css"):
            assert (await browser.get(doppel.url + path)).status_code == 401
        body = {"data": [None], "fn_index": 0, "session_hash": "x"}
        assert (await browser.post(f"{doppel.url}/gradio_api/queue/join", json=body)).status_code == 401
        page = await browser.get(doppel.url, headers={"accept": "text/html"})
        assert (page.status_code, page.headers["location"]) == (303, "/slack/sign-in")
        browser.cookies.set(SESSION, "made up")
        assert await status(doppel, browser) == 401


async def test_the_cookie_is_hidden_from_scripts_and_only_its_hash_is_kept(doppel: Listening, synced: Archive) -> None:
    async with httpx2.AsyncClient() as browser:
        answer = await sign_in(doppel, browser, "U1")
        cookie = next(c for c in answer.headers.get_list("set-cookie") if c.startswith(SESSION))
        assert "HttpOnly" in cookie
        assert "SameSite=lax" in cookie
        assert await status(doppel, browser) == 200
        with synced._engine.connect() as connection:
            kept = str(connection.exec_driver_sql("SELECT * FROM web_sessions").all())
        assert "U1" in kept
        assert browser.cookies[SESSION] not in kept


async def test_strangers_and_those_who_left_do_not_come_in(
    doppel: Listening, slack: FakeSlack, synced: Archive
) -> None:
    async with httpx2.AsyncClient() as browser:
        assert "has not installed Doppel" in (await sign_in(doppel, browser, "U1", OTHER)).text
        assert "does not know you yet" in (await sign_in(doppel, browser, slack.workspace.bot_user)).text
        slack.workspace.user("mallory", id="../U1")
        assert "did not say who signed in" in (await sign_in(doppel, browser, "../U1")).text
        slack.oauth.deny = True
        assert "Slack said no" in (await sign_in(doppel, browser, "U1")).text
        slack.oauth.deny = False
        assert await status(doppel, browser) == 401
        await sign_in(doppel, browser, "U2")
        assert await status(doppel, browser) == 200
        slack.workspace.update_user("U2", deleted=True)
        await doppel.until(lambda: synced.find_user("U2").deleted)
        assert await status(doppel, browser) == 401
        await sign_in(doppel, browser, "U1")
        assert await status(doppel, browser) == 200
        slack.uninstall()
        await doppel.until(lambda: synced.installations.get(TEAM) is None)
        assert await status(doppel, browser) == 401


async def test_what_comes_back_from_slack_must_be_what_went_there(doppel: Listening) -> None:
    async with httpx2.AsyncClient() as browser, httpx2.AsyncClient() as victim:
        sent = httpx2.URL((await browser.get(f"{doppel.url}/slack/sign-in")).headers["location"])
        back = httpx2.URL((await browser.get(sent)).headers["location"])
        assert "another browser" in (await victim.get(back)).text
        installing = httpx2.URL((await browser.get(f"{doppel.url}/slack/install")).headers["location"])
        wrong = back.copy_set_param("state", installing.params["state"])
        assert "another browser" in (await browser.get(wrong)).text
        sent = httpx2.URL((await browser.get(f"{doppel.url}/slack/sign-in")).headers["location"])
        back = httpx2.URL((await browser.get(sent.copy_set_param("nonce", "made up"))).headers["location"])
        assert "for another sign-in" in (await browser.get(back)).text
        assert await status(doppel, browser) == await status(doppel, victim) == 401


async def test_an_id_token_of_another_app_or_signed_by_another_is_refused(
    doppel: Listening, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.fakes.slack import jwt, oauth

    async with httpx2.AsyncClient() as browser:
        monkeypatch.setattr(oauth, "id_token", lambda claims: jwt.id_token({**claims, "aud": "9999.0000"}))
        assert "not for this app" in (await sign_in(doppel, browser, "U1")).text
        signed = jwt.id_token
        monkeypatch.setattr(oauth, "id_token", lambda claims: signed(claims)[:-8] + "AAAAAAAA")
        assert "not signed by Slack" in (await sign_in(doppel, browser, "U1")).text
        monkeypatch.setattr(oauth, "id_token", lambda claims: jwt.id_token({**claims, "exp": 1}))
        assert "begin again" in (await sign_in(doppel, browser, "U1")).text
        assert await status(doppel, browser) == 401


async def test_a_conversation_is_its_owners_alone(doppel: Listening, engine: FakeEngine) -> None:
    async with chromium() as browser, httpx2.AsyncClient(timeout=20) as thief:
        doppel.slack.oauth.user = "U1"
        page = await (await browser.new_context()).new_page()
        async with page.expect_request("**/queue/join*") as request:
            await page.goto(doppel.url)
            await expect(page.get_by_label("Whom to ask")).to_have_value("Ada")
            await page.get_by_label("Your question").fill("my secret?")
            await page.get_by_label("Your question").press("Enter")
        await expect(page.get_by_test_id("bot")).to_contain_text("About my secret?")
        body: Any = (await request.value).post_data_json
        await sign_in(doppel, thief, "U2")
        hash_, join = body["session_hash"], f"{doppel.url}/gradio_api/queue/join"
        assert (await thief.get(f"{doppel.url}/gradio_api/queue/data?session_hash={hash_}")).status_code == 403
        body["data"] = [None, "what did she ask?"]
        asked = len(engine.asked)
        taken = await thief.post(f"{join}?session_hash=", json=body)
        await asyncio.sleep(1)
        assert taken.status_code in (200, 403)
        assert len(engine.asked) == asked
        await expect(page.get_by_test_id("bot")).to_have_count(1)


async def test_without_signing_in_only_this_machine_reads(
    slack: FakeSlack, synced: Archive, tmp_path: Path, engine: FakeEngine
) -> None:
    from tests.listening import listening

    async with listening(slack, synced, tmp_path, "http", engine) as doppel, httpx2.AsyncClient() as browser:
        assert await status(doppel, browser) == 200
        for name, value in (("host", "doppel.example.org"), ("x-forwarded-for", "203.0.113.9")):
            answer = await browser.get(f"{doppel.url}/config", headers={name: value})
            assert (answer.status_code, "on its own machine only" in answer.text) == (403, True)
        assert (await browser.post(f"{doppel.url}/slack/events", headers={"host": "doppel.example.org"})).text != ""
