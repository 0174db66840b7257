"""The one canonical store of what a team said, who agreed, and what readers thought of the answers."""

from doppel.archive.archive import Archive
from doppel.archive.consent_and_feedback import Feedback
from doppel.archive.reading import Counts

__all__ = ["Archive", "Counts", "Feedback"]
