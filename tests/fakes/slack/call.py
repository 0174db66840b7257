"""One call of a Web API method, and how it fails."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tests.fakes.slack.channels import Channel, Json, Kind
from tests.fakes.slack.tokens import Token
from tests.fakes.slack.workspace import NotThereError, Workspace

if TYPE_CHECKING:
    from tests.fakes.slack.server import FakeSlack

FAMILIES: dict[Kind, str] = {"public": "channels", "private": "groups", "mpim": "mpim", "im": "im"}
"""What the scopes of each kind of channel begin with."""
_TRUE = ("1", "true", "True")


class SlackError(Exception):
    """An answer with `"ok": false`; `more` stands beside the error code."""

    def __init__(self, code: str, **more: Any) -> None:
        super().__init__(code)
        self.code, self.more = code, more


@dataclass
class Call:
    """A call that passed authentication; `params` come from a form, a query or a JSON body."""

    slack: FakeSlack
    method: str
    params: Json
    credentials: Token | None
    basic: tuple[str, str] | None = None

    @property
    def token(self) -> Token:
        """The caller's token."""
        if self.credentials is None:
            raise SlackError("not_authed")
        return self.credentials

    @property
    def workspace(self) -> Workspace:
        """The workspace of the caller's token."""
        return self.token.workspace

    def text(self, name: str, default: str = "") -> str:
        """An argument as text."""
        value = self.params.get(name)
        return default if value is None else str(value)

    def need(self, name: str) -> str:
        """An argument that must be there."""
        if not self.text(name):
            message = f"[ERROR] missing required field: {name}"
            raise SlackError("invalid_arguments", response_metadata={"messages": [message]})
        return self.text(name)

    def flag(self, name: str, default: bool = False) -> bool:
        """An argument that is yes or no."""
        return self.text(name) in _TRUE if name in self.params else default

    def limit(self, default: int, most: int) -> int:
        """How many items the caller wants at most."""
        text = self.text("limit", str(default)) or str(default)
        if not text.isdigit():
            raise SlackError("invalid_limit")
        return min(int(text) or default, most)

    def value(self, name: str) -> Any:
        """An argument that is JSON: as it is in a JSON body, encoded in a form."""
        value = self.params.get(name)
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError:
            raise SlackError(f"invalid_{name}_format" if name in ("blocks", "metadata") else "invalid_json") from None

    def cursor(self, prefix: str) -> str | None:
        """What the cursor of an earlier page holds; None on the first page."""
        given = self.text("cursor")
        if not given:
            return None
        try:
            text = base64.b64decode(given, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise SlackError("invalid_cursor") from None
        if not text.startswith(f"{prefix}:"):
            raise SlackError("invalid_cursor")
        return text.removeprefix(f"{prefix}:")

    def page(self, items: Sequence[Json], prefix: str, default: int | None, most: int) -> tuple[Sequence[Json], Json]:
        """A page of a list of objects, and the metadata that lead to the next; all of it without a default."""
        start, limit = self.cursor(prefix), self.limit(default or len(items) or 1, most if default else len(items) or 1)
        at = 0
        if start is not None:
            at = next((number for number, item in enumerate(items) if item["id"] == start), -1)
            if at < 0:
                raise SlackError("invalid_cursor")
        rest = items[limit:] if self.slack.behaviour.repeats_cursors else items[at + limit :]
        cursor = encode_cursor(prefix, rest[0]["id"]) if rest else ""
        return items[at : at + limit], {"response_metadata": {"next_cursor": cursor}}

    def demand(self, *scopes: str) -> None:
        """Fail unless the token has one of these scopes."""
        if scopes and not self.token.scopes & set(scopes):
            have = ",".join(sorted(self.token.scopes))
            raise SlackError("missing_scope", needed=",".join(scopes), provided=have)

    def place(self, name: str = "channel") -> Channel:
        """The channel of an argument, by its id, if the caller may know of it."""
        place = self.workspace.channels.get(self.need(name))
        if place is None or not self.knows(place):
            raise SlackError("channel_not_found")
        return place

    def knows(self, place: Channel) -> bool:
        """Whether the caller may know that a channel is there."""
        return place.kind == "public" or self.token.user in place.members

    def readable(self) -> Channel:
        """The channel whose messages the caller asks for, if it may read them."""
        place = self.place()
        self.demand(f"{FAMILIES[place.kind]}:history")
        member = self.token.user in place.members
        if not member and self.token.kind == "bot" and self.slack.behaviour.history_needs_membership:
            raise SlackError("not_in_channel")
        return place

    def writable(self) -> Channel:
        """The channel that the caller posts to: by id, by name, or the direct one with a user."""
        name = self.need("channel")
        if name in self.workspace.users:
            place = self.workspace.channels[open_direct(self.workspace, self.token.user, [name])]
        else:
            try:
                place = self.workspace.find(name)
            except NotThereError as error:
                raise SlackError(str(error)) from None
        if not self.knows(place):
            raise SlackError("channel_not_found")
        if place.archived:
            raise SlackError("is_archived")
        if self.token.user not in place.members and "chat:write.public" not in self.token.scopes:
            raise SlackError("not_in_channel")
        return place


def encode_cursor(prefix: str, text: str) -> str:
    """A cursor as clients see it: opaque."""
    return base64.b64encode(f"{prefix}:{text}".encode()).decode()


def open_direct(workspace: Workspace, user: str, others: Sequence[str]) -> str:
    """The id of the direct conversation between a user and others, opened where there is none yet."""
    people = sorted({user, *others})
    kind: Kind = "im" if len(people) <= 2 else "mpim"
    for place in workspace.channels.values():
        if place.kind == kind and sorted(place.members) == people:
            return place.id
    names = "--".join(workspace.users[person]["name"] for person in people)
    name = f"mpdm-{names}-1" if kind == "mpim" else ""
    return workspace.channel(name, user, *others, kind=kind, bot=False)
