"""Our LoRA operation against vLLM's own, on the same tensors."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from vllm.lora.punica_wrapper.punica_cpu import PunicaWrapperCPU

from doppel.inference.cpu_lora_plugin import add_lora_linear, update_metadata

RANK, INPUTS, WIDTHS, SLOTS = 8, 48, (32, 16), 3


class Metadata(PunicaWrapperCPU):  # type: ignore[misc]
    """vLLM's wrapper with the slot of each token given."""

    def __init__(self, slots: torch.Tensor) -> None:
        self._slots = slots
        self.is_prefill = False

    @property
    def token_lora_indices(self) -> torch.Tensor:
        return self._slots


@pytest.mark.parametrize("slots", [[1] * 7, [0, 0, 2, 2, 2, 1, 0], [2]])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_it_adds_what_vllm_adds(slots: list[int], dtype: torch.dtype, tolerance: float) -> None:
    torch.manual_seed(0)
    a = tuple(torch.randn(SLOTS, 1, RANK, INPUTS, dtype=dtype) / 7 for _ in WIDTHS)
    b = tuple(torch.randn(SLOTS, 1, width, RANK, dtype=dtype) / 3 for width in WIDTHS)
    x = torch.randn(len(slots), INPUTS, dtype=dtype)
    y = torch.randn(len(slots), sum(WIDTHS), dtype=dtype)
    theirs, ours = y.clone(), y.clone()
    wrapper = Metadata(torch.tensor(slots))
    PunicaWrapperCPU.add_lora_linear(wrapper, theirs, x, a, b, 2.0, WIDTHS)
    add_lora_linear(wrapper, ours, x, a, b, 2.0, WIDTHS)
    assert not torch.equal(theirs, y)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


def test_a_token_without_an_adapter_is_left_alone() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(SLOTS, 1, RANK, INPUTS),), (torch.randn(SLOTS, 1, WIDTHS[0], RANK),)
    x, y = torch.randn(3, INPUTS), torch.zeros(3, WIDTHS[0])
    add_lora_linear(Metadata(torch.tensor([-1, 0, -1])), y, x, a, b, 1.0, WIDTHS[:1])
    assert not y[[0, 2]].any()
    assert y[1].any()


def test_each_batch_has_the_adapters_of_its_own_tokens() -> None:
    torch.manual_seed(0)
    a, b = (torch.randn(SLOTS, 1, RANK, INPUTS),), (torch.randn(SLOTS, 1, WIDTHS[0], RANK),)
    wrapper, slots = PunicaWrapperCPU(16, 4, "cpu"), {7: 2, 9: 0}
    for ids in ((7, 7, 7), (7, 9, 0), (9, 9, 9), (9, 9), (0, 0), (9, 9, 9, 7)):
        mapping = SimpleNamespace(index_mapping=ids, prompt_mapping=ids, is_prefill=False)
        update_metadata(wrapper, mapping, [9, None, 7], SLOTS, 100)
        for _ in range(2):
            x, found = torch.randn(len(ids), INPUTS), torch.zeros(len(ids), WIDTHS[0])
            add_lora_linear(wrapper, found, x, a, b, 0.5, WIDTHS[:1])
            for i, row in zip(ids, range(len(ids)), strict=True):
                right = 0.5 * b[0][slots[i], 0] @ (a[0][slots[i], 0] @ x[row]) if i else torch.zeros(WIDTHS[0])
                torch.testing.assert_close(found[row], right, rtol=1e-4, atol=1e-4)
