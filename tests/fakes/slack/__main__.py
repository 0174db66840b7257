"""Serves a fake Slack as a process of its own, until Ctrl-C.

python -m tests.fakes.slack --export PATH [--port N] [--restricted] [--time-scale X] [--fault-rate 0.1]
"""

from __future__ import annotations

import argparse
import threading
from contextlib import nullcontext

from tests.fakes.slack import App, FakeSlack, Faults, HttpApp, Limits, Workspace


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.fakes.slack", description="A fake Slack on 127.0.0.1.")
    parser.add_argument("--export", metavar="PATH", help="a Slack export, ZIP or folder; else an empty workspace")
    parser.add_argument("--port", type=int, default=0, help="default: a free one")
    parser.add_argument("--limits", action="store_true", help="hold Slack's published limits")
    parser.add_argument("--restricted", action="store_true", help="those of an app sold outside the marketplace")
    parser.add_argument("--time-scale", type=float, default=1.0, metavar="X", help="a minute lasts 60/X seconds")
    parser.add_argument("--fault-rate", type=float, default=0.0, metavar="R", help="part of the calls that fail")
    parser.add_argument("--seed", type=int, default=0, help="of the faults")
    parser.add_argument("--events-url", metavar="URL", help="an app's request URL, which then gets the events")
    parser.add_argument("--token", metavar="xoxb-…", help="the bot's token; else a new one")
    return parser.parse_args(argv)


def serve(given: argparse.Namespace) -> FakeSlack:
    """A server as the command line asks for it, not yet started."""
    workspace = Workspace.from_export(given.export) if given.export else Workspace()
    limited = given.limits or given.restricted
    limits = Limits(restricted=given.restricted, time_scale=given.time_scale, counting=limited)
    faults = Faults(given.fault_rate, seed=given.seed)
    return FakeSlack(workspace, limits=limits, faults=faults, app=App(), port=given.port, bot_token=given.token)


def main() -> None:
    """Serve until Ctrl-C."""
    try:
        given = arguments()
        with serve(given) as slack, HttpApp(slack, given.events_url) if given.events_url else nullcontext():
            print(f"# A fake Slack of {slack.workspace.name} ({slack.workspace.team}) listens at {slack.url}")
            print(f"SLACK_API_URL={slack.api_url}")
            print(f"SLACK_BOT_TOKEN={slack.bot_token}")
            print(f"SLACK_APP_TOKEN={slack.app_token}")
            print(f"SLACK_SIGNING_SECRET={slack.app.signing_secret}")
            print(f"# To install the app and sign in instead of the bot's token: SLACK_CLIENT_ID={slack.app.client_id}")
            print(
                f"# SLACK_CLIENT_SECRET={slack.app.client_secret}, with DOPPEL_TOKEN_KEYS and DOPPEL_PUBLIC_URL",
                flush=True,
            )
            threading.Event().wait()
    except KeyboardInterrupt:
        print("# Stopped.")


if __name__ == "__main__":
    main()
