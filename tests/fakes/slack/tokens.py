"""Tokens: who calls, what they may, and whether the token still works."""

from __future__ import annotations

import secrets
import time
from dataclasses import dataclass, field
from typing import Literal

from tests.fakes.slack.workspace import Workspace

TokenKind = Literal["bot", "user", "app"]
TokenState = Literal["active", "token_revoked", "account_inactive", "token_expired"]

READ_SCOPES = frozenset(
    f"{family}:{right}" for family in ("channels", "groups", "mpim", "im") for right in ("read", "history")
) | {"users:read", "usergroups:read", "team:read", "reactions:read"}
BOT_SCOPES = READ_SCOPES | {
    "app_mentions:read",
    "assistant:write",
    "channels:join",
    "chat:write",
    "chat:write.customize",
    "commands",
    "im:write",
    "mpim:write",
    "reactions:write",
}
SCOPES: dict[TokenKind, frozenset[str]] = {
    "bot": BOT_SCOPES,
    "user": READ_SCOPES,
    "app": frozenset({"connections:write"}),
}
_PREFIXES: dict[TokenKind, str] = {"bot": "xoxb", "user": "xoxp", "app": "xapp"}


@dataclass(eq=False)
class Token:
    """One token; its scopes and its state may be changed at any time."""

    value: str
    kind: TokenKind
    workspace: Workspace
    user: str
    scopes: set[str] = field(default_factory=set)
    state: TokenState = "active"
    expires_at: float | None = None
    refresh_token: str | None = None

    @property
    def error(self) -> str | None:
        """Slack's error code where the token doesn't work (any more)."""
        expired = self.expires_at is not None and time.time() >= self.expires_at
        return "token_expired" if expired else None if self.state == "active" else self.state


def new_secret(kind: TokenKind) -> str:
    """A token's text."""
    return f"{_PREFIXES[kind]}-{secrets.token_hex(12)}"
