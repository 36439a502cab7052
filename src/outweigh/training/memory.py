"""How many tokens a forward pass may take so that its backward pass fits into a GPU's memory."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

USED = 0.8
"""Of the memory that is free, since no two steps are alike."""
MOMENTS = 8
"""Bytes a trainable parameter that AdamW's first step adds: two float32 numbers."""
LEAST = 512
MANY = 4  # items of the larger pass that is measured


def fitting_tokens(
    rewards: Callable[[list[list[int]]], Tensor],
    items: Sequence[list[list[int]]],
    weights: Sequence[nn.Parameter],
    reserved: int,
    device: torch.device,
    most: int,
) -> int:
    """Tokens of a pass, at most `most`; `rewards` makes one of texts, and `items` are the responses' of some.
    `reserved` are bytes that will be needed beside it.

    Two passes are made and their gradients taken: what the peak of the larger is above that of the smaller is
    what its tokens cost, the rest is there whatever their number, such as weights that autocast casts and
    their gradients. Only a GPU's memory is looked at, and not where there is one item: it stays whole.
    """
    if device.type != "cuda" or len(items) < 2:
        return most
    longest = sorted(items, key=lambda item: -_tokens([item]))[:MANY]
    (few, few_tokens), (many, many_tokens) = (
        (peak_bytes(rewards, some, weights, device), _tokens(some)) for some in (longest[:1], longest)
    )
    each = max(0.0, (many - few) / (many_tokens - few_tokens))
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    free = torch.cuda.mem_get_info(device)[0] + held
    return tokens_within(free - reserved - (few - each * few_tokens), each, most)


def _tokens(items: Sequence[list[list[int]]]) -> int:
    return sum(len(text) for item in items for text in item)


def peak_bytes(
    rewards: Callable[[list[list[int]]], Tensor],
    items: Sequence[list[list[int]]],
    weights: Sequence[nn.Parameter],
    device: torch.device,
) -> int:
    """The most memory that a pass and its gradient take beside what is there."""
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    total = rewards([text for item in items for text in item]).sum()
    torch.autograd.grad(total, weights, allow_unused=True)
    return torch.cuda.max_memory_allocated(device) - before


def reserved_bytes(weights: Sequence[nn.Parameter], optimizer: Optimizer | None, copies: int) -> int:
    """What a training takes beside its passes: AdamW's moments where the optimizer has none yet, as it has of
    a run that is resumed, and so many copies of the weights."""
    known = {} if optimizer is None else optimizer.state
    return sum(
        weight.numel() * ((0 if weight in known else MOMENTS) + copies * weight.element_size())
        for weight in weights
    )


def tokens_within(free: float, each: float, most: int) -> int:
    """The most tokens that cost `each` byte and leave some of those that are free: `most`, or else LEAST,
    doubled as often as may be, so that a little more or less of memory changes nothing."""
    if most * each <= USED * free:
        return most
    tokens = min(most, LEAST)
    while 2 * tokens * each <= USED * free:
        tokens *= 2
    return tokens
