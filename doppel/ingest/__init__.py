"""Slack's own API into the archive: everything once, and then what is new."""
