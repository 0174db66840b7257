"""How well a model predicts what a person really answered: the mean negative log-likelihood per completion token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from training.examples import EncodedExample


def mean_nll(model: Any, examples: Sequence[EncodedExample]) -> float:
    """Nats per completion token over all `examples`, one at a time, so that padding and batching play no part."""
    total, tokens = 0.0, 0
    model.eval()
    with torch.inference_mode():
        for example in examples:
            ids = torch.tensor([[*example.prompt_ids, *example.completion_ids]], device=model.device)
            count = len(example.completion_ids)
            logits = model(input_ids=ids, use_cache=False, logits_to_keep=count + 1).logits[0, :-1]
            total += cross_entropy(logits.float(), ids[0, -count:], reduction="sum").item()
            tokens += count
    return total / tokens
