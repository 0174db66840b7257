"""How much one asker may ask for at once. Pure."""

from __future__ import annotations

from doppel.errors import BadInputError

QUESTION_CHARS = 4_000


class TooLongError(BadInputError):
    """A question is longer than the settings allow."""


def require_length(question: str, most: int) -> None:
    """Raise TooLongError for a question of more than `most` characters."""
    if len(question) > most:
        raise TooLongError(
            f"A question may have {most:,} characters, and this one has {len(question):,}; shorten it and ask again."
        )
