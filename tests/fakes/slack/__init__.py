"""A fake Slack: a real server for tests. See server.py."""

from tests.fakes.slack.events import HttpApp
from tests.fakes.slack.faults import Fault, Faults
from tests.fakes.slack.limits import Limits
from tests.fakes.slack.server import FakeSlack
from tests.fakes.slack.settings import App, Behaviour
from tests.fakes.slack.workspace import BOT, TEAM, Workspace

__all__ = ["BOT", "TEAM", "App", "Behaviour", "FakeSlack", "Fault", "Faults", "HttpApp", "Limits", "Workspace"]
