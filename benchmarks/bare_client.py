"""A client that makes given calls of Slack's as fast as its limits allow, knowing them, and keeps nothing.

It is the ceiling for anything that has to make the same calls: a sliding window of `quota` calls a minute for each
method, the methods side by side, one connection each, and no call that would be refused.
"""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from benchmarks.frame import MeasurementError

Params = Mapping[str, Any]
Message = tuple[str, str]
"""A channel and a timestamp, which tell a message."""


@dataclass(frozen=True, slots=True)
class Limit:
    """`quota` calls of one method in any `seconds`."""

    quota: int
    seconds: float

    def least_seconds(self, calls: int) -> float:
        """When the last of so many calls may be made, the first being made at 0: windows are used up at once."""
        return max(calls - 1, 0) // self.quota * self.seconds

    def seconds_at_rate(self, calls: int) -> float:
        """What so many calls take at the allowed rate."""
        return calls / self.quota * self.seconds


def timed_calls(
    api_url: str, token: str, calls: Mapping[str, Sequence[Params]], limits: Mapping[str, Limit]
) -> tuple[int, float]:
    """Messages in the answers, each once, and seconds from the first call to the last answer.

    Raises MeasurementError where a call is refused: that would be no ceiling.
    """
    started = time.perf_counter()
    with ThreadPoolExecutor(len(calls)) as pool:
        found = [pool.submit(_all, api_url, token, name, made, limits[name]) for name, made in calls.items()]
        messages = set[Message]().union(*(future.result() for future in found))
    return len(messages), time.perf_counter() - started


def _all(api_url: str, token: str, method: str, calls: Sequence[Params], limit: Limit) -> set[Message]:
    """Every call of one method, one after another."""
    url, answered, messages = urlsplit(api_url), list[float](), set[Message]()
    with closing(http.client.HTTPConnection(url.netloc)) as connection:
        for number, params in enumerate(calls):
            if number >= limit.quota:
                _wait_until(answered[number - limit.quota] + limit.seconds, connection)
            messages |= _one(connection, f"{url.path}{method}", token, params)
            answered.append(time.perf_counter())
    return messages


def _wait_until(moment: float, connection: http.client.HTTPConnection) -> None:
    """Wait until Slack has forgotten a call that was answered `limit.seconds` before: it was counted earlier still."""
    seconds = moment - time.perf_counter()
    if seconds > 0:
        # A server hangs up after some idle seconds; the next call opens the connection anew.
        connection.close()
        time.sleep(seconds)


def _one(connection: http.client.HTTPConnection, path: str, token: str, params: Params) -> set[Message]:
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/x-www-form-urlencoded"}
    connection.request("POST", path, urlencode(params), headers)
    response = connection.getresponse()
    body = response.read()
    if response.status != 200:
        raise MeasurementError(f"The bare client's call was answered with status {response.status}.")
    return {(str(params["channel"]), str(raw["ts"])) for raw in json.loads(body)["messages"]}
