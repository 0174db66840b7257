"""Doppel: a doppelganger of a colleague, from a team's Slack to an answer with sources."""
