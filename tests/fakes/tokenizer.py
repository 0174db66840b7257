"""A tokenizer of one token a word, for what only needs counting."""

from __future__ import annotations

from collections.abc import Sequence

from doppel.engine.prompt import ChatMessage

END = 0


class WordTokenizer:
    """Words become numbers in order of appearance; a message costs its words and two marks."""

    end_id = END

    def __init__(self) -> None:
        self._words: dict[str, int] = {"<end>": END}

    def prompt_ids(self, messages: Sequence[ChatMessage]) -> list[int]:
        """`<role> words <end>` for each message, then `<assistant>`."""
        parts = [f"<{m['role']}> {m['content']} <end>" for m in messages]
        return self._ids(" ".join([*parts, "<assistant>"]))

    def completion_ids(self, messages: Sequence[ChatMessage], answer: str) -> list[int]:
        """The answer's words and the end mark."""
        return [*self._ids(answer), END]

    def count(self, text: str) -> int:
        """How many words there are."""
        return len(text.split())

    def decode(self, ids: Sequence[int]) -> str:
        """The words again."""
        words = {number: word for word, number in self._words.items()}
        return " ".join(words[i] for i in ids)

    def _ids(self, text: str) -> list[int]:
        return [self._words.setdefault(word, len(self._words)) for word in text.split()]
