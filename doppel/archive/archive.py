"""The archive: one database that holds what a team said. Every method is one transaction, safe from several threads."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import Self

from sqlalchemy import Connection, Engine

from doppel.access import ChannelKey, ConsentAction, ConsentRecord
from doppel.archive import changes, people, reading
from doppel.archive import consent_and_feedback as ledger
from doppel.archive.backend import Backend
from doppel.archive.bot import BotStore
from doppel.archive.consent_and_feedback import Feedback
from doppel.archive.copying import Progress, copy_rows
from doppel.archive.database import errors_of, exclusive, writing
from doppel.archive.database import reading as reads
from doppel.archive.deliveries import Deliveries
from doppel.archive.drafts import DraftStore, kept_edits
from doppel.archive.erasing import Erased, erase_team
from doppel.archive.forgotten import clean_revision
from doppel.archive.installations import Installations
from doppel.archive.posts import posts
from doppel.archive.reading import Counts
from doppel.archive.restrictions import Restrictions
from doppel.archive.snapshots import Snapshot, Views
from doppel.archive.waiting import TAKES_AWAY, Waiting, soon_exclusive
from doppel.engine.conversation import with_posts
from doppel.errors import BadInputError, BusyError, UnknownUserError
from doppel.records import Channel, Chunk, Conversation, KeptEdit, Message, Span, User

ERASE_SECONDS = 600.0
"""How long erasing waits for an import that holds the archive."""


class Archive:
    """An open archive. Its methods raise ArchiveError, StorageError or BusyError where the database lets them down.

    `doppel.ingest.open_archive` opens it; `waiting` is what can't wait for an import.
    """

    def __init__(self, engine: Engine, backend: Backend, workspace_url: str = "") -> None:
        self.backend = backend
        self._engine = engine
        self._url = workspace_url.rstrip("/")
        self.waiting = Waiting(engine, backend)
        self._views = Views(self._url)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close every connection."""
        self.waiting.close()
        self._engine.dispose()

    def reading(self) -> AbstractContextManager[Connection]:
        """A connection that sees one state of the archive throughout."""
        return reads(self._engine, self.backend)

    def writing(self) -> AbstractContextManager[Connection]:
        """A transaction that is there whole or not at all. Raises BusyError where another process writes."""
        return writing(self._engine, self.backend)

    def exclusive(self, seconds: float = 0) -> AbstractContextManager[None]:
        """The right to take in much at once, for one process at a time. Raises BusyError after `seconds`."""
        return exclusive(self.backend, seconds)

    def settle(self, *records: ConsentRecord) -> None:
        """Write to the ledger what waits, and then these."""
        with self.reading() as connection:
            if not records and not self.waiting.has_withdrawals(connection):
                return
        with self.writing() as connection:
            waited = self.waiting.settle(connection, records)
        self.waiting.settled(waited)

    def bot(self, team: str) -> BotStore:
        """What the bot of one workspace must not forget."""
        return BotStore(self._engine, self.backend, team)

    def deliveries(self, team: str) -> Deliveries:
        """What Slack sent from one workspace and must be done once."""
        return Deliveries(self._engine, self.backend, team)

    @property
    def installations(self) -> Installations:
        """Where the app is installed, and who is signed in."""
        return Installations(self._engine, self.backend)

    def erase(self, team: str) -> Erased:
        """Delete all that a workspace said and left here. It waits for an import that is under way."""
        with self.exclusive(ERASE_SECONDS), self.writing() as connection:
            erased = erase_team(connection, team)
        self.waiting.erase(team)
        return erased

    def drafts(self, team: str) -> DraftStore:
        """The replies that were drafted for people of one workspace."""
        return DraftStore(self._engine, self.backend, team, self.waiting.records)

    def kept_edits(self, user: User) -> list[KeptEdit]:
        """What a person made of replies that were drafted for them, oldest first."""
        with self.reading() as connection:
            return kept_edits(connection, user)

    def copy_to(self, target: Archive, progress: Progress | None = None) -> dict[str, int]:
        """Copy everything into an empty archive, whole or not at all; returns the rows of each table.

        Raises BadInputError where `target` isn't empty, BusyError while another process imports into either.
        """
        if target.backend == self.backend:
            raise BadInputError(f"{target.backend} is the archive itself; name a new database or a new file.")
        self.settle()
        with (
            self.exclusive(),
            target.exclusive(),
            self.reading() as rows,
            target.writing() as connection,
        ):
            copied = copy_rows(rows, connection, str(target.backend), progress)
            target.backend.settle(connection)
        return copied

    def snapshot(self, team: str | None = None) -> Snapshot:
        """People, channels and consent of one workspace or of all, as of now."""
        with self.reading() as connection:
            limits, withdrawn = self.waiting.standing(connection)
            views = self._views.current(connection, team)
            clean = self._views.clean(connection, team, views)
            return Snapshot(team, views, clean, limits, withdrawn, self)

    def conversations_for(self, snapshot: Snapshot, chunks: Sequence[Chunk]) -> list[Conversation]:
        """The conversation of each chunk as it stands now, with the names of the snapshot."""
        spans = [Span(c.team, c.channel, c.thread_ts, c.conversation_first_ts, c.conversation_last_ts) for c in chunks]
        with self.reading() as connection:
            certain = snapshot.limits | self.waiting.heard(connection)
            found = reading.conversations_at(connection, spans, snapshot.all_names)
            return [certain.conversation(conversation) for conversation in found]

    def messages_for(
        self, snapshot: Snapshot, user: User, limit: int, channels: Collection[ChannelKey]
    ) -> list[Message]:
        """As `messages_of`, with the names of the snapshot."""
        with self.reading() as connection:
            certain = snapshot.limits | self.waiting.heard(connection)
            found = reading.messages_of(connection, user.team, user.id, limit, channels, snapshot.all_names)
            return certain.messages(found)

    def users(self, team: str | None = None) -> list[User]:
        """People and bots of one workspace or of all, by team and id."""
        with self._certain() as (connection, certain):
            return certain.users(reading.users(connection, team))

    def user(self, team: str, user_id: str) -> User | None:
        """The person or bot of that id in a workspace."""
        with self._certain() as (connection, certain):
            return next(iter(certain.users(reading.users(connection, team, [user_id]))), None)

    def channels(self) -> list[Channel]:
        """Channels by team and name; a direct conversation is named after its members."""
        with self._certain() as (connection, certain):
            return certain.channels(reading.channels(connection))

    def messages(self, channels: Collection[ChannelKey] | None = None) -> Iterator[Message]:
        """Messages of `channels`, or of all, as of one moment: channel by channel, each in the order of time."""
        with self._certain() as (connection, certain):
            yield from filter(certain.shows, reading.messages(connection, channels))

    def messages_of(
        self, team: str, user_id: str, limit: int = 100, channels: Collection[ChannelKey] | None = None
    ) -> list[Message]:
        """A person's newest messages with words of their own, newest first, from `channels` or from all."""
        with self._certain() as (connection, certain):
            return certain.messages(reading.messages_of(connection, team, user_id, limit, channels))

    def message_counts(self, team: str, user_id: str) -> dict[str, int]:
        """How many messages a person typed in each channel where there are any, by the channel's id."""
        with self.reading() as connection:
            return reading.message_counts(connection, team, user_id)

    def conversation(self, team: str, channel: str, thread_ts: str | None, first_ts: str, last_ts: str) -> Conversation:
        """The thread of `thread_ts`, or what was said outside of threads from `first_ts` to `last_ts`.

        The rules are those of `doppel.engine.conversation`; it has no messages where the archive has none any more.
        """
        with self._certain() as (connection, certain):
            found = reading.conversation(connection, team, channel, thread_ts, first_ts, last_ts)
            return certain.conversation(found)

    def up_to(
        self, snapshot: Snapshot, channel: ChannelKey, ts: str, thread_ts: str | None, reader: str = ""
    ) -> Conversation:
        """What was said up to `ts` in the thread of `thread_ts`, or in the window of the channel that reaches to it.

        It is as it may be shown now, with what was said there through Doppel; of what one person alone saw, that of
        the `reader`.
        """
        team, channel_id = channel
        with self.reading() as connection:
            certain = snapshot.limits | self.waiting.heard(connection)
            found = certain.conversation(reading.up_to(connection, team, channel_id, ts, thread_ts, snapshot.all_names))
            return with_posts(found, posts(connection, team, snapshot.all_names, channel_id, thread_ts, reader))

    def posts(self, team: str) -> list[Message]:
        """What was said through Doppel in a workspace, where all could see it."""
        with self.reading() as connection:
            return posts(connection, team, reading.user_names(connection))

    def posts_in(self, snapshot: Snapshot, channel: ChannelKey, thread_ts: str | None, reader: str) -> list[Message]:
        """The same of one thread, or of a channel outside of its threads; of what one person alone saw, that of the
        `reader`.
        """
        with self.reading() as connection:
            return posts(connection, channel[0], snapshot.all_names, channel[1], thread_ts, reader)

    def last_said(self, team: str, channel: str, but_by: str) -> Message | None:
        """The newest message in a channel itself, outside of its threads, that a person other than `but_by` wrote.

        None also where that was changed or deleted just now.
        """
        with self._certain() as (connection, certain):
            found = reading.last_said(connection, team, channel, but_by)
            return found if found is not None and certain.shows(found) else None

    def leading_to(self, team: str, channel: str, ts: str) -> list[Message]:
        """What was said up to `ts` in the conversation of that message, which is the last of it.

        Nothing where no person said anything at `ts`, or it was changed or deleted just now.
        """
        with self._certain() as (connection, certain):
            found = reading.leading_to(connection, team, channel, ts)
            return certain.messages(found) if found and certain.shows(found[-1]) else []

    def permalink(self, channel: ChannelKey, ts: str, thread_ts: str | None = None) -> str:
        """The address of a message in Slack."""
        team, channel_id = channel
        if self._url:
            return reading.permalink(self._url, channel_id, ts, thread_ts)
        with self.reading() as connection:
            return reading.permalink(reading.workspace_url(connection, team), channel_id, ts, thread_ts)

    def find_user(self, name: str, team: str | None = None) -> User:
        """The person whom a user means who typed that: an id, else a handle, else a display or a real name.

        In one workspace, or in the one of all where they are at home. Raises UnknownUserError with the nearest.
        """
        return people.find_user(self._listed(team), name)

    def find_person(self, name: str, team: str | None = None) -> list[User]:
        """The same person in every workspace that lists them, or in one: never somebody whom the name fits as well."""
        return people.find_person(self._listed(team), name)

    def _listed(self, team: str | None) -> list[User]:
        found = self.users(team)
        if team is not None and not found:
            raise UnknownUserError(f'The archive knows nobody of the workspace "{team}".')
        return found

    def get_user(self, team: str, user_id: str) -> User:
        """The person or bot of exactly that id in a workspace. Raises UnknownUserError."""
        return people.require_known(self.user(team, user_id), user_id)

    def revision(self) -> int:
        """A number that grows with every change: while it stays, an index of the archive is up to date."""
        with self.reading() as connection:
            return changes.revision(connection)

    def counts(self, team: str | None = None) -> Counts:
        """How much there is, of one workspace or of all."""
        with self.reading() as connection:
            return reading.counts(connection, team)

    def record_consent(self, user: User, action: ConsentAction, by: str) -> ConsentRecord:
        """Append to the consent ledger; a no removes what was drafted for its person.

        What takes something away counts at once, also while another process imports or writes: see `waiting`. Raises
        BusyError for what doesn't.
        """
        record, given = ledger.new_record(user, action, by), action not in TAKES_AWAY
        try:
            with nullcontext() if given else soon_exclusive(self.backend):
                self.settle(record)
        except BusyError:
            if given:
                raise
            self.waiting.withdraw(record)
        return record

    def scrub(self) -> None:
        """Overwrite what deleted rows left in the database's files. Raises BusyError while others read too long."""
        with errors_of(self.backend):
            self.backend.scrub(self._engine)

    def clean_revision(self) -> int:
        """The revision from which on an index holds nothing that was forgotten; 0 where nothing was."""
        with self.reading() as connection:
            return clean_revision(connection)

    def consent_records(self, user: User | None = None) -> list[ConsentRecord]:
        """The consent ledger, or one person's part of it, oldest first."""
        with self.reading() as connection:
            return self.waiting.records(connection, user)

    def add_feedback(
        self,
        team: str,
        user_id: str,
        *,
        version: str | None,
        question: str,
        reply: str,
        sources: Sequence[str] = (),
        liked: bool | None = None,
        comment: str = "",
        vote: str | None = None,
        replaces: int | None = None,
    ) -> Feedback:
        """Store what a reader thought of one answer; `sources` are permalinks.

        It takes the place of what has the same `vote`, which tells one voter and answer from another and nobody's name,
        or of what has the id `replaces`.
        """
        with self.writing() as connection:
            return ledger.add_feedback(
                connection,
                team,
                user_id,
                version=version,
                question=question,
                reply=reply,
                sources=sources,
                liked=liked,
                comment=comment,
                vote=vote,
                replaces=replaces,
            )

    def feedback(self) -> list[Feedback]:
        """All feedback, oldest first."""
        with self.reading() as connection:
            return ledger.feedback(connection)

    @contextmanager
    def _certain(self) -> Iterator[tuple[Connection, Restrictions]]:
        """A connection that sees one state, and what is uncertain of it, as an event of that waits to be written."""
        with self.reading() as connection:
            yield connection, self.waiting.standing(connection)[0]
