"""The story of one adapter: consent, examples, fine-tuning, evaluation, publishing."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from doppel.access import ChannelKey, ConsentRecord, ReadPolicy, require_consent, require_still
from doppel.adapters import AdapterStore
from doppel.artifacts import Writer, write_atomic
from doppel.config import Settings
from doppel.engine.conversation import conversations, with_posts
from doppel.errors import ConsentError, TrainingError
from doppel.inference.lora import check_adapter_config
from doppel.models.base_model import ChatTokenizer
from doppel.records import Channel, Conversation, KeptEdit, Message, User
from training.evaluate import mean_nll
from training.examples import EncodedExample, Example, build_examples, encode, split_by_time
from training.finetune import LATELY, FineTuned, Progress, check_fits, choose_device, finetune, load_base, lora_config
from training.grounding import ask_again, encode_grounded
from training.pace import TimeLimits
from training.plot import save_loss_plot

WATCHED_EXAMPLES = 64
"""Held-out examples that are looked at during training; the figures at the end are of all of them."""

SAVING_SECONDS = 6.0
"""For an adapter to be saved, its loss drawn, and published."""
LEAST_GAIN = 0.0005
"""Of nats per token, for an adapter to be better: what a report shows of it."""
MARGIN = 0.97
"""What of a limit is used: the last step may begin within it and end after it."""
SLOWER = 1.6
"""How much longer an evaluation takes with the adapter than without, at most; measured: 1.5 in bfloat16, else 1.2."""

Say = Callable[[str], None]
Check = Callable[[], None]
"""Raises ConsentError unless the person agrees, and agreed since the training began."""


class Source(Protocol):
    """What training reads of the archive."""

    def channels(self) -> list[Channel]: ...

    def messages(self, channels: Collection[ChannelKey] | None = None) -> Iterable[Message]: ...

    def posts(self, team: str) -> list[Message]: ...

    def kept_edits(self, user: User) -> list[KeptEdit]: ...

    def consent_records(self, user: User | None = None) -> list[ConsentRecord]: ...


@dataclass(frozen=True, slots=True)
class TrainReport:
    """What a training run came to; NLLs are means in nats per completion token over the held-out examples."""

    user_id: str
    version: str | None
    examples: int
    held_out: int
    base_nll: float
    adapter_nll: float
    published: bool
    reason: str
    tokens_per_second: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Material:
    """One person's examples, split and encoded, and the channels they come from.

    `grounded` of those in `train` are asked with quotes to answer from.
    """

    train: tuple[EncodedExample, ...]
    grounded: int
    held_out: tuple[EncodedExample, ...]
    channels: tuple[ChannelKey, ...]

    @property
    def watched(self) -> tuple[EncodedExample, ...]:
        """Held-out examples spread evenly over the time, at most WATCHED_EXAMPLES of them."""
        return self.held_out[:: -(-len(self.held_out) // WATCHED_EXAMPLES)]

    def fingerprint(self, settings: Settings, base_model: str) -> str:
        """What a checkpoint must share with this run for the run to go on from it."""
        # It may go on with another limit of time.
        relevant = {name: value for name, value in _training_settings(settings).items() if name != "train_minutes"}
        parts = [base_model, relevant, settings.learning_rate, settings.seed, settings.load_in_4bit]
        parts += [[asdict(e) for e in found] for found in (self.train, self.held_out)]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def train(
    user: User,
    archive: Source,
    store: AdapterStore,
    settings: Settings,
    base_path: str,
    say: Say,
    progress: Progress,
) -> TrainReport:
    """Train, evaluate and publish an adapter of `user`; goes on from where an interrupted run stopped.

    What it reports, raises and writes down names the person by their id, as it may be kept after the name is forgotten.
    Raises ConsentError without consent (also if it is withdrawn meanwhile), ConfigError for options of LoRA that the
    base model can't take, TrainingError with too few examples or with an adapter that vLLM can't load, BusyError while
    another process trains the same person.
    """
    started, unnamed = time.monotonic(), user.unnamed
    before = archive.consent_records(user)
    require_consent(unnamed, before)

    def still() -> None:
        require_still(unnamed, before, archive.consent_records(user))

    check_loadable(settings)
    check_fits(settings, base_path)
    tokenizer = ChatTokenizer(base_path)
    material = gather(user, archive, settings, tokenizer)
    say(
        f"{len(material.train)} examples to learn from, {material.grounded} of them with quotes to answer from; "
        f"{len(material.held_out)} held out."
    )
    with store.folder(unnamed).writer() as writer:
        try:
            tuned, base_nll, adapter_nll = _train(
                still, settings, base_path, tokenizer, material, writer, say, progress, started
            )
            version, reason = _publish(unnamed, still, settings, material, tuned, base_nll, adapter_nll, writer)
        except ConsentError:
            writer.retire()
            raise
    _check_once_more(still, store, unnamed)
    return TrainReport(
        user_id=user.id,
        version=version,
        examples=len(material.train),
        held_out=len(material.held_out),
        base_nll=base_nll,
        adapter_nll=adapter_nll,
        published=version is not None,
        reason=reason,
        tokens_per_second=tuned.tokens_per_second,
        seconds=time.monotonic() - started,
    )


def _check_once_more(still: Check, store: AdapterStore, user: User) -> None:
    """Whoever said no after the last look could not delete what was being written; so it is deleted here."""
    try:
        still()
    except ConsentError:
        store.retire(user)
        raise


def check_loadable(settings: Settings) -> None:
    """Raise TrainingError for an adapter configuration that vLLM can't load."""
    with tempfile.TemporaryDirectory() as folder:
        lora_config(settings).save_pretrained(folder)
        check_adapter_config(Path(folder), settings)


def gather(user: User, archive: Source, settings: Settings, tokenizer: ChatTokenizer) -> Material:
    """One person's examples from the channels that may be learned from. Raises TrainingError where they are too few."""
    there = archive.channels()
    places = {(channel.team, channel.id): channel for channel in there}
    readable = ReadPolicy.parse(settings.train_channels).readable(there)
    found = _spoken(user, archive, readable)
    edits = [edit for edit in archive.kept_edits(user) if (edit.team, edit.channel) in readable]
    examples = build_examples(found, user.id, settings.min_answer_chars, edits, places)
    missing = settings.min_examples - len(examples)
    if missing > 0:
        raise TrainingError(
            f"{user.id} has {len(examples)} answers to learn from, {missing} fewer than the {settings.min_examples} "
            "that are needed; import more of their messages, allow more channels (DOPPEL_TRAIN_CHANNELS) or lower "
            "DOPPEL_MIN_EXAMPLES."
        )
    learned, held_out = split_by_time(examples)
    if not learned:
        raise TrainingError(f"All answers of {user.id} stand in one conversation; 1 more conversation is needed.")
    channels = sorted({(e.conversation[0], e.conversation[1]) for e in learned})
    encoded = _encode(learned, user, tokenizer, settings)
    grounded = _ground(learned, user, there, tokenizer, settings)
    return Material(
        tuple(grounded.get(position, example) for position, example in enumerate(encoded)),
        len(grounded),
        _encode(held_out, user, tokenizer, settings),
        tuple(channels),
    )


def _spoken(user: User, archive: Source, readable: Collection[ChannelKey]) -> Iterator[Conversation]:
    """The conversations of channels, with what was said in them through Doppel."""
    posts = defaultdict[str, list[Message]](list)
    for post in archive.posts(user.team):
        posts[post.channel].append(post)
    for conversation in conversations(m for m in archive.messages(readable) if m.team == user.team):
        yield with_posts(conversation, posts[conversation.channel])


def _ground(
    examples: Sequence[Example], user: User, channels: Sequence[Channel], tokenizer: ChatTokenizer, settings: Settings
) -> dict[int, EncodedExample]:
    """By their position, those examples that are asked with quotes."""
    prompt, context, answer = settings.train_prompt_tokens, settings.train_context_tokens, settings.train_answer_tokens
    if not context:
        return {}
    names = {(channel.team, channel.id): channel.name for channel in channels}
    again = ask_again(examples, user.name, names, settings.seed)
    encoded = {i: encode_grounded(e, user.name, tokenizer, prompt, context, answer) for i, e in again.items()}
    return {position: example for position, example in encoded.items() if example}


def _encode(
    examples: Sequence[Example], user: User, tokenizer: ChatTokenizer, settings: Settings
) -> tuple[EncodedExample, ...]:
    prompt, answer = settings.train_prompt_tokens, settings.train_answer_tokens
    return tuple(encode(example, user.name, tokenizer, prompt, answer) for example in examples)


def _train(
    still: Check,
    settings: Settings,
    base_path: str,
    tokenizer: ChatTokenizer,
    material: Material,
    writer: Writer,
    say: Say,
    progress: Progress,
    started: float,
) -> tuple[FineTuned, float, float]:
    """Fine-tune, and the NLL of the base model and of the adapter on all held-out examples."""

    def watch(*told: Any) -> None:
        still()
        progress(*told)

    device = choose_device(settings)
    work = _workspace(writer.folder.path("work"), material.fingerprint(settings, base_path))
    base = load_base(base_path, device, settings.load_in_4bit)
    say("Evaluating the base model on what was held out.")
    evaluated = time.monotonic()
    base_nll = mean_nll(base, material.held_out)
    limits = _limits(settings, material, time.monotonic() - started, time.monotonic() - evaluated, say)
    tuned = finetune(base, material.train, material.watched, settings, device, tokenizer.hf, work, watch, limits)
    say("Evaluating the adapter.")
    return tuned, base_nll, mean_nll(tuned.model, material.held_out)


def _limits(settings: Settings, material: Material, before: float, evaluation: float, say: Say) -> TimeLimits:
    """What is left for the steps after what was done `before` them, and what comes after them, in seconds.

    The adapter is evaluated as the base model was: on what is watched when the steps end, and then on all that is held
    out. Where that leaves less than half of the limit, because the machine is slow or has other work, the steps have
    that half all the same: an adapter that learned nothing is of no use.
    """
    share = len(material.watched) / len(material.held_out)
    after = evaluation * SLOWER * (1 + share) + SAVING_SECONDS
    if not settings.train_minutes:
        return TimeLimits(after=after)
    limit = 60 * settings.train_minutes
    left, least = MARGIN * limit - before - after, limit / 2
    if left < least:
        say(
            f"Loading and evaluating are slow, as this machine is or as it is busy: with {least / 60:.1f} minutes for "
            f"learning it will take about {math.ceil((before + least + after) / 60)} minutes in all."
        )
    return TimeLimits(max(left, least), after)


def _workspace(work: Path, fingerprint: str) -> Path:
    """The folder of checkpoints, emptied unless they are of this very run."""
    mark = work / "fingerprint"
    if not mark.is_file() or mark.read_text(encoding="utf-8") != fingerprint:
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        write_atomic(mark, fingerprint)
    return work


def _publish(
    user: User,
    still: Check,
    settings: Settings,
    material: Material,
    tuned: FineTuned,
    base_nll: float,
    adapter_nll: float,
    writer: Writer,
) -> tuple[str | None, str]:
    """The new version's name, or None, and why."""
    still()
    work = writer.folder.path("work")
    if base_nll - adapter_nll < LEAST_GAIN:
        shutil.rmtree(work)
        return None, "The adapter predicts the held-out answers no better than the base model."
    draft = writer.draft()
    tuned.model.save_pretrained(draft)
    _write_log(tuned.log, draft / "metrics.jsonl")
    save_loss_plot(tuned.log, "Fine-tuning", draft / "loss.png", LATELY)
    info: dict[str, Any] = {
        "team": user.team,
        "user_id": user.id,
        "base_model": settings.base_model,
        "channels": material.channels,
        "examples": len(material.train),
        "held_out": len(material.held_out),
        "steps": tuned.steps,
        "resumed_from_step": tuned.resumed_from_step,
        "base_nll": base_nll,
        "adapter_nll": adapter_nll,
        "settings": _training_settings(settings),
    }
    version = writer.publish(draft, info)
    writer.prune(settings.keep_versions)
    shutil.rmtree(work)
    return version.name, "The adapter predicts the held-out answers better than the base model."


def _training_settings(settings: Settings) -> dict[str, Any]:
    """The settings that shape an adapter, as plain JSON."""
    return {k: v for k, v in settings.model_dump(mode="json").items() if k.startswith(("train_", "lora_"))}


def _write_log(log: Sequence[dict[str, Any]], path: Path) -> None:
    path.write_text("".join(json.dumps(entry) + "\n" for entry in log), encoding="utf-8")
