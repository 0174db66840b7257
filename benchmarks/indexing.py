"""A full reindex, against sentence-transformers alone on the same texts: python -m benchmarks.indexing"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from benchmarks.command import main, say
from benchmarks.frame import Benchmark, Contender, MeasurementError, Samples
from benchmarks.workspace import import_into, public_name, settings_for
from doppel.artifacts import VersionedFolder
from doppel.config import Settings
from doppel.engine.conversation import conversations
from doppel.ingest import open_archive
from indexing.chunk import chunk
from indexing.embed import SentenceEmbedder
from indexing.reindex import ReindexReport, reindex

T = TypeVar("T")

DOES_NOT_SHOW = (
    "loading the model and the libraries, which every command pays once (all are loaded before the first round).",
    "how good the index is: the first two differ in precision too, which is why the third is there.",
    "the search, or an index of a million chunks: this one is as small as the workspace.",
)


def prepare(given: Namespace, work: Path) -> Benchmark:
    """An archive with the export, its texts, an index that is up to date, and the models, loaded."""
    settings = settings_for(work)
    report = import_into(settings.archive_path, given.export)
    texts = _texts(settings.archive_path)
    embedder = SentenceEmbedder(settings.embedding_model, settings.device)
    say(f"{report.messages} messages in {len(texts)} different chunks; indexing once, to begin with.")
    reindex_into(settings.index_dir, settings.archive_path, embedder, full=True)
    plain, ours = _peer(embedder, settings), embedder._transformer()
    return Benchmark(
        name="indexing",
        title="A full reindex in a new folder",
        contenders=(
            Contender("doppel, full", lambda: _full(settings, embedder, texts, work)),
            Contender("sentence-transformers", lambda: _encoding(plain, texts)),
            Contender(f"sentence-transformers, {_precision(ours)}", lambda: _encoding(ours, texts)),
            Contender("doppel, nothing new", lambda: _nothing_new(settings, embedder)),
        ),
        workload={
            "export": given.export.name,
            "chunks": len(texts),
            "model": public_name(settings.embedding_model),
            "precision_of_doppel": _precision(ours),
            "precision_of_sentence_transformers": _precision(plain),
            "process": "one for all",
        },
        libraries=("sentence-transformers", "torch", "transformers", "faiss-cpu", "numpy"),
        does_not_show=DOES_NOT_SHOW,
    )


def reindex_into(folder: Path, archive_path: Path, embedder: SentenceEmbedder, *, full: bool) -> ReindexReport:
    """What `doppel reindex` does once its model is loaded."""
    with open_archive(archive_path) as archive:
        return reindex(archive, VersionedFolder(folder, "index", "build it again"), embedder, full=full)


def _precision(model: Any) -> str:
    return str(next(model.parameters()).dtype).removeprefix("torch.")


def _texts(archive_path: Path) -> list[str]:
    """The texts that a full reindex embeds: every chunk's, once."""
    with open_archive(archive_path) as archive:
        found = [cut.text for conversation in conversations(archive.messages()) for cut in chunk(conversation)]
    return list(dict.fromkeys(found))


def _peer(embedder: SentenceEmbedder, settings: Settings) -> Any:
    """The same model as sentence-transformers loads it by itself."""
    from sentence_transformers import SentenceTransformer

    device = None if settings.device == "auto" else settings.device
    return SentenceTransformer(str(embedder.folder or embedder.model), device=device)


def _full(settings: Settings, embedder: SentenceEmbedder, texts: list[str], work: Path) -> Samples:
    with TemporaryDirectory(dir=work) as folder:
        seconds, report = _timed(lambda: reindex_into(Path(folder), settings.archive_path, embedder, full=True))
    if report.embedded < len(texts):
        raise MeasurementError(f"A full reindex embedded {report.embedded} chunks instead of {len(texts)}.")
    return {"chunks/s": [len(texts) / seconds], "seconds": [seconds]}


def _encoding(model: Any, texts: list[str]) -> Samples:
    seconds, vectors = _timed(lambda: model.encode(texts))
    if len(vectors) != len(texts):
        raise MeasurementError(f"{len(vectors)} vectors came of {len(texts)} texts.")
    return {"chunks/s": [len(texts) / seconds], "seconds": [seconds]}


def _nothing_new(settings: Settings, embedder: SentenceEmbedder) -> Samples:
    seconds, report = _timed(lambda: reindex_into(settings.index_dir, settings.archive_path, embedder, full=False))
    if report.embedded:
        raise MeasurementError(f"{report.embedded} chunks were embedded where nothing was new.")
    return {"seconds": [seconds]}


def _timed(work: Callable[[], T]) -> tuple[float, T]:
    started = time.perf_counter()
    done = work()
    return time.perf_counter() - started, done


if __name__ == "__main__":
    main("indexing", prepare, rounds=3, warmup=1)
