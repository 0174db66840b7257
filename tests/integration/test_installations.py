"""Tokens of the workspaces that installed the app: encrypted, fetched anew in time, gone when the app is removed."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from slack_sdk import WebClient
from sqlalchemy import text

from doppel.archive import Archive
from doppel.archive.installations import MAX_SESSIONS, Installation, WebSession
from doppel.errors import ConfigError, SlackTokenError
from doppel.keys import Keys, new_key
from doppel.services.tokens import EARLY_MICROS, Tokens
from tests.fakes.slack import BOT, TEAM, FakeSlack, Workspace

HOUR = 3600 * 1_000_000


@pytest.fixture
def slack() -> Iterator[FakeSlack]:
    with FakeSlack(Workspace()) as running:
        running.behaviour.token_rotation = True
        yield running


def tokens_of(slack: FakeSlack, archive: Archive, keys: Keys) -> Tokens:
    return Tokens(archive.installations, keys, slack.api_url, slack.app.client_id, slack.app.client_secret)


def installed(slack: FakeSlack, archive: Archive, tokens: Tokens) -> Installation:
    """Install the app as somebody's browser would."""
    import httpx2

    asked = {"client_id": slack.app.client_id, "scope": "chat:write,users:read", "redirect_uri": "https://d.example/"}
    page = httpx2.get(slack.api_url.replace("/api/", "/oauth/v2/authorize"), params=asked)
    code = page.headers["location"].split("code=")[1]
    client = WebClient(base_url=slack.api_url)
    answer = client.oauth_v2_access(
        client_id=slack.app.client_id, client_secret=slack.app.client_secret, code=code
    ).data
    assert isinstance(answer, dict)
    bot_token, refresh_token, expires = tokens.sealed(answer)
    made = Installation(TEAM, "Acme", BOT, bot_token, refresh_token, expires, "U1", 1)
    archive.installations.put(made)
    return made


def works(slack: FakeSlack, token: str) -> bool:
    return bool(WebClient(token, base_url=slack.api_url).auth_test()["ok"])


def test_a_token_is_encrypted_in_the_database_and_works(slack: FakeSlack, archive: Archive) -> None:
    tokens = tokens_of(slack, archive, Keys(new_key()))
    installed(slack, archive, tokens)
    token = tokens.token(TEAM)
    assert works(slack, token)
    with archive._engine.connect() as connection:
        stored = str(connection.execute(text("SELECT * FROM installations")).all())
    assert BOT in stored
    assert "xox" not in stored
    assert token not in stored


def test_a_token_is_fetched_anew_before_it_expires_by_one_of_many(slack: FakeSlack, archive: Archive) -> None:
    tokens = tokens_of(slack, archive, Keys(new_key()))
    made = installed(slack, archive, tokens)
    first = tokens.token(TEAM)
    assert slack.count("oauth.v2.access") == 1
    assert made.expires is not None
    archive.installations.put(replace(made, expires=made.expires - 12 * HOUR + EARLY_MICROS // 2))
    with ThreadPoolExecutor(6) as pool:
        found = set(pool.map(lambda _: tokens_of(slack, archive, tokens._keys).token(TEAM), range(6)))
    assert slack.count("oauth.v2.access") == 2
    assert found <= {first, tokens.token(TEAM)}
    assert tokens.token(TEAM) != first
    assert works(slack, tokens.token(TEAM))


def test_a_refused_refresh_says_to_install_anew(slack: FakeSlack, archive: Archive) -> None:
    keys = Keys(new_key())
    tokens = tokens_of(slack, archive, keys)
    made = installed(slack, archive, tokens)
    archive.installations.put(replace(made, expires=1, refresh_token=keys.seal("xoxe-1-used")))
    with pytest.raises(SlackTokenError, match="install Doppel anew"):
        tokens.token(TEAM)


def test_keys_are_rotated_and_a_lost_key_is_said(slack: FakeSlack, archive: Archive) -> None:
    old, new = new_key(), new_key()
    tokens = tokens_of(slack, archive, Keys(old))
    installed(slack, archive, tokens)
    token = tokens.token(TEAM)
    both = tokens_of(slack, archive, Keys(f"{new},{old}"))
    assert both.token(TEAM) == token
    both.seal_again()
    assert tokens_of(slack, archive, Keys(new)).token(TEAM) == token
    with pytest.raises(ConfigError, match="DOPPEL_TOKEN_KEYS"):
        tokens.token(TEAM)


@pytest.mark.parametrize("setting", ["", " , ", "abc", "{key},x"])
def test_a_wrong_key_is_one_sentence(setting: str) -> None:
    with pytest.raises(ConfigError, match="doppel workspaces key"):
        Keys(setting.format(key=new_key()))


def test_a_removed_app_has_no_tokens_and_nobody_signed_in(slack: FakeSlack, archive: Archive) -> None:
    tokens, store = tokens_of(slack, archive, Keys(new_key())), archive.installations
    made = installed(slack, archive, tokens)
    store.add_session(WebSession(TEAM, "hash", "U1", 2 * HOUR), now=HOUR)
    assert store.session("hash", HOUR) is not None
    assert store.session("hash", 2 * HOUR) is None
    assert store.remove(TEAM, at=5)
    assert not store.remove(TEAM, at=6)
    (left,) = store.all()
    assert left == replace(made, bot_token="", refresh_token="", expires=None, removed_at=5)
    assert store.session("hash", HOUR) is None
    store.renew(TEAM, "late", "late", None)
    assert store.all() == [left]
    with pytest.raises(SlackTokenError, match="not installed"):
        tokens.token(TEAM)


def test_sessions_end_and_those_that_are_over_go(archive: Archive) -> None:
    store = archive.installations
    store.add_session(WebSession("T1", "a", "U1", 10), now=1)
    store.add_session(WebSession("T2", "b", "U1", 30), now=20)
    assert store.session("a", 5) is None
    assert store.session("b", 25) == WebSession("T2", "b", "U1", 30)
    store.end_session("b")
    assert store.session("b", 25) is None


def test_one_person_is_signed_in_with_so_many_browsers_and_the_oldest_go(archive: Archive) -> None:
    store = archive.installations
    store.add_session(WebSession("T1", "another's", "U2", 1_000), 1)
    for number in range(MAX_SESSIONS + 5):
        store.add_session(WebSession("T1", f"s{number}", "U1", 1_000 + number), 1)
    kept = [number for number in range(MAX_SESSIONS + 5) if store.session(f"s{number}", 2)]
    assert kept == list(range(5, MAX_SESSIONS + 5))
    assert store.session("another's", 2)
