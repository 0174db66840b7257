"""The Slack app as one paste: what it may do, and why. Pure.

https://docs.slack.dev/reference/app-manifest
"""

from __future__ import annotations

from typing import Any

from doppel.slack.draft_blocks import SHORTCUT
from doppel.slack.events import TYPES

COMMAND = "/doppel"

SCOPES: dict[str, str] = {
    "app_mentions:read": "hears when somebody mentions it",
    "channels:history": "reads public channels that it was invited to",
    "channels:join": "joins public channels, only with `doppel sync --join`",
    "channels:read": "lists public channels and who is in them, to decide what may be shown where",
    "chat:write": "answers",
    "chat:write.customize": "answers under the person's name and picture, marked as an AI",
    "commands": "takes /doppel, and Draft a reply in the menu of a message",
    "groups:history": "reads private channels that it was invited to",
    "groups:read": "lists private channels that it is in and who is in them, to decide what may be shown where",
    "im:history": "reads what people write to it directly",
    "im:write": "asks people for their consent in a direct message",
    "mpim:history": "reads group conversations that it was added to",
    "mpim:read": "lists group conversations that it is in and who is in them, to decide what may be shown where",
    "reactions:read": "keeps reactions in the archive as they are in Slack",
    "usergroups:read": "knows what user groups are called that messages mention",
    "users:read": "knows people's names, who is a guest and who is an admin",
}
"""Every scope of the bot, and what it is for."""

BACK = ("/slack/oauth_redirect", "/slack/signed-in")
"""Where browsers come back to from Slack: after the app was installed, after somebody signed in."""

BOT_EVENTS = ("app_home_opened", "app_mention", "app_uninstalled", "message.im", "tokens_revoked")
_HISTORY = ("message.channels", "message.groups", "message.mpim")

EVENT_SCOPES: dict[str, str] = {
    "app_mention": "app_mentions:read",
    "message.channels": "channels:history",
    "message.groups": "groups:history",
    "message.im": "im:history",
    "message.mpim": "mpim:history",
    "reaction_added": "reactions:read",
    "reaction_removed": "reactions:read",
    "member_joined_channel": "channels:read",
    "member_left_channel": "channels:read",
    "channel_history_changed": "channels:history",
    "group_history_changed": "groups:history",
    "team_join": "users:read",
    "user_change": "users:read",
}
"""The scope of each event that doesn't go by its prefix: channels:read for `channel_…`, groups:read for `group_…`."""


def events() -> list[str]:
    """The events that the app subscribes to."""
    return sorted({*BOT_EVENTS, *_HISTORY, *(kind for kind in TYPES if kind != "message")})


def manifest(name: str, url: str = "") -> dict[str, Any]:
    """The manifest of an app called `name`: with Socket Mode, or with Slack's requests sent to the server at `url`."""
    address = f"{url.rstrip('/')}/slack/events" if url else ""
    request = {"request_url": address} if address else {}
    back = [f"{url.rstrip('/')}{path}" for path in BACK] if url else []
    command = {"command": COMMAND, "description": "Ask a doppelganger", "usage_hint": "help", "should_escape": True}
    shortcut = {"name": "Draft a reply", "type": "message", "callback_id": SHORTCUT}
    return {
        "display_information": {
            "name": name,
            "description": "Answers as a colleague would, from what your team said. An AI, and says so.",
        },
        "features": {
            "app_home": {
                "home_tab_enabled": True,
                "messages_tab_enabled": True,
                "messages_tab_read_only_enabled": False,
            },
            "bot_user": {"display_name": name, "always_online": True},
            "shortcuts": [shortcut | {"description": "In your own manner, shown to you alone"}],
            "slash_commands": [command | ({"url": address} if address else {})],
        },
        "oauth_config": {"scopes": {"bot": sorted(SCOPES)}} | ({"redirect_urls": back} if back else {}),
        "settings": {
            "event_subscriptions": {**request, "bot_events": events()},
            "interactivity": {"is_enabled": True, **request},
            "org_deploy_enabled": False,
            "socket_mode_enabled": not address,
            "token_rotation_enabled": False,
        },
    }
