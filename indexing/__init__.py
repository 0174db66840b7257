"""From the archive to a published index, and from a question to the threads that may answer it."""

FORMAT = 2
"""Raised when chunks or files of an index change their shape: one of another format is not searched, but built anew."""
