"""The client of a vLLM server: streamed completions of token ids, adapters by name, likelihoods of a text.

Prompts go over the wire as token ids, rendered by `doppel.engine.prompt` alone, so that training and answering see the
same.
Protocol: vLLM's OpenAI-compatible server, /v1/completions and /v1/load_lora_adapter.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx2
from openai import APIConnectionError, APIError, APIStatusError, AsyncOpenAI, NotFoundError

from doppel.errors import ArtifactError, InferenceError

CONNECT_SECONDS = 10.0
ANSWER_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a vLLM server listens: `url` ends in /v1, `model` is the base model's name there.

    With `socket` it is reached through that Unix socket, whatever host the URL names.
    """

    url: str
    api_key: str = field(repr=False)
    model: str
    socket: str = ""

    @property
    def is_sound(self) -> bool:
        """Whether it can be asked at all: it may come from a file."""
        parts = (self.url, self.api_key, self.model, self.socket)
        if not all(isinstance(part, str) and part.isprintable() for part in parts):
            return False
        try:
            return httpx2.URL(self.url).scheme in ("http", "https")
        except httpx2.InvalidURL:
            return False

    @property
    def address(self) -> str:
        """Where it is, for people; not with what password."""
        return self.socket or re.sub(r"(?<=://)[^/]*@", "", self.url)

    @property
    def root(self) -> str:
        """The server's address without /v1."""
        return self.url.rstrip("/").removesuffix("/v1")

    @property
    def headers(self) -> dict[str, str]:
        """The key, where there is one; an empty one is no legal header."""
        return {"Authorization": f"Bearer {self.api_key}"} if self.api_key else {}

    def http(self, timeout: httpx2.Timeout | float) -> httpx2.AsyncClient:
        """A client that reaches it and shows the key."""
        transport = httpx2.AsyncHTTPTransport(uds=self.socket) if self.socket else None
        return httpx2.AsyncClient(timeout=timeout, headers=self.headers, transport=transport)


@dataclass(frozen=True, slots=True)
class Adapter:
    """A published adapter version: a name that is never used again, and its folder."""

    name: str
    path: Path


LOOP = {"min_pattern_size": 8, "max_pattern_size": 64, "min_count": 2}
"""In tokens: what follows itself word for word ends an answer, as small models would go on with it for ever."""

_CUT = ("length", "repetition")
"""Why the server ends a completion that has not ended by itself."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an answer is drawn; `end_id` is the token that ends it, as a loop does; None lets it run to `max_tokens`."""

    max_tokens: int
    temperature: float
    top_p: float
    end_id: int | None
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Piece:
    """The next piece of a completion, and how many tokens there are so far; the last may be cut off, not at an end."""

    text: str
    tokens: int
    is_cut: bool = False


class InferenceClient:
    """Talks to one vLLM server."""

    def __init__(self, endpoint: Endpoint, ready: Callable[[], Awaitable[None]] | None = None) -> None:
        """`ready`, if given, is awaited before each request: the server may still be starting."""
        self.endpoint = endpoint
        self._ready = ready
        timeout = httpx2.Timeout(ANSWER_SECONDS, connect=CONNECT_SECONDS)
        self._http = endpoint.http(timeout)
        self._openai = AsyncOpenAI(
            base_url=endpoint.url, api_key=endpoint.api_key or "none", max_retries=0, http_client=self._http
        )

    async def __aenter__(self) -> InferenceClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._openai.close()

    async def stream(
        self, prompt_ids: Sequence[int], adapter: Adapter | None, sampling: Sampling, team: str
    ) -> AsyncGenerator[Piece, None]:
        """Pieces of a completion. What the server caches of the prompt is of use to `team` alone.

        Raises InferenceError, also in mid-answer, and ArtifactError for a bad adapter.
        """
        tokens = 0
        end: dict[str, Any] = {"ignore_eos": True}
        if sampling.end_id is not None:
            end = {"stop_token_ids": [sampling.end_id], "repetition_detection": LOOP}
        try:
            chunks = await self._completion(
                adapter,
                prompt=list(prompt_ids),
                max_tokens=sampling.max_tokens,
                temperature=sampling.temperature,
                top_p=sampling.top_p,
                stream=True,
                stream_options={"include_usage": True, "continuous_usage_stats": True},
                frequency_penalty=sampling.frequency_penalty,
                extra_body={**end, "cache_salt": team},
            )
            finished = False
            async for chunk in chunks:
                tokens = chunk.usage.completion_tokens if chunk.usage else tokens
                for choice in chunk.choices:
                    finished = finished or choice.finish_reason is not None
                    yield Piece(choice.text, tokens, choice.finish_reason in _CUT)
        except (APIError, httpx2.HTTPError) as error:
            raise _inference_error(error, tokens) from error
        if not finished:
            raise _broken_off()

    async def completion_nll(
        self, prompt_ids: Sequence[int], completion_ids: Sequence[int], adapter: Adapter | None
    ) -> list[float]:
        """Negative log-likelihood in nats of each of `completion_ids` after `prompt_ids`, as the server computes it."""
        ids = [*prompt_ids, *completion_ids]
        try:
            answer = await self._completion(adapter, prompt=ids, max_tokens=1, extra_body={"prompt_logprobs": 0})
        except (APIError, httpx2.HTTPError) as error:
            raise _inference_error(error, 0) from error
        by_position: list[dict[str, dict[str, float]]] = answer.choices[0].prompt_logprobs
        start = len(prompt_ids)
        return [-by_position[start + i][str(token)]["logprob"] for i, token in enumerate(completion_ids)]

    async def unload(self, adapter_name: str) -> None:
        """Make the server forget an adapter; none of that name, or no server, is fine."""
        try:
            await self._http.post(
                f"{self.endpoint.root}/v1/unload_lora_adapter",
                json={"lora_name": adapter_name},
                timeout=CONNECT_SECONDS,
            )
        except httpx2.HTTPError:
            return

    async def _completion(self, adapter: Adapter | None, **options: Any) -> Any:
        """One request; an adapter that the server doesn't know yet, or lost by a restart, is loaded first."""
        name = adapter.name if adapter else self.endpoint.model
        if self._ready:
            await self._ready()
        try:
            return await self._openai.completions.create(model=name, **options)
        except NotFoundError:
            if adapter is None:
                raise
            await self._load(adapter)
            return await self._openai.completions.create(model=name, **options)

    async def _load(self, adapter: Adapter) -> None:
        body = {"lora_name": adapter.name, "lora_path": str(adapter.path)}
        response = await self._http.post(f"{self.endpoint.root}/v1/load_lora_adapter", json=body)
        if response.is_success or "already been loaded" in response.text:
            return
        raise ArtifactError(
            f"The vLLM server can't load the adapter {adapter.name} from {adapter.path} "
            f"({_said(response)}); train the person again, or roll back with `doppel adapters rollback`."
        )


async def is_healthy(endpoint: Endpoint, seconds: float = 2.0) -> bool:
    """Whether a server answers there and takes the key."""
    try:
        async with endpoint.http(seconds) as http:
            return (await http.get(f"{endpoint.root}/v1/models")).is_success
    except httpx2.HTTPError:
        return False


async def served_model(url: str, api_key: str) -> str:
    """The base model's name on a server that is not ours. Raises InferenceError where none answers."""
    endpoint = Endpoint(url, api_key, "")
    if not endpoint.is_sound:
        raise InferenceError(f"{endpoint.address} is no address of a server; correct DOPPEL_VLLM_URL (http://…/v1).")
    try:
        async with endpoint.http(CONNECT_SECONDS) as http:
            response = await http.get(f"{endpoint.root}/v1/models")
            response.raise_for_status()
            models = response.json()["data"]
        return str(next(m["id"] for m in models if not m.get("parent")))
    except (httpx2.HTTPError, ValueError, LookupError, TypeError, AttributeError, StopIteration):
        raise InferenceError(
            f"No vLLM server answers at {endpoint.address}; start it, or correct DOPPEL_VLLM_URL and its key."
        ) from None


def _inference_error(error: Exception, tokens: int) -> InferenceError:
    if isinstance(error, APIStatusError):
        return InferenceError(f"The vLLM server refused the request: {_said(error.response)}.")
    if not tokens and isinstance(error, APIError) and not isinstance(error, APIConnectionError):
        return InferenceError(f"The vLLM server refused the request: {error.message.splitlines()[0].rstrip('.')}.")
    if tokens or not isinstance(error, APIConnectionError | httpx2.ConnectError):
        return _broken_off()
    return InferenceError("The vLLM server doesn't answer; if it is starting, try again in a minute, else see its log.")


def _broken_off() -> InferenceError:
    return InferenceError("The vLLM server stopped in the middle of the answer; ask again in a minute.")


def _said(response: httpx2.Response) -> str:
    try:
        body = response.json()
        message = body["error"]["message"] if "error" in body else body["message"]
    except (ValueError, KeyError, TypeError):
        message = f"status {response.status_code}"
    return str(message).strip().splitlines()[0].rstrip(".")
