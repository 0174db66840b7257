"""What is pressed below an answer in Slack: heeded from those who could see it, and one vote of each person."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac

from doppel.archive.archive import Archive
from doppel.archive.bot import Answer
from doppel.errors import ConsentError
from doppel.records import Channel, ChannelKind, User
from doppel.slack.blocks import Press, read_feedback


class Voting:
    """Keeps votes in one workspace. `secret` is not in the archive, so that nobody can tell from it who voted."""

    def __init__(self, archive: Archive, team: str, secret: str) -> None:
        self._archive, self._store, self._secret = archive, archive.bot(team), secret.encode()

    async def vote(self, value: str, press: Press) -> None:
        """Keep what a reader thought of an answer, with what was asked and which version answered."""
        await asyncio.to_thread(self._vote, value, press)

    async def could_see(self, answer_id: str, press: Press) -> bool:
        """Whether there is such an answer, where somebody pressed a button, for them to read."""
        return await asyncio.to_thread(self._seen, answer_id, press) is not None

    def _vote(self, value: str, press: Press) -> None:
        try:
            answer_id, liked = read_feedback(value)
        except ValueError:
            return
        answer = self._seen(answer_id, press)
        if answer is None:
            return
        # Of somebody who was forgotten in this moment nothing is kept.
        with contextlib.suppress(ConsentError):
            self._archive.add_feedback(
                self._store.team,
                answer.user_id,
                version=answer.version,
                question=answer.question,
                reply=answer.reply,
                sources=answer.sources,
                liked=liked,
                vote=self._name(answer_id, press.user),
            )

    def _seen(self, answer_id: str, press: Press) -> Answer | None:
        answer, snapshot = self._store.answer(answer_id), self._archive.snapshot(self._store.team)
        user = snapshot.user(self._store.team, press.user)
        if answer is None or user is None:
            return None
        here = snapshot.channel((self._store.team, answer.channel))
        return answer if could_see(answer, press, user, here) else None

    def _name(self, answer_id: str, user: str) -> str:
        """What a person's votes on an answer have in common, and no others."""
        words = "\0".join(("vote", self._store.team, answer_id, user))
        return hmac.new(self._secret, words.encode(), hashlib.sha256).hexdigest()


def could_see(answer: Answer, press: Press, user: User, here: Channel | None) -> bool:
    """Whether an answer stands where somebody pressed, the channel `here`, and they are one of those who read there."""
    is_here = answer.channel == press.channel and press.thread_ts in ("", answer.thread_ts)
    if not is_here or press.user != user.id or user.is_bot or user.deleted:
        return False
    is_direct = answer.channel.startswith("D")
    if answer.private or is_direct:
        return user.id == answer.asker
    if here is None or here.kind is ChannelKind.UNKNOWN:
        return False
    return user.id in here.members or (here.kind is ChannelKind.PUBLIC and not user.is_guest)
