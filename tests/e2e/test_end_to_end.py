"""Import, reindex, train, serve, answer: the whole path, on real parts. The tests share one deployment, in order."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from doppel.access import OPERATOR, ConsentAction, ReadPolicy
from doppel.adapters import AdapterInfo, AdapterStore, adapter_name, serving_adapter
from doppel.archive.archive import Archive
from doppel.artifacts import VersionedFolder
from doppel.config import Settings
from doppel.engine.prompt import render
from doppel.errors import ConsentError, InferenceError, NotReadableError
from doppel.inference.client import InferenceClient, Sampling
from doppel.ingest import open_archive
from doppel.models.base_model import ChatTokenizer, base_model_path
from doppel.private import is_private_folder
from doppel.records import Dialogue, Finished, SourcesFound, TextDelta, Turn
from doppel.services.ask import Engine
from indexing.embed import SentenceEmbedder
from indexing.retrieve import IndexRetriever
from tests.browser import ask_in_browser
from tests.end_to_end import PERSONA, QUESTION, SAMPLE, Deployment, doppel, open_to_others
from tests.fakes.slack import FakeSlack, Workspace
from tests.listening import listening
from tests.syncing import sync
from training.train import gather

pytestmark = pytest.mark.timeout(900)

PUBLIC = ReadPolicy.parse("public")


@pytest.fixture
def archive(deployment: Deployment) -> Iterator[Archive]:
    with open_archive(deployment.settings.archive_at) as opened:
        yield opened


@pytest.fixture
async def client(deployment: Deployment) -> AsyncIterator[InferenceClient]:
    async with InferenceClient(deployment.endpoint) as open_client:
        yield open_client


@pytest.fixture(scope="session")
def tokenizer(deployment: Deployment) -> ChatTokenizer:
    return ChatTokenizer(base_model_path(deployment.settings))


@pytest.fixture
def engine(deployment: Deployment, archive: Archive, client: InferenceClient, tokenizer: ChatTokenizer) -> Engine:
    return engine_with(deployment.settings, archive, client, tokenizer)


def engine_with(settings: Settings, archive: Archive, client: InferenceClient, tokenizer: ChatTokenizer) -> Engine:
    """The engine of a deployment, with settings of its own."""
    folder = VersionedFolder(settings.index_dir, "index", "")
    retriever = IndexRetriever(folder, SentenceEmbedder(settings.embedding_model), archive)
    return Engine(settings, archive, retriever, AdapterStore(settings.adapters_dir), tokenizer, client)


def test_the_sample_workspace_is_imported_and_indexed(deployment: Deployment) -> None:
    imported, indexed = deployment.reports["import"], deployment.reports["reindex"]
    assert imported["messages"] == imported["added"] >= 800
    assert indexed["chunks"] == indexed["embedded"] > 200


def test_doing_it_again_does_nothing(deployment: Deployment) -> None:
    again = deployment.run("import", str(SAMPLE))
    assert (again["added"], again["updated"], again["unchanged"]) == (0, 0, again["messages"])
    indexed = deployment.run("reindex")
    assert (indexed["embedded"], indexed["removed"]) == (0, 0)
    assert indexed["version"] == deployment.reports["reindex"]["version"]


def test_search_finds_the_decision(deployment: Deployment) -> None:
    results = deployment.run("search", QUESTION, "-k", "5")["results"]
    assert len(results) == 5
    assert any("decided: kafka goes" in r["text"] and r["channel"] == "engineering" for r in results)


def test_training_beats_the_base_model_on_held_out_answers(deployment: Deployment) -> None:
    report = deployment.reports["train"]
    assert report["published"], report
    assert report["adapter_nll"] < report["base_nll"]
    folder = deployment.settings.adapters_dir
    (version,) = folder.glob("*/*/versions/*")
    assert (version / "loss.png").read_bytes().startswith(b"\x89PNG")
    log = [json.loads(text) for text in (version / "metrics.jsonl").read_text().splitlines()]
    assert {"loss", "eval_loss"} <= {key for entry in log for key in entry}


async def test_vllm_computes_the_same_likelihood_with_the_adapter(
    deployment: Deployment, archive: Archive, client: InferenceClient, tokenizer: ChatTokenizer
) -> None:
    user = archive.find_user(PERSONA)
    version = AdapterStore(deployment.settings.adapters_dir).require(user)
    material = gather(user, archive, deployment.settings, tokenizer)
    figures = {}
    for name, adapter in (("adapter_nll", serving_adapter(user, version)), ("base_nll", None)):
        pairs = [await client.completion_nll(e.prompt_ids, e.completion_ids, adapter) for e in material.held_out]
        tokens = [nll for pair in pairs for nll in pair]
        figures[name] = sum(tokens) / len(tokens)
    assert figures == pytest.approx({key: deployment.reports["train"][key] for key in figures}, rel=0.01)


async def test_serving_sends_the_token_ids_that_training_rendered(
    deployment: Deployment, archive: Archive, client: InferenceClient, tokenizer: ChatTokenizer
) -> None:
    user = archive.find_user(PERSONA)
    turns = [Turn("jun", "is the outbox enough? :thinking_face:\n```select 1```")]
    messages = render(user.name, Dialogue(tuple(turns)), tokenizer, 256).messages
    answer = await client._openai.chat.completions.create(
        model=client.endpoint.model,
        messages=list(messages),  # type: ignore[arg-type]
        max_tokens=1,
        extra_body={"return_token_ids": True},
    )
    assert answer.prompt_token_ids == render(user.name, Dialogue(tuple(turns)), tokenizer, 256).ids  # type: ignore[attr-defined]


def key(archive: Archive) -> tuple[str, str]:
    """The id of the persona, and of their workspace."""
    user = archive.find_user(PERSONA)
    return user.id, user.team


async def test_an_answer_streams_with_sources_that_exist(engine: Engine, archive: Archive) -> None:
    persona = await engine.persona(*key(archive))
    events = [event async for event in engine.reply(persona, Dialogue((Turn("Jun", QUESTION),)), PUBLIC)]
    assert isinstance(events[0], SourcesFound)
    deltas = [event.text for event in events if isinstance(event, TextDelta)]
    finished = events[-1]
    assert isinstance(finished, Finished)
    reply = finished.reply
    assert len(deltas) > 3
    assert reply.text == "".join(deltas).strip()
    assert 0 < reply.first_token_seconds < reply.seconds
    assert reply.completion_tokens >= len(deltas) / 2
    assert reply.sources
    for source in reply.sources:
        # Further lines of a message are indented in a quote.
        assert " ".join(_message_at(archive, source.permalink).split()) in " ".join(source.quote.split())


async def test_an_answer_that_is_too_long_is_seen_to_be_cut_off(
    deployment: Deployment, archive: Archive, client: InferenceClient, tokenizer: ChatTokenizer
) -> None:
    settings = deployment.settings.model_copy(update={"answer_tokens": 4})
    short = engine_with(settings, archive, client, tokenizer)
    persona = await short.persona(*key(archive))
    finished = [event async for event in short.reply(persona, Dialogue((Turn("Jun", QUESTION),)), PUBLIC)][-1]
    assert isinstance(finished, Finished)
    assert finished.reply.completion_tokens == 4
    assert finished.reply.text.endswith("…")


@pytest.mark.parametrize("ends", [True, False])
async def test_an_answer_that_goes_round_in_circles_ends(
    client: InferenceClient, tokenizer: ChatTokenizer, ends: bool
) -> None:
    circle = "north, then east, then south, then west, and once more:\n"
    ids = tokenizer.hf(circle * 12)["input_ids"]
    sampling = Sampling(200, 0, 1, tokenizer.end_id if ends else None)
    pieces = [piece async for piece in client.stream(ids, None, sampling, "T1")]
    assert "".join(piece.text for piece in pieces).startswith(circle)
    assert (pieces[-1].tokens < 60) if ends else (pieces[-1].tokens == 200)
    assert [piece.is_cut for piece in pieces] == [False] * (len(pieces) - 1) + [True]


async def test_the_bot_answers_in_slack_with_the_adapter_and_sources(
    deployment: Deployment, client: InferenceClient, tokenizer: ChatTokenizer, tmp_path: Path
) -> None:
    """Nothing stands in for anything but Slack."""
    settings = deployment.settings
    with (
        FakeSlack(Workspace.from_export(SAMPLE, bot_in=("public", "private"))) as slack,
        open_archive(tmp_path / "archive.db") as synced,
    ):
        sync(slack, synced)
        person = synced.find_user(PERSONA)
        synced.record_consent(person, ConsentAction.GRANT, by="tests")
        folder = VersionedFolder(settings.index_dir, "index", "")
        retriever = IndexRetriever(folder, SentenceEmbedder(settings.embedding_model), synced)
        engine = Engine(settings, synced, retriever, AdapterStore(settings.adapters_dir), tokenizer, client)
        async with listening(slack, synced, tmp_path, "socket", engine) as doppel:
            workspace = slack.workspace
            general = workspace.find("engineering").id
            asker = next(
                user for user in workspace.find(general).members if user not in (person.id, workspace.bot_user)
            )
            root = workspace.post(general, asker, f"<@{workspace.bot_user}> {QUESTION}")
            store = synced.bot(workspace.team)
            await doppel.until(lambda: store.answers(general, root) and not store.open_questions(), 120)
        (raw,) = [raw for raw in workspace.find(general).log.replies(root) if raw.get("bot_id")]
        (answer,) = store.answers(general, root)
    assert (answer.user_id, answer.version) == (person.id, deployment.reports["train"]["version"])
    assert raw["username"] == person.name
    assert raw["text"].split()
    assert answer.sources
    assert all(link.replace("&", "&amp;") in str(raw["blocks"]) for link in answer.sources[:3])
    assert f"Written by an AI in the manner of {person.name}" in str(raw["blocks"])


async def test_private_words_never_reach_a_public_place(engine: Engine, archive: Archive) -> None:
    persona = await engine.persona(*key(archive))
    question = Dialogue((Turn("Jun", "what is our runway and how much does Castellane pay?"),))

    async def found(place: ReadPolicy) -> set[str]:
        async for event in engine.reply(persona, question, place):
            assert isinstance(event, SourcesFound)
            return {source.channel_name for source in event.sources}
        raise AssertionError("no event")

    assert "founders" in await found(OPERATOR)
    public = {channel.name for channel in archive.channels() if channel.kind == "public"}
    assert await found(PUBLIC) <= public


async def test_an_adapter_answers_only_where_all_it_learned_from_may_be_read(
    deployment: Deployment, engine: Engine, archive: Archive
) -> None:
    user = archive.find_user(PERSONA)
    learned = AdapterInfo.of(AdapterStore(deployment.settings.adapters_dir).require(user)).channels
    kinds = {channel.kind.value for channel in archive.channels() if (channel.team, channel.id) in learned}
    assert kinds == {"public"}
    with pytest.raises(NotReadableError, match="learned from channels"):
        async for _ in engine.reply(
            await engine.persona(*key(archive)), Dialogue((Turn("Jun", "?"),)), ReadPolicy.parse("general")
        ):
            pass


def test_chat_in_the_terminal_uses_the_running_server(deployment: Deployment, archive: Archive) -> None:
    reply = deployment.run("chat", "--persona", "Ines Moreau", "-m", QUESTION)
    assert set(reply) >= {
        "persona",
        "version",
        "reply",
        "sources",
        "prompt_tokens",
        "completion_tokens",
        "first_token_seconds",
        "seconds",
    }
    assert reply["version"] == deployment.reports["train"]["version"]
    assert reply["reply"]
    assert all(_message_at(archive, link) for link in reply["sources"])
    assert deployment.said.count("Starting vLLM") == 1


def test_a_person_without_an_adapter_answers_from_examples_and_says_so(deployment: Deployment) -> None:
    deployment.run("consent", "grant", "jun", "--by", "tests")
    reply = deployment.run("chat", "--persona", "jun", "-m", "what do you work on?")
    assert reply["version"] is None
    assert "no adapter yet" in reply["notes"][0]


def test_nobody_answers_without_consent(deployment: Deployment) -> None:
    done = doppel(deployment.data_dir, "chat", "--persona", "henrik", "-m", "hello")
    assert done.status == 1
    assert "has not agreed" in done.data["error"]


async def test_the_chat_page_answers_in_a_browser(deployment: Deployment) -> None:
    answer, links = await ask_in_browser(f"http://127.0.0.1:{deployment.port}", PERSONA, QUESTION)
    assert answer.strip()
    assert links
    assert all(link.startswith("https://haulbeck.slack.com/archives/") for link in links)


def test_nobody_but_this_user_reaches_the_model_server(deployment: Deployment) -> None:
    """Its key is asked for under /v1 alone, so that the socket's folder must keep others out of the rest."""
    path = Path(deployment.endpoint.socket)
    assert is_private_folder(path.parent)
    vllm = _vllm_of(deployment)
    assert len(vllm) > 1
    for process in vllm:
        sockets = process.net_connections("all")
        named = {Path(str(s.laddr)) for s in sockets if s.family == socket.AF_UNIX and s.laddr}
        assert {name.parent for name in named} <= {path.parent}
        for place in [s.laddr for s in sockets if s.status == psutil.CONN_LISTEN]:
            # PyTorch's gloo opens these for others of its kind, which there are none of.
            assert place.ip == "127.0.0.1"
            assert _said_by(place.port) == b""
    if os.geteuid() == 0:
        with socket.socket(socket.AF_UNIX) as stranger:
            os.seteuid(65534)
            try:
                with pytest.raises(PermissionError):
                    stranger.connect(str(path))
            finally:
                os.seteuid(0)


async def test_the_model_server_asks_for_its_key_and_nothing_of_it_is_told(deployment: Deployment) -> None:
    endpoint = deployment.endpoint
    async with replace(endpoint, api_key="").http(10) as http:
        assert (await http.get("http://localhost/v1/models")).status_code == 401
        assert (await http.get("http://localhost/health")).status_code == 200
    log = (deployment.settings.logs_dir / "vllm.log").read_text()
    assert endpoint.api_key not in log
    assert "Kafka" not in log
    assert open_to_others(deployment.data_dir / "logs") == []
    for process in _vllm_of(deployment):
        assert endpoint.api_key not in " ".join(process.cmdline())
        assert not [name for name in process.environ() if name.startswith(("DOPPEL_", "SLACK_"))]


def test_a_second_serve_on_the_same_folder_is_told_so(deployment: Deployment) -> None:
    done = doppel(deployment.data_dir, "serve", "--port", "17861")
    assert done.status == 1
    assert "Another `doppel serve`" in done.data["error"]
    taken = doppel(deployment.data_dir, "serve", "--port", str(deployment.port))
    assert taken.status == 1
    assert f"{deployment.port}" in taken.data["error"]
    assert "in use" in taken.data["error"]


def test_a_new_version_is_used_at_once_and_an_older_one_after_a_rollback(deployment: Deployment) -> None:
    first = deployment.reports["train"]["version"]
    second = deployment.run("train", "--user", PERSONA, DOPPEL_SEED="1", DOPPEL_TRAIN_MAX_STEPS="2")["version"]
    assert second not in (None, first)
    assert deployment.run("chat", "--persona", PERSONA, "-m", "hello?")["version"] == second
    back = deployment.run("adapters", "rollback", PERSONA)
    assert (back["from"], back["version"]) == (second, first)
    assert deployment.run("chat", "--persona", PERSONA, "-m", "hello?")["version"] == first
    assert deployment.said.count("Starting vLLM") == 1


def test_an_adapter_is_exported_as_peft_and_as_a_full_model(deployment: Deployment, tmp_path: Path) -> None:
    deployment.run("adapters", "export", PERSONA, str(tmp_path / "peft"))
    assert {"adapter_config.json", "adapter_model.safetensors"} <= {p.name for p in (tmp_path / "peft").iterdir()}
    deployment.run("adapters", "export", PERSONA, str(tmp_path / "merged"), "--merged")
    files = {p.name for p in (tmp_path / "merged").iterdir()}
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= files
    again = doppel(deployment.data_dir, "adapters", "export", PERSONA, str(tmp_path / "peft"))
    assert again.status == 1
    assert "not empty" in again.data["error"]


async def test_vllm_that_dies_in_mid_answer_is_a_sentence_and_comes_back(
    deployment: Deployment, client: InferenceClient, tokenizer: ChatTokenizer
) -> None:
    prompt = render("ines", Dialogue((Turn("Jun", "tell me a long story"),)), tokenizer, 256).ids

    async def kill_at_the_third_token() -> None:
        is_killed = False
        async for piece in client.stream(prompt, None, Sampling(1400, 1.0, 1.0, end_id=None), "T1"):
            # On a busy machine several tokens may come at once.
            if piece.tokens >= 3 and not is_killed:
                _kill_vllm(deployment)
                is_killed = True

    with pytest.raises(InferenceError, match="middle of the answer"):
        await kill_at_the_third_token()
    await asyncio.to_thread(deployment.wait_ready, 2)
    reply = await asyncio.to_thread(deployment.run, "chat", "--persona", PERSONA, "-m", "are you back?")
    assert reply["reply"]
    assert reply["version"] == deployment.reports["train"]["version"]


async def test_a_damaged_adapter_is_a_sentence_and_the_server_stays(deployment: Deployment, archive: Archive) -> None:
    store = AdapterStore(deployment.settings.adapters_dir)
    weights = store.require(archive.find_user(PERSONA)).path / "adapter_model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:1000])
    try:
        done = doppel(deployment.data_dir, "chat", "--persona", PERSONA, "-m", "hello?")
    finally:
        weights.write_bytes(whole)
    assert done.status == 1
    assert "damaged" in done.data["error"]
    assert deployment.run("chat", "--persona", PERSONA, "-m", "hello?")["reply"]


async def test_withdrawing_consent_stops_the_persona_at_once_and_deletes_the_adapter(
    deployment: Deployment, engine: Engine, archive: Archive, client: InferenceClient
) -> None:
    persona = await engine.persona(*key(archive))
    user = archive.find_user(PERSONA)
    withdrawn = deployment.run("consent", "revoke", PERSONA, "--by", "tests")
    with pytest.raises(ConsentError):
        async for _ in engine.reply(persona, Dialogue((Turn("Jun", "still there?"),)), PUBLIC):
            pass
    assert persona.name not in {p.name for p in await engine.personas()}
    left = list((deployment.settings.adapters_dir / user.team / user.id).rglob("*.safetensors"))
    assert left == []
    served = {model.id async for model in client._openai.models.list()}
    assert not served & {adapter_name(user, version) for version in withdrawn["removed_versions"]}


def test_training_without_consent_is_refused(deployment: Deployment) -> None:
    done = doppel(deployment.data_dir, "train", "--user", PERSONA)
    assert done.status == 1
    assert "has not agreed" in done.data["error"]


def test_too_few_examples_are_refused_with_the_number_that_is_missing(deployment: Deployment) -> None:
    done = doppel(deployment.data_dir, "train", "--user", "jun", environ={"DOPPEL_MIN_EXAMPLES": "5000"})
    assert done.status == 1
    found, missing = map(int, re.findall(r"(\d+) answers to learn from, (\d+) fewer", done.data["error"])[0])
    assert found + missing == 5000


def test_the_server_was_the_one_to_train_while_it_ran(deployment: Deployment) -> None:
    jobs = deployment.run("jobs", "list")["jobs"]
    failed, second, first = [job for job in jobs if job["kind"] == "train"]
    assert "answers to learn from" in failed["error"]
    assert [second["status"], first["status"]] == ["done", "done"]


def _vllm_of(deployment: Deployment) -> list[psutil.Process]:
    """The server process that listens there, and those that it started."""
    found = [p for p in psutil.process_iter(["cmdline"]) if deployment.endpoint.socket in (p.info["cmdline"] or [])]
    server = min(found, key=lambda process: process.create_time())
    return [server, *server.children(recursive=True)]


def _said_by(port: int) -> bytes:
    """What a port answers to a question as a web server would take it."""
    with socket.create_connection(("127.0.0.1", port), 5) as asking:
        asking.settimeout(0.5)
        asking.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            return asking.recv(100)
    return b""


def _kill_vllm(deployment: Deployment) -> None:
    """kill -9 for the server process that listens there."""
    for process in psutil.process_iter(["cmdline"]):
        words = process.info["cmdline"] or []
        if "vllm.entrypoints.openai.api_server" in words and deployment.endpoint.socket in words:
            process.kill()


def _message_at(archive: Archive, permalink: str) -> str:
    """The text of the message that a permalink names."""
    found = re.search(r"/archives/(\w+)/p(\d{10})(\d{6})", permalink)
    assert found, permalink
    ts = f"{found[2]}.{found[3]}"
    (text,) = [m.text for m in archive.messages() if m.channel == found[1] and m.ts == ts]
    return text
