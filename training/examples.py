"""Conversations to training examples: what one person answered, and what had been said before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from doppel.prompt import ChatMessage, Tokenizer, render
from doppel.records import Conversation, Message, Turn, ts_key

HELD_OUT_SHARE = 0.15


class TrainingTokenizer(Tokenizer, Protocol):
    """A tokenizer that also renders the answer."""

    def completion_ids(self, messages: Sequence[ChatMessage], answer: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One answer of the person and the turns before it; `conversation` is (team, channel, first ts)."""

    conversation: tuple[str, str, str]
    last_ts: str
    turns: tuple[Turn, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of an example; the loss is taken on `completion_ids` only."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def build_examples(found: Iterable[Conversation], user_id: str, min_chars: int) -> list[Example]:
    """Every run of messages by one person that follows somebody else's, of at least `min_chars` characters."""
    return [example for conversation in found for example in _of_conversation(conversation, user_id, min_chars)]


def _of_conversation(conversation: Conversation, user_id: str, min_chars: int) -> Iterable[Example]:
    before: list[Turn] = []
    for own, run in groupby(conversation.messages, key=lambda m: m.user == user_id):
        turns = [_turn(message, own) for message in run]
        answer = "\n".join(turn.text for turn in turns).strip()
        if own and before and len(answer) >= min_chars:
            key = (conversation.team, conversation.channel, conversation.first_ts)
            yield Example(key, conversation.last_ts, tuple(before), answer)
        before += turns


def _turn(message: Message, by_persona: bool) -> Turn:
    return Turn(message.author, message.text, by_persona)


def split_by_time(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """Training and held-out examples: the last 15 % of the conversations by their end, at least one, are held out.

    No conversation is on both sides.
    """
    ends = {example.conversation: ts_key(example.last_ts) for example in examples}
    order = sorted(ends, key=lambda key: (ends[key], key))
    held = set(order[len(order) - max(1, round(len(order) * HELD_OUT_SHARE)) :]) if len(order) > 1 else set()
    return [e for e in examples if e.conversation not in held], [e for e in examples if e.conversation in held]


def encode(
    example: Example, name: str, tokenizer: TrainingTokenizer, prompt_tokens: int, answer_tokens: int
) -> EncodedExample:
    """Token ids of an example, through the prompt that answering uses; an answer that is too long loses its end."""
    prompt = render(name, example.turns, tokenizer, prompt_tokens)
    completion = tokenizer.completion_ids(prompt.messages, example.answer)
    return EncodedExample(tuple(prompt.ids), tuple(completion[:answer_tokens]))
