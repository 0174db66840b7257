"""Tokens of the workspaces that installed the app: read from the archive, and fetched anew before they expire.

https://docs.slack.dev/authentication/using-token-rotation
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError

from doppel.archive.installations import Installation, Installations, active
from doppel.errors import SlackError, SlackTokenError
from doppel.keys import Keys
from doppel.slack.api import BROKEN, NOT_JSON
from doppel.slack.log_redaction import silent_logger

EARLY_MICROS = 2 * 3600 * 1_000_000
"""How long before it expires a token is fetched anew; Slack's last twelve hours."""
LEASE_MICROS = 60 * 1_000_000
"""How long one process may take for it."""
_REJECTED = {"invalid_refresh_token", "token_revoked", "invalid_auth", "account_inactive"}


class Tokens:
    """Tokens by workspace. `token` blocks, and is safe from several threads and processes."""

    def __init__(
        self,
        store: Installations,
        keys: Keys,
        api_url: str,
        client_id: str,
        client_secret: str,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._keys, self._now = store, keys, now
        self._id, self._secret = client_id, client_secret
        self._client = WebClient(base_url=f"{api_url.rstrip('/')}/", logger=silent_logger("doppel.services.tokens"))

    def token(self, team: str) -> str:
        """The bot's token in a workspace, fetched anew where it would soon expire.

        Raises SlackTokenError where the app isn't installed there, or must be installed anew; ConfigError.
        """
        found = self._store.get(team)
        if found is None or not found.bot_token:
            raise SlackTokenError(f"Doppel is not installed in the workspace {team}; install it there.")
        if self._is_due(found):
            self._refresh(team)
            found = self._store.get(team) or found
        return self._keys.open(found.bot_token)

    def sealed(self, raw: Mapping[str, Any]) -> tuple[str, str, int | None]:
        """The tokens in an answer of oauth.v2.access, encrypted, and when the first expires."""
        seconds = raw.get("expires_in")
        expires = self._micros() + int(seconds) * 1_000_000 if seconds else None
        return self._keys.seal(str(raw["access_token"])), self._keys.seal(str(raw.get("refresh_token") or "")), expires

    def seal_again(self) -> None:
        """Encrypt every token under the first key, so that the others can be taken out of the settings.

        One that another process fetches anew just now is left to that process, which has the same settings.
        """
        for found in active(self._store.all()):
            with self._leased(found.team) as held:
                if held and held.bot_token:
                    again = (self._keys.seal_again(held.bot_token), self._keys.seal_again(held.refresh_token))
                    self._store.renew(held.team, *again, held.expires)

    def _is_due(self, found: Installation) -> bool:
        return found.expires is not None and self._micros() > found.expires - EARLY_MICROS

    def _refresh(self, team: str) -> None:
        """Fetch new tokens unless another process does; a refresh token is good for once."""
        with self._leased(team) as held:
            if held and self._is_due(held):
                self._store.renew(team, *self._fetched(held))

    @contextmanager
    def _leased(self, team: str) -> Iterator[Installation | None]:
        """An installation whose tokens nobody else may change meanwhile, as it is then; None where another does."""
        now = self._micros()
        if not self._store.lease(team, now, now + LEASE_MICROS):
            yield None
            return
        try:
            # Read only now: who had the right before may have used the refresh token up.
            yield self._store.get(team)
        finally:
            self._store.give_back(team)

    def _fetched(self, found: Installation) -> tuple[str, str, int | None]:
        try:
            answer = self._client.oauth_v2_access(
                client_id=self._id,
                client_secret=self._secret,
                grant_type="refresh_token",
                refresh_token=self._keys.open(found.refresh_token),
            )
        except SlackApiError as error:
            code = str(error.response.get("error") or "")
            if code in _REJECTED:
                raise SlackTokenError(f"Slack gives {found.team} no new token ({code}); install Doppel anew.") from None
            raise SlackError(f"Slack gives {found.team} no new token now ({code}); trying again later.") from None
        except (*BROKEN, *NOT_JSON) as error:
            raise SlackError(f"Slack could not be reached for a new token ({type(error).__name__}).") from None
        raw = answer.data
        if not isinstance(raw, dict):
            raise SlackError("Slack could not be reached for a new token (its answer is no JSON).")
        return self.sealed(raw)

    def _micros(self) -> int:
        return round(self._now() * 1e6)
