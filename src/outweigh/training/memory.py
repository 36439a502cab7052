"""How many tokens a forward pass may take so that its backward pass fits into a GPU's memory."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

USED = 0.8
"""Of the memory that is free: a backward pass has needs of its own."""
STATES = 12
"""Bytes a trainable parameter that the first step adds: its gradient and AdamW's two moments in float32."""
LEAST = 512
FEW, MANY = 2, 8  # texts of the passes that are measured


def fitting_tokens(
    rewards: Callable[[list[list[int]]], Tensor],
    id_T: NDArray[np.int64],
    text_tokens: int,
    weights: Iterable[nn.Parameter],
    device: torch.device,
    most: int,
) -> int:
    """Tokens of a pass, at most `most`; `rewards` makes one of texts, here of `text_tokens` each, drawn from
    the ids.

    Two passes are made: what the larger keeps more for its backward pass is what its tokens cost, the rest
    are weights that autocast has cast. Only a GPU's memory is looked at.
    """
    if device.type != "cuda":
        return most
    texts = [np.resize(np.roll(id_T, -text), text_tokens).tolist() for text in range(MANY)]
    few, many = (kept_bytes(partial(rewards, texts[:count]), device) for count in (FEW, MANY))
    each = (many - few) / (text_tokens * (MANY - FEW))
    fixed = few - each * text_tokens * FEW
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + held
    states = STATES * sum(weight.numel() for weight in weights)
    return tokens_within(free - fixed - states, each, most)


def kept_bytes(forward: Callable[[], Tensor], device: torch.device) -> int:
    """What a pass leaves in the device's memory for its backward pass."""
    before = torch.cuda.memory_allocated(device)
    held = forward()
    after = torch.cuda.memory_allocated(device)
    del held
    return after - before


def tokens_within(free: float, each: float, most: int) -> int:
    """The most tokens that cost `each` byte and leave some of those that are free: `most`, or else LEAST,
    doubled as often as may be, so that a little more or less of memory changes nothing."""
    if most * each <= USED * free:
        return most
    tokens = min(most, LEAST)
    while 2 * tokens * each <= USED * free:
        tokens *= 2
    return tokens
