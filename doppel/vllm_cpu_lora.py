"""A vLLM plugin for CPUs: LoRA as one matrix product per adapter instead of one per token.

vLLM's CPU backend copies an adapter's matrices once for every token of a batch (vllm/lora/ops/torch_ops), so a long
prompt waits seconds for its first token. Here the tokens of one adapter are multiplied together. vLLM loads this
through the entry point `vllm.general_plugins` in each of its processes; the CUDA backend has kernels of its own and
never calls what is replaced here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


def register() -> None:
    """Replace the linear LoRA operation of vLLM's CPU backend."""
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

        PunicaWrapperCPU.add_lora_linear = add_lora_linear


def add_lora_linear(
    self: Any,
    y: torch.Tensor,
    x: torch.Tensor,
    lora_a_stacked: tuple[torch.Tensor, ...],
    lora_b_stacked: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
    **_: Any,
) -> None:
    """Add every token's LoRA output to `y` (tokens, sum of `output_slices`) in place, as PunicaWrapperCPU specifies.

    `x` is (tokens, inputs); the matrices of slot s are `lora_a_stacked[i][s, 0]` (rank, inputs) and
    `lora_b_stacked[i][s, 0]` (outputs, rank). A token whose slot is -1 has no adapter.
    """
    out, tokens = y.view(-1, y.shape[-1]), x.view(-1, x.shape[-1])
    slots = self.token_lora_indices[: tokens.shape[0]]
    for slot in slots.unique().tolist():
        if slot >= 0:
            rows = (slots == slot).nonzero().flatten()
            _add_one(out, tokens, rows, slot, lora_a_stacked, lora_b_stacked, scale, output_slices)


def _add_one(
    out: torch.Tensor,
    tokens: torch.Tensor,
    rows: torch.Tensor,
    slot: int,
    lora_a_stacked: tuple[torch.Tensor, ...],
    lora_b_stacked: tuple[torch.Tensor, ...],
    scale: float,
    output_slices: tuple[int, ...],
) -> None:
    everyone = rows.shape[0] == tokens.shape[0]
    inputs, start = tokens if everyone else tokens[rows], 0
    for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
        shrunk = (inputs @ a[slot, 0].T.to(inputs.dtype)) * scale
        expanded = (shrunk @ b[slot, 0].T.to(inputs.dtype)).to(out.dtype)
        target = out[:, start : start + width]
        if everyone:
            target += expanded
        else:
            target.index_add_(0, rows, expanded)
        start += width
