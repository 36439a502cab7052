"""Which number format a machine computes fastest in without losing the reward."""

from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from outweigh.errors import ConfigError

Precision = Literal["auto", "bf16", "fp32"]
CPU_INFO = Path("/proc/cpuinfo")
BFLOAT16_FLAGS = {"amx_bf16", "avx512_bf16"}  # units that multiply in it; avx512f alone would emulate


def autocast_dtype(device: torch.device, precision: str = "auto") -> torch.dtype | None:
    """bfloat16 where the device multiplies matrices in it, None where everything stays float32.

    Raises:
        ConfigError: the precision is none of auto, bf16, fp32.
    """
    if precision not in ("auto", "bf16", "fp32"):
        raise ConfigError(f"precision: got {precision!r}, want auto, bf16 or fp32.")
    if precision == "fp32" or (precision == "auto" and not _multiplies_bfloat16(device.type)):
        return None
    return torch.bfloat16


def has_amx(device: torch.device) -> bool:
    """True for a CPU with matrix units for bfloat16."""
    return device.type == "cpu" and "amx_bf16" in _cpu_flags()


def _multiplies_bfloat16(device_type: str) -> bool:
    if device_type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device_type == "cpu" and not BFLOAT16_FLAGS.isdisjoint(_cpu_flags())


@cache
def _cpu_flags() -> frozenset[str]:
    # Other systems than Linux don't tell: their CPUs are taken as without
    return frozenset(CPU_INFO.read_text().split()) if CPU_INFO.exists() else frozenset()


def default_device() -> torch.device:
    """The first CUDA device, else the CPU: Apple's GPU has no float64, in which rewards are handed out."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class _Float32Head:
    """Mixed into a head's class: its arithmetic stays float32 whatever surrounds it."""

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with torch.autocast(hidden.device.type, enabled=False):
            return super().forward(hidden.float(), *args, **kwargs)  # type: ignore[misc, no-any-return]


def keep_head_in_float32(head: nn.Module) -> None:
    """Nothing; from here on the head computes in float32. In bf16, rewards of 5.00 and 5.03 are one number.

    The class is swapped rather than the forward method: a deep copy (peft makes one) keeps it.
    """
    head.float()
    if not isinstance(head, _Float32Head):
        head.__class__ = type(f"Float32{type(head).__name__}", (_Float32Head, type(head)), {})
