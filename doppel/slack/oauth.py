"""What Slack and Doppel say to each other when the app is installed or somebody signs in.

https://docs.slack.dev/authentication/installing-with-oauth, https://docs.slack.dev/authentication/sign-in-with-slack
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urljoin

import jwt
from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError
from slack_sdk.web import SlackResponse

from doppel.errors import ConfigError, SlackError
from doppel.ids import is_id
from doppel.keys import Keys
from doppel.records import Raw
from doppel.slack.api import BROKEN, NOT_JSON
from doppel.slack.failing import is_refusal, reason
from doppel.slack.log_redaction import silent_logger

ISSUER = "https://slack.com"
STATE_SECONDS = 600
"""How long somebody may take at Slack's page."""
TIMEOUT_SECONDS = 30
SIGN_IN_SCOPES = "openid profile"


@dataclass(frozen=True, slots=True)
class Person:
    """Who signed in, and the workspace they did so for."""

    team: str
    user: str


class States:
    """What a browser is sent to Slack with, and must come back with: nobody can make it up, or use another's."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys

    def new(self, purpose: str) -> tuple[str, str]:
        """A secret for the browser to keep, and the state that goes with it."""
        secret = secrets.token_urlsafe(24)
        return secret, self._keys.seal(f"{purpose} {secret}")

    def is_valid(self, purpose: str, secret: str, state: str) -> bool:
        """Whether a state is ours, for this, fresh, and of the browser that kept `secret`."""
        try:
            opened = self._keys.open(state, STATE_SECONDS)
        except ConfigError:
            return False
        return bool(secret) and hmac.compare_digest(opened.encode(), f"{purpose} {secret}".encode())


def nonce_of(secret: str) -> str:
    """What ties an id token to the browser that kept `secret`."""
    return hashlib.sha256(secret.encode()).hexdigest()


class OAuthClient:
    """Slack's side of it. `api_url` ends in /api/, `redirect` is the address that browsers come back to."""

    def __init__(self, api_url: str, client_id: str, client_secret: str) -> None:
        self._api = f"{api_url.rstrip('/')}/"
        self._id, self._secret = client_id, client_secret
        # Nothing is sent again: a code is good for once. Its async twin would use what aiohttp has deprecated.
        self._client = WebClient(
            base_url=self._api, timeout=TIMEOUT_SECONDS, retry_handlers=[], logger=silent_logger("doppel.slack.oauth")
        )
        self._keys = jwt.PyJWKClient(urljoin(self._api, "../openid/connect/keys"), timeout=TIMEOUT_SECONDS)

    def install_page(self, scopes: list[str], state: str, redirect: str) -> str:
        """Where a browser is sent to install the app."""
        asked = {"scope": ",".join(scopes), "state": state, "client_id": self._id, "redirect_uri": redirect}
        return f"{urljoin(self._api, '../oauth/v2/authorize')}?{urlencode(asked)}"

    def sign_in_page(self, state: str, nonce: str, redirect: str) -> str:
        """Where a browser is sent to sign in."""
        asked = {"response_type": "code", "scope": SIGN_IN_SCOPES, "state": state, "nonce": nonce}
        where = {"client_id": self._id, "redirect_uri": redirect}
        return f"{urljoin(self._api, '../openid/connect/authorize')}?{urlencode(asked | where)}"

    async def installed(self, code: str, redirect: str) -> Raw:
        """The answer of oauth.v2.access. Raises SlackError."""
        return await self._redeem(self._client.oauth_v2_access, code, redirect)

    async def signed_in(self, code: str, redirect: str, nonce: str) -> Person:
        """Who signed in, by a verified id token. Raises SlackError."""
        answer = await self._redeem(self._client.openid_connect_token, code, redirect)
        claims = await self._verified(str(answer.get("id_token") or ""))
        if not hmac.compare_digest(str(claims.get("nonce") or ""), nonce):
            raise SlackError("Slack answered for another sign-in; begin again.")
        team, user = (str(claims.get(f"{ISSUER}/{name}") or "") for name in ("team_id", "user_id"))
        if not is_id(team) or not is_id(user):
            raise SlackError("Slack did not say who signed in; begin again.")
        return Person(team, user)

    async def _redeem(self, exchange: Callable[..., SlackResponse], code: str, redirect: str) -> Raw:
        try:
            answer = await asyncio.to_thread(
                exchange, code=code, redirect_uri=redirect, client_id=self._id, client_secret=self._secret
            )
        except (*BROKEN, *NOT_JSON) as error:
            refused = reason(error)
            if isinstance(error, SlackApiError) and is_refusal(error):
                raise SlackError(f"Slack refused ({refused}); begin again.", refused) from None
            raise SlackError("Slack could not be reached; try again.") from None
        if not isinstance(answer.data, dict):
            raise SlackError("Slack could not be reached; try again.")
        return answer.data

    async def _verified(self, id_token: str) -> Mapping[str, Any]:
        try:
            key = await asyncio.to_thread(self._keys.get_signing_key_from_jwt, id_token)
            claims: dict[str, Any] = jwt.decode(
                id_token, key, algorithms=["RS256"], audience=self._id, issuer=ISSUER, leeway=30
            )
        except jwt.PyJWKClientConnectionError:
            raise SlackError("Slack could not be reached; try again.") from None
        except jwt.PyJWTError:
            raise SlackError("Slack's answer is not signed by Slack, or not for this app; begin again.") from None
        return claims
