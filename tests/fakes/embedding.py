"""An embedding model without a model: words are hashed to directions, so texts that share words are near."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence

import numpy as np

from indexing.embed import Embedder, Vectors, unit


class FakeEmbedder(Embedder):
    """Deterministic and quick. `embedded` lists every text it was given; `fail_after` texts it is interrupted."""

    def __init__(self, model_id: str = "fake@1", dimensions: int = 48, fail_after: int | None = None) -> None:
        self._model_id = model_id
        self._dimensions = dimensions
        self.fail_after = fail_after
        self.embedded: list[str] = []

    @property
    def model_id(self) -> str:
        return self._model_id

    @property
    def dimensions(self) -> int:
        return self._dimensions

    def encode_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        vectors = np.zeros((len(texts), self._dimensions), dtype=np.float32)
        for i, text in enumerate(texts):
            if self.fail_after is not None and len(self.embedded) >= self.fail_after:
                raise KeyboardInterrupt
            self.embedded.append(text)
            vectors[i] = self._vector(text)
        if progress:
            progress(len(texts))
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        return np.stack([self._vector(text) for text in texts])

    def _vector(self, text: str) -> Vectors:
        words = [word.strip(".,:;!?").lower() for word in text.split()]
        total = np.zeros((1, self._dimensions), dtype=np.float32)
        for word in words:
            seed = zlib.crc32(word.encode(errors="replace"))
            total += np.random.default_rng(seed).standard_normal(self._dimensions).astype(np.float32)
        vector: Vectors = unit(total)[0]
        return vector
