"""Which adapters a vLLM server takes, and which training refuses before it begins."""

from __future__ import annotations

import asyncio
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from doppel.config import Settings
from doppel.errors import ConfigError, TrainingError
from doppel.inference.lora import RANKS, check_adapter, needed_rank
from doppel.inference.vllm_process import ManagedServer, find_running
from doppel.models import device as processor
from training.finetune import check_fits
from training.train import check_loadable

SERVER = """
import http.server, socketserver, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
    def address_string(self): return ""
    def log_message(self, *_): pass
socketserver.UnixStreamServer(sys.argv[1], Handler).serve_forever()
"""


def publish(settings: Settings, config: dict[str, Any], version: str = "v0001-00000000") -> None:
    folder = settings.adapters_dir / "T1" / "U1" / "versions" / version
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def command(server: ManagedServer) -> dict[str, str]:
    words = server._command()
    return dict(pairwise(words))


@pytest.mark.parametrize(
    ("options", "published", "rank"),
    [
        ({}, {}, 16),
        ({"r": 1}, {}, 1),
        ({"r": 64}, {}, 64),
        ({"rank_pattern": {"q_proj": 65}}, {}, 128),
        ({}, {"r": 64}, 64),
        ({}, {"r": 8, "rank_pattern": {r"layers\.\d+\.q_proj": 257}}, 320),
        ({}, {"r": 600}, 512),
        ({}, {"r": "damaged"}, 16),
    ],
)
def test_a_server_takes_the_settings_rank_and_that_of_every_version_that_is_there(
    tmp_path: Path, options: dict[str, Any], published: dict[str, Any], rank: int
) -> None:
    settings = Settings(data_dir=tmp_path, lora_options=options)
    if published:
        publish(settings, published)
        publish(settings, {"r": 4}, "v0002-00000000")
    assert needed_rank(settings) == rank
    assert command(ManagedServer(settings, "model", print))["--max-lora-rank"] == str(rank)


def test_the_ranks_are_those_of_vllm() -> None:
    config = pytest.importorskip("vllm.config.lora")
    assert config.MaxLoRARanks.__args__ == RANKS


def test_a_server_that_ends_leaves_the_record_of_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("doppel.inference.vllm_process.LOOK_SECONDS", 0.1)
    monkeypatch.setattr("doppel.inference.vllm_process.POLL_SECONDS", 0.1)

    class Server(ManagedServer):
        def _command(self) -> list[str]:
            return [sys.executable, "-c", SERVER, self.endpoint.socket]

    async def run() -> None:
        settings = Settings(data_dir=tmp_path)
        first, second = Server(settings, "model", lambda _: None), Server(settings, "model", lambda _: None)
        try:
            for server in (first, second):
                server.start()
                await server.wait_ready()
            assert await find_running(settings) == first.endpoint
            await first.stop()
            async with asyncio.timeout(10):
                while await find_running(settings) != second.endpoint:
                    await asyncio.sleep(0.05)
            await first.stop()
            assert await find_running(settings) == second.endpoint
        finally:
            await first.stop()
            await second.stop()
        assert await find_running(settings) is None

    asyncio.run(run())


def test_a_server_starts_again_for_a_larger_adapter_before_it_is_asked(tmp_path: Path) -> None:
    class Server(ManagedServer):
        def _command(self) -> list[str]:
            started.append(super()._command()[super()._command().index("--max-lora-rank") + 1])
            return [sys.executable, "-c", SERVER, self.endpoint.socket]

    async def run() -> None:
        server = Server(settings, "model", said.append)
        server.start()
        try:
            await server.wait_ready()
            first = server.pid
            publish(settings, {"r": 64})
            await server.wait_ready()
            assert server.pid != first
            await server.wait_ready()
        finally:
            await server.stop()

    started: list[str] = []
    said: list[str] = []
    settings = Settings(data_dir=tmp_path)
    asyncio.run(run())
    assert started == ["16", "64"]
    assert any("rank 64" in line for line in said)


@pytest.mark.parametrize(
    ("options", "vllm_options"),
    [
        ({"r": 1024}, []),
        ({"rank_pattern": {"q_proj": 513}}, []),
        ({"bias": "all"}, []),
        ({"modules_to_save": ["lm_head"]}, []),
        ({"init_lora_weights": "pissa"}, []),
        ({"r": 64}, ["--max-lora-rank", "32"]),
        ({"r": 64}, ["--max_lora_rank=32"]),
    ],
)
def test_training_refuses_options_that_vllm_does(options: dict[str, Any], vllm_options: list[str]) -> None:
    pytest.importorskip("vllm")
    with pytest.raises(TrainingError, match=r"vLLM can't load such an adapter \(.*DOPPEL_LORA_OPTIONS"):
        check_loadable(Settings(lora_options=options, vllm_options=vllm_options))


@pytest.mark.filterwarnings("ignore:Setting `save_embedding_layers`")
@pytest.mark.parametrize(
    ("options", "loads"),
    [
        ({}, True),
        ({"rank_pattern": {r"layers\.0\.self_attn\.q_proj": 8}, "alpha_pattern": {"v_proj": 3}}, True),
        ({"layers_to_transform": [1], "target_modules": ["q_proj", "v_proj"]}, True),
        ({"target_modules": ["embed_tokens", "q_proj"]}, True),
        ({"trainable_token_indices": [1, 2]}, False),
    ],
)
def test_vllm_reads_the_tensors_of_an_adapter_before_it_is_trained(
    tmp_path: Path, options: dict[str, Any], loads: bool
) -> None:
    pytest.importorskip("vllm")
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=32))
    everything = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM"}
    get_peft_model(model, LoraConfig(**(everything | options))).save_pretrained(tmp_path)
    modules = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "embed_tokens", "lm_head"}
    if loads:
        check_adapter(tmp_path, modules)
        with pytest.raises(TrainingError, match="target modules"):
            check_adapter(tmp_path, modules - {"q_proj"})
    else:
        with pytest.raises(TrainingError):
            check_adapter(tmp_path, modules)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny base model, as a folder."""
    folder = tmp_path_factory.mktemp("base")
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, vocab_size=64)).save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nope": 1}, "no option 'nope'"),
        ({"inference_mode": True}, "no option 'inference_mode'"),
        ({"task_type": "SEQ_CLS"}, "no option 'task_type'"),
        ({"r": 1.5}, "r=1.5"),
        ({"r": True}, "r=true"),
        ({"r": None}, "r=null"),
        ({"lora_alpha": 0}, "lora_alpha=0: input should be greater than 0"),
        ({"lora_dropout": "x"}, "lora_dropout"),
        ({"lora_dropout": 3}, "lora_dropout .*between 0 and 1"),
        ({"rank_pattern": ["q"]}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": "x"}}, "rank_pattern"),
        ({"rank_pattern": {"(": 4}}, "rank_pattern .*unterminated"),
        ({"alpha_pattern": {"q_proj": "x"}}, "alpha_pattern"),
        ({"target_modules": ["nope"]}, "target_modules .*nope"),
        ({"target_modules": "("}, "target_modules .*unterminated"),
        ({"target_modules": []}, "target_modules"),
        ({"exclude_modules": ".*"}, "exclude_modules"),
        ({"layers_to_transform": [9], "target_modules": ["q_proj"]}, "layers_to_transform"),
        ({"arrow_config": {}}, "arrow_config"),
        ({"runtime_config": 3}, "runtime_config"),
        ({"init_lora_weights": "nonsense"}, "init_lora_weights"),
    ],
)
def test_options_that_no_adapter_can_have_are_one_sentence_without_the_models_weights(
    base: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=f"^DOPPEL_LORA_OPTIONS is wrong: .*{said}"):
        check_fits(Settings(lora_options=options), base)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"use_rslora": True, "lora_dropout": 0.1, "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 8}},
        {"target_modules": ["embed_tokens", "lm_head"]},
        {"target_modules": ["q_proj"], "layers_to_transform": [1]},
        {"target_modules": r".*\.mlp\..*_proj"},
        {"init_lora_weights": "orthogonal"},
        {"runtime_config": {"ephemeral_gpu_offload": False}},
    ],
)
def test_options_that_an_adapter_can_have_are_taken(base: str, options: dict[str, Any]) -> None:
    settings = Settings(lora_options=options)
    check_loadable(settings)
    check_fits(settings, base)


def test_an_adapter_in_which_nothing_learns_is_refused(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    frozen = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", inference_mode=True)
    monkeypatch.setattr("training.finetune.lora_config", lambda _: frozen)
    with pytest.raises(ConfigError, match="nothing would be trained"):
        check_fits(Settings(), base)


@pytest.mark.parametrize(
    ("flags", "onednn", "wanted", "dtype"),
    [
        ({"avx512_bf16": True}, True, "auto", "bfloat16"),
        ({"avx512_bf16": True}, False, "auto", "float32"),
        ({"avx512_f": True, "avx512_bf16": False}, True, "auto", "float32"),
        ({"avx2": True}, False, "auto", "float32"),
        ({"bf16": True, "cpu_name": "bf16"}, True, "auto", "bfloat16"),
        ({"avx2": True}, False, "bfloat16", "bfloat16"),
        ({"amx_bf16": True}, True, "float32", "float32"),
    ],
)
def test_training_and_vllm_run_in_what_the_cpu_multiplies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: dict[str, Any], onednn: bool, wanted: Any, dtype: str
) -> None:
    import torch

    from training.finetune import choose_device

    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: onednn)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    settings = Settings(data_dir=tmp_path, cpu_dtype=wanted)
    assert processor.cpu_dtype(settings) == dtype
    assert command(ManagedServer(settings, "model", print))["--dtype"] == dtype
    assert choose_device(settings).dtype is getattr(torch, dtype)
