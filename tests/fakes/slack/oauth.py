"""Installing the app, signing in with Slack, and giving tokens back
(https://docs.slack.dev/authentication/installing-with-oauth, .../sign-in-with-slack).

Whoever opens the authorize page agrees at once, as `FakeSlack.oauth.user`, unless `deny` is set.
"""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from tests.fakes.slack.api_read import Handler
from tests.fakes.slack.call import Call, SlackError
from tests.fakes.slack.channels import Json
from tests.fakes.slack.jwt import id_token, public_keys
from tests.fakes.slack.tokens import Token, TokenKind, new_secret
from tests.fakes.slack.workspace import Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

_TOKEN_SECONDS, _CODE_SECONDS = 43_200.0, 600.0


@dataclass(frozen=True)
class Grant:
    """What someone agreed to, behind a code that can be used once."""

    workspace: Workspace
    user: str
    redirect_uri: str
    scopes: frozenset[str]
    user_scopes: frozenset[str]
    nonce: str
    expires: float


class OAuth:
    """The authorize pages. `user` is who agrees (by default the first person of the workspace)."""

    def __init__(self, slack: FakeSlack) -> None:
        self.user: str | None = None
        self.deny = False
        self._slack, self._grants = slack, dict[str, Grant]()

    async def authorize(self, request: Request) -> Response:
        """/oauth/v2/authorize and /openid/connect/authorize: back to the app with a code and its state."""
        given = request.query_params
        uri = given.get("redirect_uri", "") or next(iter(self._slack.app.redirect_uris), "")
        if given.get("client_id") != self._slack.app.client_id:
            return PlainTextResponse("invalid_client_id", 400)
        if not uri or (self._slack.app.redirect_uris and not uri.startswith(self._slack.app.redirect_uris)):
            return PlainTextResponse("bad_redirect_uri", 400)
        openid = request.url.path.startswith("/openid")
        answer = {"error": "access_denied"} if self.deny else {"code": self._grant(dict(given), uri, openid)}
        state = {"state": given["state"]} if "state" in given else {}
        return RedirectResponse(f"{uri}{'&' if '?' in uri else '?'}{urlencode({**answer, **state})}", 302)

    async def keys(self, request: Request) -> Response:
        """/openid/connect/keys: what id tokens are verified with."""
        return JSONResponse(public_keys())

    def redeem(self, code: str, redirect_uri: str) -> Grant:
        """What a code stands for; raises SlackError."""
        grant = self._grants.pop(code, None)
        if grant is None:
            raise SlackError("invalid_code")
        if redirect_uri and redirect_uri != grant.redirect_uri:
            raise SlackError("bad_redirect_uri")
        if time.monotonic() >= grant.expires:
            raise SlackError("code_expired")
        return grant

    def _grant(self, given: dict[str, str], uri: str, openid: bool) -> str:
        team = given.get("team")
        workspace = next((place for place in self._slack.workspaces if place.team == team), self._slack.workspace)
        person = next((user["id"] for user in workspace.users.values() if not user.get("is_bot")), workspace.bot_user)
        scopes, user_scopes = _split(given.get("scope", "")), _split(given.get("user_scope", ""))
        code = f"{secrets.randbelow(10**10)}.{secrets.token_hex(16)}"
        self._grants[code] = Grant(
            workspace=workspace,
            user=self.user or person,
            redirect_uri=uri,
            scopes=frozenset() if openid else scopes,
            user_scopes=scopes if openid else user_scopes,
            nonce=given.get("nonce", ""),
            expires=time.monotonic() + _CODE_SECONDS / self._slack.time_scale,
        )
        return code


def oauth_v2_access(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/oauth.v2.access"""
    _check_client(call)
    if call.text("grant_type") == "refresh_token":
        return _refresh(call)
    if call.text("grant_type", "authorization_code") != "authorization_code":
        raise SlackError("invalid_grant_type")
    grant = call.slack.oauth.redeem(call.need("code"), call.text("redirect_uri"))
    person: Json = {"id": grant.user}
    if grant.user_scopes:
        theirs = _issue(call, "user", grant.workspace, grant.user, grant.user_scopes)
        person |= {**_granted(call, theirs), "token_type": "user"}
    answer = {"authed_user": person, **_installed(call, grant.workspace)}
    if grant.scopes:
        token = _issue(call, "bot", grant.workspace, grant.workspace.bot_user, grant.scopes)
        answer |= {**_granted(call, token), "token_type": "bot", "bot_user_id": grant.workspace.bot_user}
    return answer


def openid_connect_token(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/openid.connect.token"""
    _check_client(call)
    grant = call.slack.oauth.redeem(call.need("code"), call.text("redirect_uri"))
    if "openid" not in grant.user_scopes:
        raise SlackError("missing_scope", needed="openid", provided=",".join(sorted(grant.user_scopes)))
    token = _issue(call, "user", grant.workspace, grant.user, grant.user_scopes)
    claims = _claims(grant.workspace, grant.user, token.scopes)
    signed = id_token({**claims, "aud": call.slack.app.client_id, "nonce": grant.nonce})
    return {"access_token": token.value, "token_type": "Bearer", "id_token": signed, "state": ""}


def openid_connect_user_info(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/openid.connect.userInfo"""
    return _claims(call.workspace, call.token.user, call.token.scopes)


def auth_revoke(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/auth.revoke"""
    if call.flag("test"):
        return {"revoked": False}
    token, workspace = call.token, call.workspace
    token.state = "token_revoked"
    revoked: Json = {"oauth": [], "bot": [], "bot" if token.kind == "bot" else "oauth": [token.user]}
    workspace.emit({"type": "tokens_revoked", "tokens": revoked})
    return {"revoked": True}


def _refresh(call: Call) -> Json:
    given = call.need("refresh_token")
    old = next((token for token in call.slack.tokens.values() if token.refresh_token == given), None)
    if old is None:
        raise SlackError("invalid_refresh_token")
    old.refresh_token = None
    token = _issue(call, old.kind, old.workspace, old.user, frozenset(old.scopes))
    who = {"bot_user_id": old.workspace.bot_user} if old.kind == "bot" else {}
    return {**_installed(call, old.workspace), **_granted(call, token), "token_type": old.kind, **who}


def _check_client(call: Call) -> None:
    given = call.basic or (call.text("client_id"), call.text("client_secret"))
    if given[0] != call.slack.app.client_id:
        raise SlackError("invalid_client_id")
    if given[1] != call.slack.app.client_secret:
        raise SlackError("bad_client_secret")


def _issue(call: Call, kind: TokenKind, workspace: Workspace, user: str, scopes: frozenset[str]) -> Token:
    slack = call.slack
    if not slack.behaviour.token_rotation:
        return slack.add_token(kind, workspace=workspace, user=user, scopes=set(scopes))
    value = f"xoxe.{new_secret(kind)}"
    token = slack.add_token(kind, workspace=workspace, user=user, scopes=set(scopes), value=value)
    token.refresh_token = f"xoxe-1-{secrets.token_hex(16)}"
    token.expires_at = time.time() + _TOKEN_SECONDS / slack.time_scale
    return token


def _granted(call: Call, token: Token) -> Json:
    granted = {"access_token": token.value, "scope": ",".join(sorted(token.scopes))}
    if token.refresh_token is None:
        return granted
    lasts = max(1, int(_TOKEN_SECONDS / call.slack.time_scale))
    return {**granted, "refresh_token": token.refresh_token, "expires_in": lasts}


def _installed(call: Call, workspace: Workspace) -> Json:
    where = {"team": {"id": workspace.team, "name": workspace.name}, "enterprise": None}
    return {"app_id": call.slack.app.app_id, **where, "is_enterprise_install": False}


def _claims(workspace: Workspace, user: str, scopes: set[str]) -> Json:
    who = workspace.users[user]
    profile, slack = who.get("profile", {}), "https://slack.com"
    claims: Json = {"sub": user, f"{slack}/user_id": user, f"{slack}/team_id": workspace.team}
    if "profile" in scopes:
        claims |= {"name": who.get("real_name", ""), "locale": "en-US", f"{slack}/team_name": workspace.name}
    if "email" in scopes:
        claims |= {"email": profile.get("email", f"{who['name']}@example.com"), "email_verified": True}
    return claims


def _split(scopes: str) -> frozenset[str]:
    return frozenset(scopes.replace(",", " ").split())


METHODS: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "oauth.v2.access": (oauth_v2_access, ()),
    "openid.connect.token": (openid_connect_token, ()),
    "openid.connect.userInfo": (openid_connect_user_info, ("openid",)),
    "auth.revoke": (auth_revoke, ()),
}
