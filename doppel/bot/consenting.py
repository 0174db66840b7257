"""Asking people in a direct message whether they agree to a doppelganger, and acting on what they say."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from slack_sdk.web.async_client import AsyncWebClient

from doppel.access import ConsentAction, has_consent, is_paused
from doppel.adapters import AdapterStore
from doppel.archive.archive import Archive
from doppel.archive.bot import Request
from doppel.errors import ConsentError
from doppel.records import ChannelKind, User
from doppel.services.forgetting import Receipt
from doppel.slack.blocks import Block
from doppel.slack.consent_blocks import (
    Consent,
    ConsentRequest,
    Home,
    consent_expired,
    consent_request,
    consent_settled,
    home_view,
)
from doppel.slack.failing import FAILURES, reason
from doppel.timestamps import now_micros

VALID_SECONDS = 7 * 86_400
_GONE = ("message_not_found", "channel_not_found")
FALLBACK = "May an AI answer in your manner? Open this message to read what that means, and to answer."

Forget = Callable[[User, bool, str], Awaitable[Receipt]]
"""Forgets a person, with their messages or not; the text says who asks for it."""
Withdraw = Callable[[User, str], Awaitable[int]]
"""Ends a person's consent and doppelganger; the text says who asks for it. Returns how many versions went."""
Agreed = Callable[[User, str, str], Awaitable[str]]
"""What is done when a person agreed: who they are, and in which channel who asked them."""


@dataclass(frozen=True, slots=True)
class Facts:
    """How much of what a person wrote training may read, and in which channels, by name."""

    messages: int
    channels: tuple[str, ...]


class Consenting:
    """Consent in one workspace. Methods raise ConsentError, and SlackApiError where Slack refuses."""

    def __init__(
        self,
        archive: Archive,
        adapters: AdapterStore,
        client: AsyncWebClient,
        team: str,
        agreed: Agreed,
        withdraw: Withdraw,
        forget: Forget,
    ) -> None:
        self._archive, self._adapters, self._client, self._team = archive, adapters, client, team
        self._store, self._agreed, self._withdraw, self._forget = archive.bot(team), agreed, withdraw, forget

    async def ask(self, user: User, asked_by: str, channel: str) -> bool:
        """Ask a person in a direct message; False where they were asked already and may still answer."""
        await self.expire()
        if user.deleted:
            raise ConsentError(f"{user.name} is deactivated in Slack, so nobody can ask them.")
        for request in await asyncio.to_thread(self._store.requests, "open", user.id):
            if not await self._settle_gone(request):
                return False
        expires = time.time() + VALID_SECONDS
        request = Request(secrets.token_hex(8), user.id, asked_by, channel, round(expires * 1e6))
        people = {u.id: u for u in await asyncio.to_thread(self._archive.users, self._team)}
        facts = await self.facts(user)
        asker = people[asked_by].name if asked_by in people else asked_by
        shown = ConsentRequest(request.id, asker, facts.channels, facts.messages, datetime.fromtimestamp(expires, UTC))
        opened = await self._client.conversations_open(users=user.id)
        posted = await self._client.chat_postMessage(
            channel=str(opened["channel"]["id"]), text=FALLBACK, blocks=consent_request(shown)
        )
        request = replace(request, posted_in=str(posted["channel"]), posted_ts=str(posted["ts"]))
        await asyncio.to_thread(self._store.add_request, request)
        return True

    async def _is_gone(self, request: Request) -> bool:
        """Whether the message that asks was deleted, so that nobody can answer it; not where that can't be known."""
        try:
            await self._client.chat_getPermalink(channel=request.posted_in, message_ts=request.posted_ts)
        except FAILURES as error:
            return reason(error) in _GONE
        return False

    async def _settle_gone(self, request: Request) -> bool:
        """End a request whose message was deleted; whether it was."""
        is_gone = await self._is_gone(request)
        if is_gone:
            await asyncio.to_thread(self._store.settle_request, request.id, "deleted")
        return is_gone

    async def asked_by(self, asker: str) -> int:
        """How many people somebody asked who may still answer."""
        await self.expire()
        asked = [r for r in await asyncio.to_thread(self._store.requests, "open") if r.asked_by == asker]
        return sum([not await self._settle_gone(request) for request in asked])

    async def answer(self, request_id: str, presser: str, agrees: bool) -> None:
        """Take the answer to a request; nobody answers for somebody else, and nobody twice."""
        await self.expire()
        found = [r for r in await asyncio.to_thread(self._store.requests, "open", presser) if r.id == request_id]
        if not found:
            raise ConsentError("This request is not open to you any more; nothing has changed.")
        state = "agreed" if agrees else "declined"
        if not await asyncio.to_thread(self._store.settle_request, request_id, state):
            return
        await self._record(presser, ConsentAction.GRANT if agrees else ConsentAction.DECLINE)
        await self._show(found[0], consent_settled(agrees))
        if agrees:
            await self._agreed(await self.person(presser), found[0].channel, found[0].asked_by)

    async def grant(self, user_id: str) -> None:
        """A person agrees by themselves."""
        await self._record(user_id, ConsentAction.GRANT)

    async def withdraw(self, user_id: str) -> int:
        """A person withdraws: the persona stops, the adapter goes; returns how many versions went.

        Raises ConsentError for one who has neither agreed nor an adapter.
        """
        user = await self.person(user_id)
        agreed = has_consent(await asyncio.to_thread(self._archive.consent_records, user))
        if not agreed and not await asyncio.to_thread(self._adapters.folder(user).names):
            raise ConsentError("You have no doppelganger, so there is nothing to withdraw: nobody is answered as you.")
        return await self._withdraw(user, f"slack:{user_id}")

    async def forget(self, user_id: str, messages: bool) -> Receipt:
        """A person wants to be forgotten."""
        return await self._forget(await self.person(user_id), messages, f"slack:{user_id}")

    async def pause(self, user_id: str) -> bool:
        """Let a person's doppelganger rest, or answer again; whether it rests now.

        Raises ConsentError for one who has none.
        """
        user = await self.person(user_id)
        records = await asyncio.to_thread(self._archive.consent_records, user)
        if not has_consent(records):
            raise ConsentError("You have no doppelganger, so there is nothing to pause: nobody is answered as you.")
        paused = is_paused(records)
        await self._record(user_id, ConsentAction.RESUME if paused else ConsentAction.PAUSE)
        return not paused

    async def expire(self) -> None:
        """End the requests that nobody answered in time."""
        now = now_micros()
        for request in await asyncio.to_thread(self._store.requests, "open"):
            if request.expires <= now and await asyncio.to_thread(self._store.settle_request, request.id, "expired"):
                await self._show(request, consent_expired())

    async def home(self, user_id: str) -> Block:
        """The App home of a person."""
        user = await self.person(user_id)
        facts = await self.facts(user)
        records = await asyncio.to_thread(self._archive.consent_records, user)
        asked = bool(await asyncio.to_thread(self._store.requests, "open", user_id))
        answers = [r for r in records if r.action not in (ConsentAction.PAUSE, ConsentAction.RESUME)]
        consent = Consent.ASKED if asked else Consent.NEVER_ASKED
        if answers:
            consent = {
                ConsentAction.GRANT: Consent.GRANTED,
                ConsentAction.DECLINE: Consent.DECLINED,
                ConsentAction.REVOKE: Consent.WITHDRAWN,
                ConsentAction.FORGET: Consent.FORGOTTEN,
            }[answers[-1].action]
        since = datetime.fromisoformat(answers[-1].at) if answers else None
        version = self._adapters.folder(user).current_name() if has_consent(records) else None
        edits = len(await asyncio.to_thread(self._archive.kept_edits, user))
        known = (facts.messages, facts.channels, version)
        return home_view(Home(user_id, user.name, consent, since, *known, edits=edits))

    async def show(self, user_id: str, view: Block) -> None:
        """Let the App home of a person be that."""
        await self._client.views_publish(user_id=user_id, view=view)

    async def person(self, user_id: str) -> User:
        """Somebody of this workspace. Raises ConsentError for one that is not known."""
        found = await asyncio.to_thread(self._archive.user, self._team, user_id)
        if found is None or found.is_bot:
            raise ConsentError("Doppel does not know that person yet; ask again after the next sync.")
        return found

    async def facts(self, user: User) -> Facts:
        """What of a person's messages training may read: those in public channels."""
        channels = await asyncio.to_thread(self._archive.channels)
        public = {c.id: c.name for c in channels if c.kind is ChannelKind.PUBLIC and c.team == self._team}
        counts = await asyncio.to_thread(self._archive.message_counts, self._team, user.id)
        read = {channel: number for channel, number in counts.items() if channel in public}
        return Facts(sum(read.values()), tuple(sorted({public[channel] for channel in read})))

    async def _record(self, user_id: str, action: ConsentAction) -> None:
        user = await self.person(user_id)
        await asyncio.to_thread(self._archive.record_consent, user, action, f"slack:{user_id}")

    async def _show(self, request: Request, blocks: Sequence[Block]) -> None:
        with contextlib.suppress(Exception):
            text = str(blocks[0]["text"]["text"])
            await self._client.chat_update(
                channel=request.posted_in, ts=request.posted_ts, text=text, blocks=list(blocks)
            )
