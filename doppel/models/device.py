"""What the processor multiplies, and so which number type a model runs in: asked by whoever runs a model on a CPU."""

from __future__ import annotations

import platform

from doppel.config import Settings

FLOAT32 = "float32"
BFLOAT16 = "bfloat16"


def cpu_dtype(settings: Settings | None = None) -> str:
    """The type of the settings, else bfloat16 where the CPU multiplies it and float32 where it is emulated."""
    if settings and settings.cpu_dtype != "auto":
        return settings.cpu_dtype
    return BFLOAT16 if multiplies_bfloat16() else FLOAT32


def multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for bfloat16 and oneDNN may use them.

    oneDNN alone says yes to all of AVX-512, also where it emulates; the CPU's flags alone ignore ONEDNN_MAX_CPU_ISA.
    """
    import torch

    flags = torch.cpu.get_capabilities()
    has = any(value is True for name, value in flags.items() if "bf16" in name)
    return has and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def instruction_set() -> str:
    """The instructions that PyTorch uses, for people: such as "AVX512 with bfloat16 (AMX)"."""
    import torch

    name = torch.backends.cpu.get_cpu_capability()
    name = platform.machine() if name == "DEFAULT" else name
    if not multiplies_bfloat16():
        return f"{name} without bfloat16"
    return f"{name} with bfloat16" + (" (AMX)" if torch.cpu.get_capabilities().get("amx_bf16") else "")
