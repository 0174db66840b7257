"""Slack's Web API, called politely: under a shared budget, again after what passes by itself, with errors as sentences.

Methods and errors: https://docs.slack.dev/reference/methods
"""

from __future__ import annotations

import http.client
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.error import URLError

from slack_sdk import WebClient
from slack_sdk.errors import SlackApiError, SlackClientError
from slack_sdk.web import SlackResponse

from doppel.errors import SlackError, SlackTokenError
from doppel.slack.budget import Budget, Clock
from doppel.slack.log_redaction import silent_logger
from doppel.slack.members import error_of, part_of

TIMEOUT_SECONDS = 30
FIRST_TIMEOUT_SECONDS = 10
"""For a server that never yet answered as Slack does."""
MAX_TRIES = 12
MAX_WAIT_SECONDS = 900.0
"""How long one call may be put off by refusals and failures, beyond what the budget makes it wait."""
FIRST_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 60.0
DEFAULT_RETRY_AFTER = 30.0
TOLD_SECONDS = 2.0
"""Waits from here on are announced, one at a time."""
MAX_EMPTY_PAGES = 100
"""Pages without anything that follow one another; Slack may give some, but not for ever."""
FIRST_TRIES = 3
"""How often a server is tried that never yet answered as Slack does: it's more likely a wrong setting than a pause."""

_PASSING = {"fatal_error", "internal_error", "request_timeout", "service_unavailable", "ratelimited"}
_TOKEN = {
    "account_inactive": "The account of the Slack token was deactivated",
    "invalid_auth": "Slack does not know the token",
    "not_authed": "There is no Slack token",
    "token_expired": "The Slack token has expired",
    "token_revoked": "The Slack token was revoked",
    "team_access_not_granted": "The Slack token is not for this workspace",
}
SENTENCES = {
    "channel_not_found": "The app can't see it; invite the bot.",
    "is_archived": "It is archived.",
    "not_in_channel": "The bot is not in it; invite it, or join public channels with --join.",
    "method_not_supported_for_channel_type": "Slack gives the app nothing of such a channel.",
}

_NO_METHOD = (404, 405)
"""How emulators answer to a method that they don't have."""
_NOT_JSON = "it answered with something else than JSON"

Json = dict[str, Any]

BROKEN = (OSError, http.client.HTTPException, SlackClientError, ValueError)
"""What a call of the client that blocks may raise where no answer of Slack came."""
NOT_JSON = (AttributeError, TypeError, RecursionError)
"""What slack_sdk makes of JSON that is no object."""


class SlackApi:
    """The Web API with one bot's token; safe from several threads.

    `token` is asked for every call, for tokens may expire; `say` gets a sentence for each wait before another try.
    """

    def __init__(
        self, token: Callable[[], str], base_url: str, clock: Clock, say: Callable[[str], None] = lambda _: None
    ) -> None:
        if not token():
            raise SlackTokenError("There is no Slack token; put the bot's token (xoxb-…) into SLACK_BOT_TOKEN.")
        if token().startswith("xapp-"):
            raise SlackTokenError(
                "The Slack token is an app-level one (xapp-…), which belongs into SLACK_APP_TOKEN; put the bot's token "
                "(xoxb-…) into SLACK_BOT_TOKEN."
            )
        self._token, self._say, self._base_url, self._answered = token, say, base_url, False
        self._told_until = float("-inf")
        self.budget = Budget(clock)
        self.calls = 0
        self._clock, self._random = clock, random.Random()
        logger = silent_logger("doppel.slack.api")
        self._client = WebClient(
            base_url=f"{base_url.rstrip('/')}/", timeout=FIRST_TIMEOUT_SECONDS, retry_handlers=[], logger=logger
        )

    def call(self, method: str, *, tries: int = MAX_TRIES, **params: Any) -> Json:
        """Slack's answer to `method`, after so many tries at most.

        Raises SlackError, or SlackTokenError where no further call can work.
        """
        given = {key: value for key, value in params.items() if value is not None}
        put_off, outcome = 0.0, _Setback("it did not answer", 0.0)
        for attempt in range(tries):
            answer = self._attempt(method, given, attempt)
            if not isinstance(answer, _Setback):
                return answer
            outcome, put_off = answer, put_off + answer.seconds
            if not self._answered and (answer.foreign or attempt + 1 >= FIRST_TRIES):
                raise SlackError(
                    f"Slack could not be reached for {method} at {self._base_url} ({answer.failure}); "
                    "check the network and SLACK_API_URL."
                )
            if put_off > MAX_WAIT_SECONDS or attempt + 1 == tries:
                break
            self._put_off(answer)
        raise SlackError(
            f"Slack could not be reached for {method} ({outcome.failure}); try again later, it goes on from here."
        )

    def pages(self, method: str, key: str, **params: Any) -> Iterator[list[Any]]:
        """The lists under `key` of every page of `method`.

        Raises SlackError where they lead in a circle or nowhere, or a page holds none: what isn't read isn't missing.
        """
        cursor, seen, empty = None, set[str | None](), 0
        while cursor not in seen and empty < MAX_EMPTY_PAGES:
            seen.add(cursor)
            answer = self.call(method, **params, cursor=cursor)
            found, following = answer.get(key), part_of(answer, "response_metadata").get("next_cursor") or ""
            if not isinstance(found, list) or not isinstance(following, str):
                raise SlackError(f"Slack's answer to {method} is none that it documents; try again later.")
            empty = 0 if found else empty + 1
            yield found
            if not following:
                return
            cursor = following
        raise SlackError(f"Slack gives the same page of {method} again and again; try again later.")

    def _put_off(self, setback: _Setback) -> None:
        """Announce another try and wait for it; after a refusal the budget waits."""
        now = self._clock.monotonic()
        if setback.seconds >= TOLD_SECONDS and now >= self._told_until:
            self._told_until = now + setback.seconds
            trouble = "Slack allows no more calls now" if setback.refused else f"Slack fails ({setback.failure})"
            self._say(f"{trouble}; trying again in {setback.seconds:.0f} s.")
        if not setback.refused:
            self._clock.sleep(setback.seconds)

    def _attempt(self, method: str, params: Json, attempt: int) -> Json | _Setback:
        """One call; the budget itself waits after a refusal."""
        self.budget.acquire(method)
        self.calls += 1
        pause = min(FIRST_BACKOFF_SECONDS * 2**attempt, MAX_BACKOFF_SECONDS) * (0.5 + self._random.random() / 2)
        try:
            authorization = {"Authorization": f"Bearer {self._token()}"}
            answer = self._client.api_call(method, params=params, headers=authorization).data
        except SlackApiError as error:
            self._heard(_is_slack(error.response))
            if self._answered or error.response.status_code < 400 or error_of(error.response.data) in _TOKEN:
                _raise_lasting(method, error.response)
            if self._answered and error.response.status_code in _NO_METHOD:
                raise SlackError(f"There is no {method} at {self._base_url}.", "unknown_method") from None
            if error.response.status_code == 429:
                retry_after = _retry_after(error.response)
                self.budget.refuse(method, retry_after)
                return _Setback("it allows no more calls now", retry_after, refused=True)
            return _Setback(_failure(error.response), pause, foreign=error.response.status_code < 500)
        except BROKEN as error:
            return _Setback(_broken(error), pause)
        except NOT_JSON:
            return _Setback(_NOT_JSON, pause, foreign=True)
        if not isinstance(answer, dict):
            return _Setback(_NOT_JSON, pause, foreign=True)
        self._heard(True)
        return answer

    def _heard(self, as_slack: bool) -> None:
        """Something answered, and as Slack does or not."""
        if as_slack and not self._answered:
            self._answered, self._client.timeout = True, TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class _Setback:
    """A call that came to nothing but may be tried again after `seconds`; `foreign` if no part of Slack answers so."""

    failure: str
    seconds: float
    refused: bool = False
    foreign: bool = False


def _is_slack(response: SlackResponse) -> bool:
    """Whether only Slack answers so: with a limit on calls, or with JSON that names an error."""
    if response.status_code == 429:
        return True
    return response.status_code == 200 and bool(error_of(response.data))


def _raise_lasting(method: str, response: SlackResponse) -> None:
    """Raise what no further try would change."""
    code = error_of(response.data)
    if response.status_code == 429 or response.status_code >= 500 or not code or code in _PASSING:
        return
    if code in _TOKEN:
        raise SlackTokenError(f"{_TOKEN[code]}; put a valid one into SLACK_BOT_TOKEN.", code)
    if code == "missing_scope":
        needed = response.get("needed") or "a scope"
        raise SlackError(
            f"The Slack app lacks {needed} for {method}; add it under OAuth & Permissions and install the app again.",
            code,
        )
    raise SlackError(SENTENCES.get(code, f"Slack refused {method} ({code})."), code)


def _broken(error: Exception) -> str:
    """What broke, and why where the system says so: a library's own words may quote the token."""
    cause = error.reason if isinstance(error, URLError) and isinstance(error.reason, OSError) else error
    said = cause.strerror if isinstance(cause, OSError) and not isinstance(cause, URLError) else None
    return f"{type(cause).__name__}: {said}" if said else type(cause).__name__


def _failure(response: SlackResponse) -> str:
    if response.status_code != 200:
        return f"it answered with status {response.status_code}"
    code = error_of(response.data)
    return code if code in _PASSING else _NOT_JSON


def _retry_after(response: SlackResponse) -> float:
    headers = {key.lower(): value for key, value in response.headers.items()}
    try:
        return max(float(headers["retry-after"]), 0.0)
    except (KeyError, ValueError):
        return DEFAULT_RETRY_AFTER
