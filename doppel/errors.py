"""The errors of Doppel. Each message is one sentence for the user that says what to do.

DoppelError
├── ConfigError            a setting is wrong or unknown
├── BadInputError          what the user handed in can't be read (an export, a name, a path)
│   └── UnknownUserError   no such person, or several
├── BusyError              another process works on the same thing, or a port is taken
├── StorageError           the disk is full, a file can't be written
├── ArchiveError           the archive can't be opened
├── ArtifactError          an index or adapter version is missing or damaged
├── ConsentError           the person has not agreed
├── NotReadableError       what would be needed may not be read here
├── TrainingError          too few examples, settings that vLLM can't load
├── SlackError             Slack refused a call, or can't be reached
│   └── SlackTokenError    the token is missing, wrong or revoked: nothing goes on
├── JobError               there is no such job, it failed or was cancelled, its database can't be reached
└── InferenceError         the vLLM server can't be reached, started or made to answer
"""

from __future__ import annotations


class DoppelError(Exception):
    """Base of every error that a user may read."""


class ConfigError(DoppelError):
    """A setting is wrong or unknown."""


class BadInputError(DoppelError):
    """What the user handed in can't be read."""


class UnknownUserError(BadInputError):
    """No such person, or several."""


class BusyError(DoppelError):
    """Another process works on the same thing, or a port is taken."""


class StorageError(DoppelError):
    """The disk is full, or a file can't be written."""


class ArchiveError(DoppelError):
    """The archive can't be opened."""


class ArtifactError(DoppelError):
    """An index or adapter version is missing or damaged."""


class ConsentError(DoppelError):
    """The person has not agreed."""


class NotReadableError(DoppelError):
    """What would be needed may not be read here."""


class TrainingError(DoppelError):
    """Training can't start or can't go on."""


class SlackError(DoppelError):
    """Slack refused a call, or can't be reached; `code` is Slack's own word for it."""

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.code = code


class SlackTokenError(SlackError):
    """The token is missing, wrong or revoked."""


class JobError(DoppelError):
    """There is no such job, it failed or was cancelled, or its database can't be reached."""


class InferenceError(DoppelError):
    """The vLLM server can't be reached, started or made to answer."""
