"""The one way in which a name becomes a part of a path."""

from __future__ import annotations

from pathlib import Path

from doppel.errors import ArtifactError


def within(root: Path, *names: str) -> Path:
    """What is called so below `root`, a folder for each name but the last.

    Raises ArtifactError for a name that leads elsewhere, and for a link.
    """
    path = root
    for name in names:
        path /= name
        if not _is_plain(name) or path.is_symlink():
            raise ArtifactError(
                f"{'/'.join(names)!a} leads out of {root}, so nothing is read, written or deleted there; "
                "take away what is called so, or the link."
            )
    return path


def _is_plain(name: str) -> bool:
    return name not in ("", ".", "..") and not {"/", "\\", "\0"} & set(name)
