"""chat.startStream, .appendStream and .stopStream: a message that grows while it is read."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Literal

from tests.fakes.slack.api_read import Handler
from tests.fakes.slack.api_write import author_fields
from tests.fakes.slack.call import Call, SlackError
from tests.fakes.slack.channels import Json

_MAX_APPEND = 12_000


@dataclass
class Stream:
    """A message being streamed; `mode` is how its text comes, and may not change."""

    ends: float
    mode: Literal["markdown_text", "chunks", ""] = ""
    chunks: list[Json] = field(default_factory=list)
    stopped_by_user: bool = False


def start(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.startStream"""
    place = call.writable()
    if place.kind != "im":
        for name in ("recipient_team_id", "recipient_user_id"):
            if not call.text(name):
                raise SlackError(f"missing_{name}")
    life = call.slack.behaviour.stream_seconds / call.slack.time_scale
    stream = Stream(time.monotonic() + life)
    text = _piece(call, stream)
    fields = {**author_fields(call), "streaming_state": "in_progress"}
    ts = call.workspace.post(place.id, call.token.user, text, call.need("thread_ts"), **fields)
    call.slack.streams[place.id, ts] = stream
    return {"channel": place.id, "ts": ts}


def append(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.appendStream"""
    raw, stream = _running(call)
    piece = _piece(call, stream)
    call.workspace.replace(call.text("channel"), {**raw, "text": raw["text"] + piece}, quietly=True)
    return {"channel": call.text("channel"), "ts": raw["ts"]}


def stop(call: Call) -> Json:
    """https://docs.slack.dev/reference/methods/chat.stopStream; the finished message is told as message_changed"""
    raw, stream = _running(call)
    fields = {name: call.value(name) for name in ("blocks", "metadata") if call.params.get(name)}
    text = raw["text"] + _piece(call, stream)
    done = {**raw, **fields, "text": text, "streaming_state": "completed"}
    call.workspace.replace(call.text("channel"), done)
    del call.slack.streams[call.text("channel"), raw["ts"]]
    return {"channel": call.text("channel"), "ts": raw["ts"], "message": done}


def _running(call: Call) -> tuple[Json, Stream]:
    place, ts = call.place(), call.need("ts")
    raw, stream = place.log.get(ts), call.slack.streams.get((place.id, ts))
    if raw is None:
        raise SlackError("message_not_found")
    if stream and stream.stopped_by_user:
        raise SlackError("stopped_by_user")
    if stream is None or time.monotonic() >= stream.ends:
        raise SlackError("message_not_in_streaming_state")
    return raw, stream


def _piece(call: Call, stream: Stream) -> str:
    """The text that a call adds."""
    chunks, text = call.value("chunks"), call.text("markdown_text")
    mode: Literal["markdown_text", "chunks", ""] = "chunks" if chunks else "markdown_text" if text else ""
    if mode and stream.mode and mode != stream.mode:
        raise SlackError("streaming_mode_mismatch")
    stream.mode = stream.mode or mode
    if not isinstance(chunks, list | None) or not all(isinstance(chunk, dict) for chunk in chunks or ()):
        raise SlackError("invalid_chunks")
    stream.chunks += chunks or []
    text = text or "".join(chunk.get("text", "") for chunk in chunks or () if chunk.get("type") == "markdown_text")
    if len(text) > _MAX_APPEND:
        raise SlackError("msg_too_long")
    return text


METHODS: dict[str, tuple[Handler, tuple[str, ...]]] = {
    "chat.startStream": (start, ("chat:write",)),
    "chat.appendStream": (append, ("chat:write",)),
    "chat.stopStream": (stop, ("chat:write",)),
}
