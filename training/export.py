"""An adapter as others take it: a PEFT folder, or merged into a full model."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from peft import PeftModel

from doppel.artifacts import Version, storage_error
from doppel.errors import BadInputError
from doppel.models.base_model import ChatTokenizer
from doppel.paths import within
from training.finetune import Device, load_base

SHARD_SIZE = "2GB"
PEFT_FILES = ("adapter_config.json", "adapter_model.safetensors")


def export_adapter(version: Version, target: Path) -> None:
    """Copy a version as a PEFT folder. Raises BadInputError for a folder that isn't empty, StorageError."""
    _make(target)
    try:
        for name in (*PEFT_FILES, "metrics.jsonl", "loss.png"):
            shutil.copyfile(within(version.path, name), target / name)
    except OSError as error:
        raise storage_error(error, target) from error


def export_merged(version: Version, base_path: str, target: Path) -> None:
    """Write base model and adapter as one model, in sharded safetensors with the tokenizer. Raises as above."""
    _make(target)
    base = load_base(base_path, Device("cpu", torch.bfloat16))
    merged = PeftModel.from_pretrained(base, version.path).merge_and_unload()
    try:
        merged.save_pretrained(target, max_shard_size=SHARD_SIZE)
        ChatTokenizer(base_path).hf.save_pretrained(target)
    except OSError as error:
        raise storage_error(error, target) from error


def _make(target: Path) -> None:
    try:
        target.mkdir(parents=True, exist_ok=True)
        if any(target.iterdir()):
            raise BadInputError(f"{target} is not empty; name a new folder.")
    except OSError as error:
        raise storage_error(error, target) from error
