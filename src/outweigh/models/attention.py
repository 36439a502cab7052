"""Which attention code a training run on this machine uses."""

from typing import Any

import torch

EAGER_TOKENS = 1024
"""Longest texts whose L x L matrices stay small: 25 MB a layer at 512 tokens and 12 heads."""


def choose_attention(model: Any, device: torch.device, dtype: torch.dtype | None, max_tokens: int) -> None:
    """Nothing; takes the plain matrix form on a CPU in bfloat16, where its backward pass is the faster one.

    torch's fused attention has a slow backward pass there, half of a training step (bench/attention.py). The
    same function is computed, with other rounding.
    """
    if device.type == "cpu" and dtype is torch.bfloat16 and max_tokens <= EAGER_TOKENS:
        model.set_attn_implementation("eager")
