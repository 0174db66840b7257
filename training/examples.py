"""Conversations to training examples: what one person answered, and what had been said before. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from typing import Protocol

from doppel.access import ChannelKey
from doppel.engine.conversation import dialogue, turns
from doppel.engine.prompt import ChatMessage, Prompt, Tokenizer, render
from doppel.labels import ASKER
from doppel.records import Channel, Conversation, Dialogue, KeptEdit, Message, Turn, ts_key

HELD_OUT_SHARE = 0.15
FOLLOWING = 2
"""How many messages after an answer are kept with it."""


class TrainingTokenizer(Tokenizer, Protocol):
    """A tokenizer that also renders the answer."""

    def completion_ids(self, messages: Sequence[ChatMessage], answer: str) -> list[int]: ...


@dataclass(frozen=True, slots=True)
class Example:
    """One answer of the person and what it answers; `conversation` is (team, channel, first ts).

    What was said `after` it stands in no prompt of this answer; it is for quotes.
    """

    conversation: tuple[str, str, str]
    last_ts: str
    dialogue: Dialogue
    answer: str
    after: tuple[Turn, ...] = ()

    @property
    def turns(self) -> tuple[Turn, ...]:
        """What was said before the answer."""
        return self.dialogue.turns


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """Token ids of an example; the loss is taken on `completion_ids` only."""

    prompt_ids: tuple[int, ...]
    completion_ids: tuple[int, ...]


def build_examples(
    found: Iterable[Conversation],
    user_id: str,
    min_chars: int,
    edits: Sequence[KeptEdit] = (),
    channels: Mapping[ChannelKey, Channel] | None = None,
) -> list[Example]:
    """Every run of messages by one person that follows somebody else's, of at least `min_chars` characters they typed.

    What they forwarded, attached or quoted is no part of an answer; prompts show it. An example is also each of their
    `edits` of that length, if the message that it answers is among those found, or if it answers what they gave
    themselves. `channels` tell where it was said.
    """
    places = channels or {}
    long = [edit for edit in edits if len(edit.text.strip()) >= min_chars]
    examples = [_of_question(edit) for edit in long if not edit.answered_ts]
    answers = {(edit.team, edit.channel, edit.answered_ts): edit for edit in long}
    sent = {(edit.team, edit.channel, edit.sent_ts) for edit in edits}
    for conversation in found:
        channel = places.get((conversation.team, conversation.channel))
        examples += _of_conversation(conversation, user_id, min_chars, channel, sent)
        examples += _of_edits(conversation, user_id, answers, channel)
    return examples


def _of_edits(
    conversation: Conversation,
    user_id: str,
    answers: Mapping[tuple[str, str, str], KeptEdit],
    channel: Channel | None,
) -> Iterable[Example]:
    """An example for each message that was answered; of several answers to one, the last."""
    said = turns(conversation.messages, user_id)
    for end, message in enumerate(conversation.messages, 1):
        if edit := answers.get((message.team, message.channel, message.ts)):
            asked = dialogue(said[:end], conversation, channel)
            yield Example(_key(conversation), conversation.last_ts, asked, edit.text.strip())


def _of_question(edit: KeptEdit) -> Example:
    """An example that is a conversation of its own."""
    key = (edit.team, edit.channel, edit.sent_ts)
    return Example(key, edit.sent_ts, Dialogue((Turn(ASKER, edit.question),)), edit.text.strip())


def _of_conversation(
    conversation: Conversation,
    user_id: str,
    min_chars: int,
    channel: Channel | None,
    sent: Set[tuple[str, str, str]],
) -> Iterable[Example]:
    def is_answer(message: Message) -> bool:
        """What their doppelganger answered is theirs in a prompt and nothing to learn; edits are examples already."""
        theirs = message.user == user_id and not message.by_ai
        return theirs and (message.team, message.channel, message.ts) not in sent

    said, start = turns(conversation.messages, user_id), 0
    for own, run in groupby(conversation.messages, key=is_answer):
        messages = list(run)
        end = start + len(messages)
        answer = "\n".join(message.own_text for message in messages if message.own_text).strip()
        if own and start and len(answer) >= min_chars:
            asked = dialogue(said[:start], conversation, channel)
            yield Example(_key(conversation), conversation.last_ts, asked, answer, said[end : end + FOLLOWING])
        start = end


def _key(conversation: Conversation) -> tuple[str, str, str]:
    return conversation.team, conversation.channel, conversation.first_ts


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
    prompt = render(name, example.dialogue, tokenizer, prompt_tokens)
    return answered(prompt, example.answer, tokenizer, answer_tokens)


def answered(prompt: Prompt, answer: str, tokenizer: TrainingTokenizer, answer_tokens: int) -> EncodedExample:
    """A rendered prompt and its answer, of which at most `answer_tokens` are kept."""
    completion = tokenizer.completion_ids(prompt.messages, answer)
    return EncodedExample(tuple(prompt.ids), tuple(completion[:answer_tokens]))
