"""The Hugging Face hub: whether a model that a setting names is there, or was downloaded before."""

from __future__ import annotations

from pathlib import Path

from doppel.config import checked_secret
from doppel.errors import ConfigError


def revision(name: str, what: str, setting: str) -> str:
    """The commit of a model on the hub: the one that was downloaded before, else the newest.

    Raises ConfigError, at once, where there is neither: the libraries that load models try for a minute first.
    """
    from huggingface_hub import HfApi, get_token, snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        checked_secret(get_token() or "")
    except ValueError as error:
        raise ConfigError(f"HF_TOKEN {error}.") from None
    try:
        try:
            return Path(snapshot_download(name, local_files_only=True)).name
        except LocalEntryNotFoundError:
            return str(HfApi().model_info(name).sha)
    except Exception as error:  # the hub's errors, and those of the HTTP client beneath
        raise cannot_load(name, what, setting, error) from error


def cannot_load(name: str, what: str, setting: str, error: Exception) -> ConfigError:
    """The sentence for a model that can't be loaded."""
    reason = next(iter(str(error).strip().splitlines()), "").rstrip(".:") or type(error).__name__
    return ConfigError(
        f"The {what} {name} can't be loaded ({reason}); set {setting} to a folder or a Hugging Face name that has it, "
        "and be online the first time a name is used."
    )
