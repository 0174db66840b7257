"""What vLLM must be started with for adapters, and whether it would load one: by its own rules."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

from doppel.config import Settings
from doppel.errors import TrainingError

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM takes as --max-lora-rank (vllm/config/lora.py)."""
LIMIT = "--max-lora-rank"


def needed_rank(settings: Settings) -> int:
    """The smallest limit for every version of an adapter that may serve, also after a roll-back, and for the next."""
    versions = settings.adapters_dir.glob("*/*/versions/*/adapter_config.json")
    return limit_for(max([rank_of({"r": settings.lora_rank} | settings.lora_options), *map(_rank_in, versions)]))


def limit_for(rank: int) -> int:
    """The smallest limit that vLLM takes and that is at least `rank`; its largest where there is none."""
    return next((limit for limit in RANKS if limit >= rank), RANKS[-1])


def rank_of(config: Mapping[str, Any]) -> int:
    """The largest rank of an adapter, as vLLM's PEFTHelper.validate_legal reads it; 0 where it can't be read."""
    pattern = config.get("rank_pattern") or {}
    found = [config.get("r"), *(pattern.values() if isinstance(pattern, Mapping) else ())]
    return max([0, *(rank for rank in found if isinstance(rank, int))])


@lru_cache(maxsize=4096)
def _rank_in(file: Path) -> int:
    """Read once: a published version never changes."""
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
    return rank_of(config) if isinstance(config, Mapping) else 0


def check_adapter_config(folder: Path, settings: Settings) -> None:
    """Raise TrainingError where vLLM could not load an adapter with the adapter_config.json in `folder`.

    vLLM's own check decides; without vLLM here (a server elsewhere), nothing is refused.
    """
    try:
        from vllm.config.lora import LoRAConfig
        from vllm.lora.peft_helper import PEFTHelper
    except ImportError:
        return
    try:
        helper = PEFTHelper.from_local_dir(str(folder), max_position_embeddings=None)
        helper.validate_legal(LoRAConfig(max_lora_rank=_limit(settings), max_loras=1))
    except (ValueError, TypeError) as error:
        raise _refusal(error) from None


def check_adapter(folder: Path, modules: Collection[str]) -> None:
    """Raise TrainingError where vLLM could not load the adapter written in `folder`, tensor by tensor.

    `modules` are the last names of the base model's layers that can have an adapter. vLLM's own loader decides;
    without vLLM here, nothing is refused.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of PyTorch's own modules, which vLLM imports
            from vllm.lora.lora_model import LoRAModel
            from vllm.lora.peft_helper import PEFTHelper
    except ImportError:
        return
    try:
        helper = PEFTHelper.from_local_dir(str(folder), max_position_embeddings=None)
        loaded = LoRAModel.from_local_checkpoint(str(folder), set(modules), helper, lora_model_id=1, device="cpu")
    except (ValueError, TypeError, KeyError, AssertionError) as error:
        raise _refusal(error) from None
    if not loaded.loras:
        raise _refusal(ValueError("it holds no matrices"))


def _limit(settings: Settings) -> Any:
    """The limit of the options given to vLLM, which go before what Doppel would choose, else vLLM's largest."""
    words = [part for word in settings.vllm_options for part in word.split("=", 1)]
    given = [value for name, value in pairwise(words) if name.replace("_", "-") == LIMIT]
    return int(given[-1]) if given and given[-1].isdecimal() else RANKS[-1]


def _refusal(error: Exception) -> TrainingError:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__).rstrip(".")
    return TrainingError(f"vLLM can't load such an adapter ({reason}); change DOPPEL_LORA_RANK or DOPPEL_LORA_OPTIONS.")
