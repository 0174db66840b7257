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

        PunicaWrapperCPU.update_metadata = update_metadata
        PunicaWrapperCPU.add_lora_linear = add_lora_linear


def update_metadata(self: Any, *given: Any, **more: Any) -> None:
    """Take in which adapter each token of the next batches has, as PunicaWrapperBase does; it is grouped once for all
    layers.
    """
    from vllm.lora.punica_wrapper.punica_base import PunicaWrapperBase

    PunicaWrapperBase.update_metadata(self, *given, **more)
    self.doppel_groups = None


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
    for slot, rows in _groups(self, tokens.shape[0]):
        # All tokens at once are written to where they are; of some, a copy is written back.
        inputs, outputs, start = (tokens, out, 0) if rows is None else (tokens[rows], out[rows], 0)
        for a, b, width in zip(lora_a_stacked, lora_b_stacked, output_slices, strict=True):
            shrunk = inputs @ a[slot, 0].T.to(inputs.dtype)
            target = outputs[:, start : start + width]
            target.addmm_(shrunk.to(out.dtype), b[slot, 0].T.to(out.dtype), alpha=scale)
            start += width
        if rows is not None:
            out.index_copy_(0, rows, outputs)


def _groups(wrapper: Any, count: int) -> list[tuple[int, torch.Tensor | None]]:
    """Each adapter's slot in a batch of `count` tokens, with the rows of its tokens; None for all of them."""
    known = getattr(wrapper, "doppel_groups", None)
    if known is None or known[0] != count:
        slots = wrapper.token_lora_indices[:count]
        rows = {slot: (slots == slot).nonzero().flatten() for slot in slots.unique().tolist() if slot >= 0}
        known = (count, [(slot, None if len(found) == count else found) for slot, found in rows.items()])
        wrapper.doppel_groups = known
    groups: list[tuple[int, torch.Tensor | None]] = known[1]
    return groups
