"""Where adapters lie, who has one, and which version serves."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from doppel.access import ChannelKey
from doppel.artifacts import Version, VersionedFolder
from doppel.errors import ArtifactError
from doppel.inference.client import Adapter
from doppel.paths import within
from doppel.records import User


@dataclass(frozen=True, slots=True)
class AdapterInfo:
    """What an adapter's manifest records, and must, for it to be served."""

    base_model: str
    channels: frozenset[ChannelKey]

    @classmethod
    def of(cls, version: Version) -> AdapterInfo:
        """From the manifest of a published version."""
        info = version.info
        return cls(str(info["base_model"]), frozenset((str(team), str(channel)) for team, channel in info["channels"]))


@dataclass(frozen=True, slots=True)
class AdapterStore:
    """The adapters of one data folder, a versioned folder for each person."""

    root: Path

    def folder(self, user: User) -> VersionedFolder:
        """The versions of one person's adapter. Raises ArtifactError for an id that leads out of the folder."""
        remedy = f"train it again with `doppel train --user {user.id}`, or go back with `doppel adapters rollback`"
        return VersionedFolder(within(self.root, user.team, user.id), f"adapter of {user.name}", remedy)

    def published(self, user: User) -> Version | None:
        """The version that serves, or None."""
        return self.folder(user).current()

    def require(self, user: User) -> Version:
        """The version that serves. Raises ArtifactError where there is none."""
        version = self.published(user)
        if version is None:
            raise ArtifactError(f"{user.name} has no adapter; train one with `doppel train --user {user.id}`.")
        return version

    def roll_back(self, user: User, to: str | None) -> tuple[str, str]:
        """Let version `to`, or the one before the serving one, serve; returns the names before and after.

        Raises ArtifactError where there is none to go to.
        """
        folder = self.folder(user)
        before, names = folder.current_name(), folder.names()
        if before is None:
            raise ArtifactError(f"{user.name} has no adapter; train one with `doppel train --user {user.id}`.")
        earlier = [name for name in names if name < before]
        target = to or (earlier[-1] if earlier else None)
        if target not in names:
            raise ArtifactError(f"{user.name} has no such version to go back to; there are: {', '.join(names)}.")
        with folder.writer() as writer:
            writer.switch(target)
        return before, target

    def retire(self, user: User) -> list[str]:
        """Delete every version, and what training left; returns the names of the versions that went."""
        folder = self.folder(user)
        if not folder.root.is_dir():
            return []
        with folder.writer() as writer:
            return writer.retire()

    def overview(self, users: Iterable[User]) -> list[dict[str, Any]]:
        """One row for each version that is there, with the figures of its training, or what is wrong with it."""
        rows = []
        for user in users:
            folder = self.folder(user)
            serving = folder.current_name()
            # One that is to serve and isn't there is damaged, too.
            for name in dict.fromkeys([*folder.names(), *([serving] if serving else [])]):
                row = {"persona": user.name, "user_id": user.id, "team": user.team, "version": name}
                rows.append(row | {"serving": name == serving} | _figures(folder, name))
        return rows


def _figures(folder: VersionedFolder, name: str) -> dict[str, Any]:
    """What an overview tells of a version; a damaged one has the sentence about it in place of figures."""
    names = ("examples", "base_nll", "adapter_nll")
    try:
        version = folder.load(name)
    except ArtifactError as error:
        return {"created": None, **dict.fromkeys(names), "damaged": str(error)}
    return {"created": version.created, **{name: version.info.get(name) for name in names}, "damaged": None}


def adapter_name(user: User, version: str) -> str:
    """The name by which vLLM knows a version; never used again."""
    return f"{user.team}-{user.id}-{version}"


def serving_adapter(user: User, version: Version) -> Adapter:
    """An adapter as vLLM takes it."""
    return Adapter(adapter_name(user, version.name), version.path)
