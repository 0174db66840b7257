"""The real packaged model, offline."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from doppel.config import PACKAGED_EMBEDDING_MODEL
from doppel.errors import ConfigError
from indexing.embed import SentenceEmbedder


@pytest.fixture(scope="module")
def embedder() -> SentenceEmbedder:
    return SentenceEmbedder(PACKAGED_EMBEDDING_MODEL, device="cpu")


TEXTS = [
    "Ada: The deployment failed because the disk was full.",
    "Bo: " + "We should order lunch for everybody. " * 25,
    "Cy: ok",
]


def test_vectors_are_unit_rows_in_the_order_of_the_texts(embedder: SentenceEmbedder) -> None:
    done: list[int] = []
    vectors = embedder.encode_documents(TEXTS, done.append)

    assert vectors.shape == (3, embedder.dimensions) == (3, 384)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert done == [3]
    for i, text in enumerate(TEXTS):
        assert float(vectors[i] @ embedder.encode_documents([text])[0]) > 0.999


def test_a_question_is_nearest_to_its_answer(embedder: SentenceEmbedder) -> None:
    vectors = embedder.encode_documents(TEXTS)
    assert int(np.argmax(vectors @ embedder.encode_query("Why did the release break?"))) == 0
    assert int(np.argmax(vectors @ embedder.encode_query("Where do we eat?"))) == 1


def test_langchain_gets_lists(embedder: SentenceEmbedder) -> None:
    (document,), query = embedder.embed_documents(["cat"]), embedder.embed_query("cat")
    assert isinstance(document, list)
    assert np.dot(document, query) == pytest.approx(1, abs=1e-3)
    assert embedder.encode_documents([]).shape == (0, 384)


def test_lone_surrogates_are_no_fault(embedder: SentenceEmbedder) -> None:
    assert embedder.encode_query("caf\udce9").shape == (384,)


def test_the_fingerprint_is_that_of_the_files(embedder: SentenceEmbedder, tmp_path: Path) -> None:
    assert embedder.model_id == SentenceEmbedder(PACKAGED_EMBEDDING_MODEL).model_id
    assert embedder.model_id.startswith(PACKAGED_EMBEDDING_MODEL + "@")
    (tmp_path / "modules.json").write_text("[]")
    (tmp_path / "model.safetensors").write_bytes(b"1")
    before = SentenceEmbedder(str(tmp_path)).model_id
    (tmp_path / "model.safetensors").write_bytes(b"2")
    assert SentenceEmbedder(str(tmp_path)).model_id != before


@pytest.mark.parametrize(
    ("model", "device", "says"),
    [
        ("package:no_such_package", "cpu", "run `pip install no-such-package`"),
        ("not a name", "cpu", "not a name can't be loaded"),
        (PACKAGED_EMBEDDING_MODEL, "cuda", "sees no GPU"),
    ],
)
def test_what_can_not_be_loaded_is_one_sentence(
    model: str, device: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ConfigError) as caught:
        SentenceEmbedder(model, device).encode_query("x")
    assert says in str(caught.value)
    assert str(caught.value).count("\n") == 0


def test_a_folder_without_a_model_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DOPPEL_EMBEDDING_MODEL"):
        SentenceEmbedder(str(tmp_path), "cpu").encode_query("x")


ON_THE_HUB = """
    from doppel.errors import ConfigError
    from indexing.embed import SentenceEmbedder

    embedder = SentenceEmbedder("acme/mini", "cpu")
    print(embedder.model_id, embedder.encode_query("hello").shape)
    try:
        SentenceEmbedder("acme/other", "cpu")
    except ConfigError as error:
        print(error)
"""


def test_a_name_of_the_hub_that_was_downloaded_needs_no_network(tmp_path: Path) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "hub" / "models--acme--mini"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(commit)
    (cached / "snapshots").mkdir()
    packaged = SentenceEmbedder(PACKAGED_EMBEDDING_MODEL)
    (cached / "snapshots" / commit).symlink_to(str(packaged.folder), target_is_directory=True)

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(ON_THE_HUB)],
        cwd=Path(__file__).parents[2],
        env=os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=True,
    )
    found, missing = done.stdout.splitlines()
    assert found == f"acme/mini@{commit} (384,)"
    assert missing.startswith("The embedding model acme/other can't be loaded")
    assert done.stderr == ""
