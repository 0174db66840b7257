"""`/doppel`: what can be asked for in Slack, who may, and what is answered."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from slack_sdk.errors import SlackApiError
from slack_sdk.web.async_client import AsyncWebClient

from doppel.access import has_consent, is_refused
from doppel.archive.archive import Archive
from doppel.bot.answering import Answering
from doppel.bot.consenting import Consenting
from doppel.bot.drafting import Drafting
from doppel.bot.job_notices import Jobs, Notices, Trainings
from doppel.bot.question_parser import PERSON, Question, asked_of, kept
from doppel.bot.sentences import in_slack
from doppel.bot.writing import Engine
from doppel.errors import DoppelError
from doppel.limits import require_length
from doppel.services.forgetting import told
from doppel.slack.failing import reason
from doppel.slack.members import user_of
from doppel.slack.outgoing import plain
from doppel.timestamps import now_micros

ADMIN_SECONDS = 300.0
"""How long it is believed that somebody is an admin."""

MAX_REQUESTS = 10
"""People whom one person may have asked for their consent, and who have not answered."""

HELP = """*What I can do*
`/doppel ask QUESTION` asks here, `/doppel ask as @someone QUESTION` asks somebody's doppelganger
`/doppel draft` drafts your reply to what was said here last, `/doppel draft TEXT` to TEXT; you alone see and send it
`/doppel list` who can be asked · `/doppel status` what I am doing · `/doppel use @someone` who answers here
`/doppel train @someone` makes a doppelganger, once they have agreed
`/doppel consent` your own consent · `/doppel pause` lets your doppelganger rest, or answer again
`/doppel forget` how to have your adapter, answers and messages removed for good
For admins: `/doppel use @someone workspace`, `/doppel sync`, `/doppel reindex`, `/doppel cancel JOB`
Or mention me, or write to me. An AI writes every answer."""

FORGET_HELP = """This can't be undone, and I don't ask again:
`/doppel forget me` ends your doppelganger and removes your adapter, what was answered as you or asked by you, and votes
`/doppel forget me and my messages` does that, and removes from my archive all that you wrote until now, for good
What stands in Slack itself stays there."""

_PERSON = re.compile(PERSON)


class RefusedError(DoppelError):
    """Somebody may not do that, or not so."""


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody typed after `/doppel`."""

    user: str
    channel: str
    text: str

    @property
    def word(self) -> str:
        return (self.text.split() or ["help"])[0].casefold()

    @property
    def rest(self) -> str:
        return " ".join(self.text.split()[1:])


class Commands:
    """Answers commands. `run` returns what the asker alone is to read, if anything."""

    def __init__(
        self,
        archive: Archive,
        engine: Engine,
        client: AsyncWebClient,
        team: str,
        answering: Answering,
        consenting: Consenting,
        drafting: Drafting,
        jobs: Jobs,
        notices: Notices,
        trainings: Trainings,
        question_chars: int,
    ) -> None:
        self._archive, self._engine, self._client, self._team = archive, engine, client, team
        self._answering, self._consenting, self._drafting = answering, consenting, drafting
        self._jobs, self._notices, self._trainings, self._question_chars = jobs, notices, trainings, question_chars
        self._store = archive.bot(team)
        self._admins: dict[str, tuple[bool, float]] = {}
        self._words: dict[str, Callable[[Command], Awaitable[str]]] = {
            "ask": self._ask,
            "draft": self._draft,
            "list": self._list,
            "status": self._status,
            "use": self._use,
            "train": self._train,
            "consent": self._consent,
            "pause": self._pause,
            "forget": self._forget,
            "sync": self._job,
            "reindex": self._job,
            "cancel": self._cancel,
        }

    async def run(self, command: Command) -> str:
        """Do what is asked for; every error is a sentence."""
        try:
            require_length(asked_of(command.rest)[1], self._question_chars)
            return await self._words.get(command.word, self._help)(command)
        except DoppelError as error:
            return plain(in_slack(error))
        except SlackApiError as error:
            said = plain(reason(error) or "without a reason")
            return f"Slack refused that ({said}); am I in this channel? Invite me."

    async def _help(self, _command: Command) -> str:
        return HELP

    async def _ask(self, command: Command) -> str:
        people, text = asked_of(command.rest)
        if not text:
            raise RefusedError("Write your question after it, such as /doppel ask why did we drop Kafka?")
        posted = await self._client.chat_postMessage(
            channel=command.channel, text=f"<@{command.user}> asks: {plain(text)}"
        )
        ts, channel = str(posted["ts"]), str(posted["channel"])
        question = Question(channel, ts, ts, command.user, text, people, direct=False, addressed=True)
        event_id = f"command-{channel}-{ts}"
        await asyncio.to_thread(self._store.accept, [(event_id, kept(question))], now_micros())
        self._answering.begin(event_id, question)
        return "Asked; the answer comes in the thread."

    async def _draft(self, command: Command) -> str:
        # With its lines, which `rest` joins.
        return await self._drafting.draft(command.user, command.channel, command.text.strip()[len(command.word) :])

    async def _list(self, _command: Command) -> str:
        people = await self._engine.personas()
        lines = [f"• {plain(p.name)}, {'version ' + p.version if p.version else 'no adapter yet'}" for p in people]
        return "\n".join(["*Who can be asked*", *lines]) if lines else "Nobody can be asked yet."

    async def _status(self, command: Command) -> str:
        await self._require_member(command.user, "see what I am doing")
        counts = await asyncio.to_thread(self._archive.counts, self._team)
        lines = await asyncio.to_thread(self._jobs.lines)
        jobs = "\n".join(f"• {plain(line)}" for line in lines) or "No job is queued or running."
        return f"{counts.messages:,} messages of {counts.channels:,} channels are in the archive.\n{jobs}"

    async def _use(self, command: Command) -> str:
        person = await self._person_in(command)
        everywhere = command.rest.casefold().endswith(("workspace", "everywhere"))
        if everywhere:
            await self._require_admin(command.user)
        persona = await self._engine.persona(person)
        await asyncio.to_thread(self._store.set_default_persona, persona.user_id, "" if everywhere else command.channel)
        return f"{plain(persona.name)} answers {'in the workspace' if everywhere else 'here'} from now on."

    async def _train(self, command: Command) -> str:
        await self._require_member(command.user, "ask for a training")
        user = await self._consenting.person(await self._person_in(command))
        records = await asyncio.to_thread(self._archive.consent_records, user)
        if has_consent(records):
            job = await self._trainings.begin(await self._consenting.person(user.id), command.channel, command.user)
            return f"Training {plain(user.name)} is job {job}; I tell you here when it has ended."
        if is_refused(records) and user.id != command.user:
            raise RefusedError(f"{user.name} said no; only they can change that, in the Home tab of this app.")
        if await self._consenting.asked_by(command.user) >= MAX_REQUESTS:
            raise RefusedError(f"{MAX_REQUESTS} people whom you asked have not answered yet; wait for them first.")
        if not await self._consenting.ask(user, command.user, command.channel):
            return f"{plain(user.name)} was asked already and has not answered yet."
        return f"I asked {plain(user.name)} in a direct message; training begins once they agree."

    async def _consent(self, command: Command) -> str:
        user = await self._consenting.person(command.user)
        if command.rest.casefold() == "withdraw":
            gone = await self._consenting.withdraw(user.id)
            return f"You withdrew. Your doppelganger has stopped; {gone} versions of your adapter are deleted."
        if has_consent(await asyncio.to_thread(self._archive.consent_records, user)):
            return "You agreed to a doppelganger. `/doppel consent withdraw` ends it at once."
        if await self._consenting.ask(user, command.user, command.channel):
            return "You have not agreed. I sent you what it means in a direct message, where you can answer."
        return "You were asked in a direct message and have not answered yet."

    async def _forget(self, command: Command) -> str:
        messages = {"me": False, "me and my messages": True}.get(command.rest.casefold().rstrip(".! "))
        if messages is None:
            return FORGET_HELP
        receipt = await self._consenting.forget(command.user, messages)
        done = f"You were forgotten at {receipt.archive.record.at}. Removed: {', '.join(told(receipt))}."
        words = [done, *map(plain, receipt.pending)]
        if messages:
            job = await asyncio.to_thread(self._jobs.clean, receipt.archive.revision)
            words += [f"Nothing of it is shown any more; job {job} takes it out of the index's files."] if job else []
        return "\n".join([*words, "You can agree again whenever you like; then it begins anew."])

    async def _pause(self, command: Command) -> str:
        if await self._consenting.pause(command.user):
            return "Your doppelganger rests: nobody is answered in your manner until you say `/doppel pause` again."
        return "Your doppelganger answers again."

    async def _job(self, command: Command) -> str:
        await self._require_admin(command.user)
        job, _ = await asyncio.to_thread(self._jobs.ask, command.word)
        await self._notices.add(job, command.channel, command.user)
        return f"The {command.word} is job {job}; I tell you here when it has ended."

    async def _cancel(self, command: Command) -> str:
        await self._require_admin(command.user)
        return plain(await asyncio.to_thread(self._jobs.cancel, command.rest))

    async def _person_in(self, command: Command) -> str:
        match = _PERSON.search(command.rest)
        if match:
            return match[1]
        name = command.rest.split()[0].lstrip("@") if command.rest else ""
        if not name:
            raise RefusedError(f"Say whom: /doppel {command.word} @someone")
        return (await asyncio.to_thread(self._archive.find_user, name, self._team)).id

    async def _require_member(self, user: str, what: str) -> None:
        """Raise RefusedError for a guest, ConsentError for one who is not known."""
        if (await self._consenting.person(user)).is_guest:
            raise RefusedError(f"Guests can't {what}.")

    async def _require_admin(self, user: str) -> None:
        """Raise RefusedError unless Slack says that somebody is an admin or owner of the workspace."""
        is_admin, until = self._admins.get(user, (False, 0.0))
        if time.monotonic() > until:
            answer = await self._client.users_info(user=user)
            raw = answer.get("user") or {}
            # Who administers another workspace doesn't administer this one.
            is_admin = bool(raw.get("is_admin") or raw.get("is_owner")) and not user_of(raw, self._team).is_guest
            self._admins[user] = is_admin, time.monotonic() + ADMIN_SECONDS
        if not is_admin:
            raise RefusedError("Only admins of this workspace may do that.")
