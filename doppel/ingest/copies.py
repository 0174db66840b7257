"""What Slack copied into messages of others of those who were forgotten, and what it says there of their names."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import cached_property

from doppel.archive.forgotten import FORGOTTEN_NAME, Tombstones
from doppel.records import Raw
from doppel.slack.copies import MAY_TELL, Origin, without_copies
from doppel.slack.markup import Names


@dataclass(frozen=True)
class Copies:
    """The copies of what `tombstones` cover."""

    tombstones: Tombstones

    def names(self, names: Names) -> Names:
        """`names` without theirs."""
        return replace(names, users={**names.users, **dict.fromkeys(self.tombstones.nameless, FORGOTTEN_NAME)})

    def may_be_in(self, encoded: str) -> bool:
        """Whether an encoded message may hold a copy or a name of theirs; if not, it need not be read."""
        if not self.tombstones.until:
            return False
        # A message has one timestamp of its own.
        has_copy = encoded.count('"ts"') > 1 or MAY_TELL.search(encoded) is not None
        return has_copy or self._marks.search(encoded) is not None

    def removed(self, raw: Raw, at: int) -> Raw:
        """A message of somebody else, without the copies of theirs that Slack put in, and without their names."""
        return self.found_and_removed(raw, at)[0]

    def found_and_removed(self, raw: Raw, at: int) -> tuple[Raw, bool]:
        """The same, and whether there was a copy."""
        tombstones = self.tombstones
        return without_copies(raw, at, self._is_gone, tombstones.nameless) if tombstones.until else (raw, False)

    def _is_gone(self, origin: Origin) -> bool:
        """By the author's id, else by what the archive knows of the place, else by the author's name."""
        if origin.authors:
            return any(self.tombstones.covers(user, origin.at) for user in origin.authors)
        known = {(user, at) for channel, at in origin.places for user in self.tombstones.authors(channel, at)}
        if known:
            # Of what was deleted nobody knows any more whose it was.
            return any(user == "" or self.tombstones.covers(user, at) for user, at in known)
        return any(origin.at <= self.tombstones.named.get(name, -1) for name in origin.names)

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        ids = "|".join(map(re.escape, sorted(self.tombstones.until)))
        return re.compile(rf'[@"/](?:{ids})[">|/?#]')
