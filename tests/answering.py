"""A real engine over a real index, with a fake embedder and a model of the test's."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import Any

from doppel.adapters import AdapterStore
from doppel.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.config import Settings
from doppel.inference.client import Piece
from doppel.services.ask import Engine
from indexing.reindex import reindex
from indexing.retrieve import IndexRetriever
from tests.fakes.embedding import FakeEmbedder
from tests.fakes.tokenizer import WordTokenizer


class Parrot:
    """The worst of all models: it repeats whatever stands in its prompt."""

    def __init__(self) -> None:
        self.tokenizer = WordTokenizer()

    async def stream(self, prompt_ids: Sequence[int], *_: object, **__: object) -> AsyncGenerator[Piece, None]:
        words = self.tokenizer.decode(prompt_ids).split()
        for start in range(0, len(words), 200):
            yield Piece(" ".join(words[start : start + 200]) + " ", start + 200)


def indexed_engine(settings: Settings, archive: Archive, model: Any, embedder: FakeEmbedder | None = None) -> Engine:
    """An engine whose index is made anew; `model` streams, and has the tokenizer that it reads with."""
    index = VersionedFolder(settings.index_dir, "index", "")
    reindex(archive, index, FakeEmbedder())
    retriever = IndexRetriever(index, embedder or FakeEmbedder(), archive)
    return Engine(settings, archive, retriever, AdapterStore(settings.adapters_dir), model.tokenizer, model)
