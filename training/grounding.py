"""Examples that are asked again: the prompt quotes what the person answered, among other answers of theirs. Pure.

From them an adapter learns to answer from what its prompt quotes, which is what it must do when it serves; from
examples as they were it learns to answer from nothing. A question is asked again once all that is learned from has been
said, so a prompt still holds only what was said before, and nothing of what is held out.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from doppel.access import ChannelKey
from doppel.engine.prompt import line, render
from doppel.labels import ASKER
from doppel.records import Dialogue, Passage, Turn
from training.examples import EncodedExample, Example, TrainingTokenizer, answered

EVERY = 2
"""Of how many examples one is asked again; the others teach how the person speaks where nothing is quoted."""
OTHERS = 2
"""How many other answers stand beside the one that is wanted."""
MOST_BEFORE = 2
"""How many messages before an answer are quoted with it, at most."""


@dataclass(frozen=True, slots=True)
class GroundedExample:
    """A question that was answered once, the quotes that are given with it, and that answer, which stands in `own`."""

    question: Turn
    quotes: tuple[Passage, ...]
    own: Passage
    answer: str


def ask_again(
    examples: Sequence[Example], name: str, channels: Mapping[ChannelKey, str], seed: int
) -> dict[int, GroundedExample]:
    """Some of the `examples` of the person called `name`, asked again, by their position; `channels` are names.

    Equal for equal seeds.
    """
    chance = random.Random(seed)
    again = {}
    for position in range(0, len(examples), EVERY):
        example = examples[position]
        others = chance.sample(examples, min(OTHERS + 1, len(examples)))
        own = _quote(example, name, channels, chance)
        quotes = [own, *(_quote(o, name, channels, chance) for o in others if o is not example)][: OTHERS + 1]
        chance.shuffle(quotes)
        question = Turn(ASKER, example.turns[-1].text)
        again[position] = GroundedExample(question, tuple(quotes), own, example.answer)
    return again


def encode_grounded(
    example: GroundedExample,
    name: str,
    tokenizer: TrainingTokenizer,
    prompt_tokens: int,
    context_tokens: int,
    answer_tokens: int,
) -> EncodedExample | None:
    """Token ids, through the prompt that answering uses; None where the answer finds no room among the quotes."""
    prompt = render(
        name,
        Dialogue((example.question,)),
        tokenizer,
        prompt_tokens + context_tokens,
        passages=example.quotes,
        context_tokens=context_tokens,
    )
    if example.own not in prompt.passages:
        return None
    return answered(prompt, example.answer, tokenizer, answer_tokens)


def _quote(example: Example, name: str, channels: Mapping[ChannelKey, str], chance: random.Random) -> Passage:
    """The answer with some of what led to it and followed, as a search would find it."""
    team, channel, first_ts = example.conversation
    before = example.turns[max(0, len(example.turns) - chance.randint(0, MOST_BEFORE)) :]
    after = example.after[: chance.randint(0, len(example.after))]
    answer = line(name, example.answer)
    return Passage(
        channel_name=channels.get((team, channel), channel),
        thread_ts=None,
        first_ts=first_ts,
        last_ts=example.last_ts,
        lines=(*_lines(before), answer, *_lines(after)),
        focus=(len(before), len(before) + 1),
        quote=answer,
        permalink="",
        score=0.0,
    )


def _lines(turns: Sequence[Turn]) -> list[str]:
    return [line(turn.author, turn.text) for turn in turns]
