"""What a figure was measured on, without the machine's name or paths."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parent.parent
BUSY_SECONDS = 0.5


def machine_facts(libraries: Iterable[str]) -> dict[str, Any]:
    """Processor, cores, memory, GPUs, load, Python, versions of `libraries` and the commit of this checkout."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "gpus": _gpus(),
        "load_before": round(os.getloadavg()[0], 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "libraries": {name: _version(name) for name in libraries},
        "commit": _git("rev-parse", "--short=12", "HEAD"),
        "changed_since_commit": _is_changed(),
    }


def busy_share() -> float:
    """The share of all cores that is busy now, while whoever asks is idle."""
    return psutil.cpu_percent(interval=BUSY_SECONDS) / 100


def _processor() -> str:
    """The model's name, and what of it matters to a matrix product."""
    try:
        facts = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor() or platform.machine()
    name = re.search(r"^model name\s*: (.+)$", facts, re.MULTILINE)
    flags = set(re.findall(r"\b(avx2|avx512f|avx512_bf16|amx_bf16)\b", facts))
    return f"{name[1].strip() if name else platform.machine()} ({', '.join(sorted(flags)) or 'no AVX2'})"


def _gpus() -> list[str]:
    found = sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
    return [m[1].strip() for f in found if (m := re.search(r"^Model:(.+)$", f.read_text(), re.MULTILINE))]


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _is_changed() -> bool | None:
    """Whether code differs from the commit; results that were just written don't count."""
    found = _git("status", "--porcelain", "--", ".", ":!benchmarks/results", ":!*.md")
    return None if found is None else bool(found)
