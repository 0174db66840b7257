"""Puts the hashes of PyTorch's CPU build into locks, or compares a lock with one for Python 3.12: see `make lock`.

    python docs/make_torch_hashes.py requirements.txt requirements-dev.txt
    uv pip compile … | python docs/make_torch_hashes.py --same requirements-gpu.txt

PyTorch publishes the CPU build on an index of its own. A lock made from a folder of wheels has the hash of the wheel in
it, a lock for Python 3.12 needs another: both are here. With another version of torch they change: they are in that
index's page, behind `#sha256=`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

VERSION = "2.13.0+cpu"
HASHES = {
    "cp311-cp311-manylinux_2_28_x86_64": "6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",
    "cp312-cp312-manylinux_2_28_x86_64": "4ca4a9394b0c771238a4f73590fdbbc4debad85ed0fa63d026ae1b085da7d6e2",
}
_TORCH = re.compile(r"^torch==(\S+) \\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)
_PINNED = re.compile(r"^([\w.-]+==\S+)", re.MULTILINE)


def main() -> None:
    """Rewrite the locks that are named, or compare one."""
    if sys.argv[1:2] == ["--same"]:
        compare(Path(sys.argv[2]).read_text(encoding="utf-8"), sys.stdin.read())
    for lock in map(Path, sys.argv[1:] if sys.argv[1] != "--same" else []):
        lock.write_text(hashed(lock.read_text(encoding="utf-8")), encoding="utf-8")


def hashed(lock: str) -> str:
    """`lock` with the hashes of every wheel of the CPU build that Doppel runs on."""
    found = _TORCH.search(lock)
    if found is None or found[1] != VERSION:
        version = found[1] if found else "?"
        sys.exit(f"The lock has torch {version}; docs/make_torch_hashes.py knows the hashes of {VERSION}.")
    known = sorted(HASHES.values())
    if "+cpu" in found[1] and not set(re.findall(r"sha256:(\w+)", found[2])) & set(known):
        sys.exit("The wheel of torch that was found is none that PyTorch published.")
    lines = " \\\n".join(f"    --hash=sha256:{digest}" for digest in known)
    return lock[: found.start()] + f"torch=={VERSION} \\\n{lines}\n" + lock[found.end() :]


def compare(lock: str, other: str) -> None:
    """End with a sentence where Python 3.12 needs what the lock doesn't pin."""
    missing = sorted(set(_PINNED.findall(other)) - set(_PINNED.findall(lock)))
    if missing:
        sys.exit(f"On Python 3.12 the lock lacks {', '.join(missing)}: name it in pyproject.toml.")


if __name__ == "__main__":
    main()
