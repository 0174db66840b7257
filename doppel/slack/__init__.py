"""Slack's shapes, translated to our records."""
