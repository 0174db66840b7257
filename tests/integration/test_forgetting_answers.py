"""An answer that is being written as its person is forgotten, or somebody whom it may quote."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest

from doppel.access import OPERATOR
from doppel.adapters import AdapterStore
from doppel.archive import Archive
from doppel.config import load_settings
from doppel.errors import ConsentError
from doppel.inference.client import InferenceClient, Piece
from doppel.ingest import forget_person
from doppel.records import Dialogue, Finished, Persona, TextDelta, Turn
from doppel.services import ask as engine
from doppel.services import consent
from doppel.services.ask import Engine
from tests.end_to_end import environment
from tests.fakes.tokenizer import WordTokenizer
from tests.forgetting import forget, team, user
from tests.taking_in import take_in


@pytest.fixture
def adapters(tmp_path: Path) -> AdapterStore:
    return AdapterStore(tmp_path / "data" / "adapters")


class Model:
    """A model that says three words and does something in between."""

    def __init__(self, meanwhile: Any) -> None:
        self.meanwhile, self.closed = meanwhile, False

    async def stream(self, *_: Any) -> AsyncGenerator[Piece, None]:
        try:
            for number, word in enumerate(("It ", "woke ", "us.")):
                yield Piece(word, number + 1)
                self.meanwhile(number)
        finally:
            self.closed = True


class NothingFound:
    def likeness(self, text: str, others: Sequence[str]) -> list[float]:
        return [0.0 for _ in others]

    def look_up(self, queries: Any, scopes: Sequence[Any], *_: Any, **__: Any) -> list[list[Any]]:
        return [[] for _ in scopes]


async def answer(archive: Archive, adapters: AdapterStore, model: Model, tmp_path: Path) -> list[Any]:
    """The events of an answer as Ada, up to its end or its error, which is the last."""
    settings = load_settings(environment(tmp_path))
    client = cast(InferenceClient, model)
    made = Engine(settings, archive, NothingFound(), adapters, WordTokenizer(), client)
    told: list[Any] = []
    replying = made.reply(Persona("T1", "U1", "Ada", "ada"), Dialogue((Turn("Grace", "Why?"),)), OPERATOR)
    while not told or not isinstance(told[-1], Finished | ConsentError):
        try:
            told.append(await anext(replying))
        except ConsentError as error:
            told.append(error)
    return told


@pytest.mark.parametrize(("look_seconds", "words"), [(0.0, 1), (60.0, 3)])
async def test_an_answer_in_flight_stops(
    archive: Archive,
    adapters: AdapterStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    look_seconds: float,
    words: int,
) -> None:
    """At the next word if it is time to look, and at the end in any case: it never counts as finished."""
    monkeypatch.setattr(engine, "LOOK_SECONDS", look_seconds)
    take_in(archive, team())
    consent.grant(archive, user(archive), "ada")
    whole = await answer(archive, adapters, Model(lambda number: None), tmp_path)
    assert isinstance(whole[-1], Finished)
    model = Model(lambda number: number == 0 and forget(archive, messages=False))
    told = await answer(archive, adapters, model, tmp_path)
    assert isinstance(told[-1], ConsentError)
    # The last word may wait for what follows, as it could be the beginning of a secret.
    assert words - 1 <= sum(isinstance(event, TextDelta) for event in told) <= words
    assert model.closed


async def test_an_answer_in_flight_stops_also_if_its_person_agrees_again_at_once(
    archive: Archive, adapters: AdapterStore, tmp_path: Path
) -> None:
    take_in(archive, team())
    consent.grant(archive, user(archive), "ada")

    def back_and_forth(number: int) -> None:
        if number == 0:
            forget(archive, messages=False)
            consent.grant(archive, user(archive), "ada")

    told = await answer(archive, adapters, Model(back_and_forth), tmp_path)
    assert "meanwhile" in str(told[-1])
    assert isinstance((await answer(archive, adapters, Model(lambda number: None), tmp_path))[-1], Finished)


async def test_an_answer_that_may_quote_somebody_who_is_forgotten_stops(
    archive: Archive, adapters: AdapterStore, tmp_path: Path
) -> None:
    take_in(archive, team())
    consent.grant(archive, user(archive), "ada")
    grace = replace(user(archive, "U2"))
    model = Model(lambda number: number == 0 and forget_person(archive, grace, True, "grace"))
    told = await answer(archive, adapters, model, tmp_path)
    assert "ask again" in str(told[-1])
