"""Conversations to training examples: what one person answered, and what had been said before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from doppel.engine.prompt import ChatMessage, Prompt, Tokenizer, render
from doppel.labels import ASKER
from doppel.records import Conversation, KeptEdit, Message, Turn, ts_key

HELD_OUT_SHARE = 0.15
FOLLOWING = 2
"""How many messages after an answer are kept with it."""


class TrainingTokenizer(Tokenizer, Protocol):
    """A tokenizer that also renders the answer."""

    def completion_ids(self, messages: Sequence[ChatMessage], answer: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One answer of the person and the turns before it; `conversation` is (team, channel, first ts).

    What was said `after` it stands in no prompt of this answer; it is for quotes.
    """

    conversation: tuple[str, str, str]
    last_ts: str
    turns: tuple[Turn, ...]
    answer: str
    after: tuple[Turn, ...] = ()


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of an example; the loss is taken on `completion_ids` only."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def build_examples(
    found: Iterable[Conversation], user_id: str, min_chars: int, edits: Sequence[KeptEdit] = ()
) -> list[Example]:
    """Every run of messages by one person that follows somebody else's, of at least `min_chars` characters they typed.

    What they forwarded, attached or quoted is no part of an answer; prompts show it. An example is also each of their
    `edits` of that length, if the message that it answers is among those found, or if it answers what they gave
    themselves.
    """
    long = [edit for edit in edits if len(edit.text.strip()) >= min_chars]
    examples = [_of_question(edit) for edit in long if not edit.answered_ts]
    answers = {(edit.team, edit.channel, edit.answered_ts): edit for edit in long}
    for conversation in found:
        examples += _of_conversation(conversation, user_id, min_chars)
        examples += _of_edits(conversation, user_id, answers)
    return examples


def _of_edits(
    conversation: Conversation, user_id: str, answers: Mapping[tuple[str, str, str], KeptEdit]
) -> Iterable[Example]:
    """An example for each message that was answered; of several answers to one, the last."""
    before: list[Turn] = []
    for message in conversation.messages:
        before.append(_turn(message, message.user == user_id))
        if edit := answers.get((message.team, message.channel, message.ts)):
            yield Example(_key(conversation), conversation.last_ts, tuple(before), edit.text.strip())


def _of_question(edit: KeptEdit) -> Example:
    """An example that is a conversation of its own."""
    key = (edit.team, edit.channel, edit.sent_ts)
    return Example(key, edit.sent_ts, (Turn(ASKER, edit.question),), edit.text.strip())


def _of_conversation(conversation: Conversation, user_id: str, min_chars: int) -> Iterable[Example]:
    before: list[Turn] = []
    for own, run in groupby(conversation.messages, key=lambda m: m.user == user_id):
        messages = list(run)
        turns = [_turn(message, own) for message in messages]
        answer = "\n".join(message.own_text for message in messages if message.own_text).strip()
        if own and before and len(answer) >= min_chars:
            end = len(before) + len(turns)
            after = tuple(_turn(m, m.user == user_id) for m in conversation.messages[end : end + FOLLOWING])
            yield Example(_key(conversation), conversation.last_ts, tuple(before), answer, after)
        before += turns


def _key(conversation: Conversation) -> tuple[str, str, str]:
    return conversation.team, conversation.channel, conversation.first_ts


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
    return answered(prompt, example.answer, tokenizer, answer_tokens)


def answered(prompt: Prompt, answer: str, tokenizer: TrainingTokenizer, answer_tokens: int) -> EncodedExample:
    """A rendered prompt and its answer, of which at most `answer_tokens` are kept."""
    completion = tokenizer.completion_ids(prompt.messages, answer)
    return EncodedExample(tuple(prompt.ids), tuple(completion[:answer_tokens]))
