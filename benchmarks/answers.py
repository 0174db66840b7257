"""What answers say of the sample workspace: python -m benchmarks.answers

Questions with the facts that an answer must state (examples/questions.jsonl) are asked of Ines, whose adapter is
trained for it as `make demo` trains hers. An answer states a fact where a pattern of it is found.
"""

from __future__ import annotations

import asyncio
import json
import re
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.command import SAMPLE, main, say
from benchmarks.followups import wilson
from benchmarks.frame import Benchmark, Contender, Samples
from doppel.access import ConsentAction, ReadPolicy
from doppel.app_context import AppContext
from doppel.config import Settings, load_settings
from doppel.console import Console
from doppel.ingest import import_export
from doppel.labels import ASKER
from doppel.records import Dialogue, Finished, Reply, Turn
from doppel.services.ask import answering
from doppel.slack.export import open_export
from indexing.reindex import reindex

PERSONA = "ines"
MINUTES = 4.0
"""Of training, as for the demo."""
ANSWER_TOKENS = 96
AT_ONCE = 4

DOES_NOT_SHOW = (
    "what other workspaces' people would ask, or what other models answer; one persona, one training, drawn once.",
    "what people would say of the answers: a pattern is found or not, so a right answer in other words is a miss, and "
    "a quote that holds the fact beside other things counts. What a pattern calls false is only what was thought of.",
    "follow-ups and threads: each question is asked alone.",
    "the time of one answer to one asker: several are asked at once.",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question, the facts that a right answer states, and what makes one false; as in examples/README.md."""

    text: str
    kind: str
    answerable: bool
    facts: tuple[tuple[str, ...], ...]
    forbidden: tuple[str, ...]

    def is_stated(self, text: str) -> bool:
        """Whether a text states every fact."""
        return bool(self.facts) and all(any(_found(form, text) for form in fact) for fact in self.facts)

    def is_false(self, text: str) -> bool:
        """Whether a text says what is false."""
        return any(_found(form, text) for form in self.forbidden)


@dataclass(frozen=True, slots=True)
class Answered:
    """A question and its answer."""

    question: Question
    reply: Reply

    @property
    def said(self) -> str:
        """What was answered, without the day and name that begin a quote."""
        return re.sub(r"\AOn \d+ \w+ \d+ (?:I said|\S+ wrote): ", "", self.reply.text)

    @property
    def is_refusal(self) -> bool:
        """Whether the answer is that there is none."""
        return self.reply.completion_tokens == 0


def read_questions(split: str) -> list[Question]:
    """Those of a split that are asked of the persona."""
    rows = (SAMPLE.parent / "questions.jsonl").read_text(encoding="utf-8").splitlines()
    found = [row for row in map(json.loads, rows) if row["persona"] == PERSONA and row["split"] == split]
    return [
        Question(
            row["question"],
            row["kind"],
            row["answerable"],
            tuple(map(tuple, row["facts"])),
            tuple(row["forbidden"]),
        )
        for row in found
    ]


def prepare(given: Namespace, work: Path) -> Benchmark:
    """An archive, an index, and an adapter unless told without."""
    questions = read_questions(given.split)[: given.most]
    settings = load_settings({}, data_dir=work / "data")
    context = AppContext(settings, Console(as_json=False))
    with context.archive() as archive:
        with open_export(SAMPLE) as export:
            import_export(archive, export)
        archive.record_consent(archive.find_user(PERSONA), ConsentAction.GRANT, "benchmark")
        reindex(archive, context.index(), context.embedder())
    ways: dict[str, dict[str, Any]] = {
        "base model, checked": {"answer_check": "quote"},
        "base model as it writes": {"answer_check": "mark", "min_confidence": 0.0},
    }
    contenders = [Contender(name, partial(_measure, settings, how, questions)) for name, how in ways.items()]
    if given.minutes:
        _train(settings, given.minutes)
        trained = {name.replace("base model", "adapter"): how for name, how in ways.items()}
        contenders = [Contender(name, partial(_measure, settings, how, questions)) for name, how in trained.items()]
    return Benchmark(
        name="answers",
        title="Answers about the sample workspace; min and max are the ends of 95 % intervals",
        contenders=tuple(contenders),
        workload={
            "split": given.split,
            "answerable": sum(q.answerable for q in questions),
            "not answerable": sum(not q.answerable for q in questions),
            "minutes of training": given.minutes,
            "tokens of an answer, at most": ANSWER_TOKENS,
            "asked at once": AT_ONCE,
        },
        libraries=("vllm", "torch", "transformers", "peft", "faiss-cpu", "sentence-transformers"),
        does_not_show=DOES_NOT_SHOW,
    )


def _train(settings: Settings, minutes: float) -> None:
    from doppel.models.base_model import base_model_path
    from training.train import train

    limited = settings.model_copy(update={"train_minutes": minutes})
    context = AppContext(limited, Console(as_json=False))
    with context.archive() as archive:
        person = archive.find_user(PERSONA)
        report = train(person, archive, context.adapters(), limited, base_model_path(limited), say, lambda *_: None)
    say(f"Held-out NLL {report.base_nll:.3f} -> {report.adapter_nll:.3f} in {report.seconds:.0f} s.")


def _measure(settings: Settings, how: dict[str, Any], questions: Sequence[Question]) -> Samples:
    update = {"answer_tokens": ANSWER_TOKENS, "answers_at_once": AT_ONCE, **how}
    answered = asyncio.run(_ask_all(settings.model_copy(update=update), questions))
    asked = [one for one in answered if one.question.answerable]
    foreign = [one for one in answered if not one.question.answerable]
    sentences = [sentence for one in answered if not one.is_refusal for sentence in one.reply.sentences]
    figures = {
        "states the fact, %": _share(asked, lambda one: one.question.is_stated(one.said)),
        "states it and nothing false, %": _share(
            asked, lambda one: one.question.is_stated(one.said) and not one.question.is_false(one.said)
        ),
        "says what is false, %": _share(answered, lambda one: one.question.is_false(one.said)),
        "refused, answerable, %": _share(asked, lambda one: one.is_refusal),
        "refused, not answerable, %": _share(foreign, lambda one: one.is_refusal),
        "sentences with a source, by the check itself, %": _share(sentences, lambda one: one.source is not None),
        "s to an answer": [one.reply.seconds for one in answered],
    }
    for one in answered:
        say(f"  {'+' if one.question.is_stated(one.said) else '-'} {one.question.text} -> {one.reply.text[:160]!r}")
    # The frame takes no figure of zero; what is missing in a row is that.
    shown = {name: [value for value in values if value > 0] for name, values in figures.items()}
    return {name: values for name, values in shown.items() if values}


async def _ask_all(settings: Settings, questions: Sequence[Question]) -> list[Answered]:
    context, turn = AppContext(settings, Console(as_json=False)), asyncio.Semaphore(AT_ONCE)
    with context.archive() as archive:
        async with answering(context, archive, own=True) as (engine, server):
            await server.wait_ready()
            person = archive.find_user(PERSONA)
            persona = await engine.persona(person.id, person.team)

            async def ask(question: Question) -> Answered:
                dialogue = Dialogue((Turn(ASKER, question.text),))
                async with turn:
                    async for event in engine.reply(persona, dialogue, ReadPolicy(public=True)):
                        if isinstance(event, Finished):
                            return Answered(question, event.reply)
                raise AssertionError("an answer ends with Finished")

            return await asyncio.gather(*map(ask, questions))


def _share(things: Sequence[Any], holds: Callable[[Any], bool]) -> list[float]:
    """A share and the ends of its interval, in percent."""
    if not things:
        return []
    number = sum(map(holds, things))
    low, high = wilson(number, len(things))
    return [100 * low, 100 * number / len(things), 100 * high] if number else []


def _found(form: str, text: str) -> bool:
    return bool(re.search(form, text, re.IGNORECASE | re.MULTILINE))


def _options(parser: ArgumentParser) -> None:
    parser.add_argument("--split", choices=("choose", "report"), default="report", help="which questions")
    parser.add_argument("--most", type=int, default=None, help="so many of them (default: all)")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="of training; 0: the base model alone")


if __name__ == "__main__":
    main("answers", prepare, rounds=1, warmup=0, options=_options)
