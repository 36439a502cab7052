"""Token ids -> rewards: length-sorted batches within a token budget, with or without gradients."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

CPU_TOKENS = 2048
"""Padded tokens a forward on a CPU: with many more the activations leave its cache."""
GPU_TOKENS = 16384


def token_budget(device: torch.device) -> int:
    """Padded tokens that one forward takes on this device."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def length_batches(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Indices of texts of like length, longest first, each batch at most `max_tokens` with its padding.

    A text longer than the budget stands alone. Longest first: what needs the most memory comes at once.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    batches, start = [], 0
    while start < len(order):
        size = max(1, max_tokens // max(1, int(lengths[order[start]])))
        batches.append(order[start : start + size])
        start += size
    return batches


def pad(ids: Sequence[Sequence[int]], pad_token: int, device: torch.device) -> dict[str, Tensor]:
    """Right-padded `input_ids` (B, L) and their `attention_mask`."""
    longest = max(len(row) for row in ids)
    input_ids = np.full((len(ids), longest), pad_token, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for place, row in enumerate(ids):
        input_ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {
        "input_ids": torch.from_numpy(input_ids).to(device),
        "attention_mask": torch.from_numpy(mask).to(device),
    }


def rewards_of(
    model: nn.Module, ids: Sequence[Sequence[int]], *, pad_token: int, device: torch.device, max_tokens: int
) -> Tensor:
    """Reward of each text, float32 (N,), in the order given; gradients flow where they are enabled.

    Which texts share a forward pass changes nothing but rounding.
    """
    batches = length_batches([len(row) for row in ids], max_tokens)
    rewards = [
        model(**pad([ids[i] for i in batch], pad_token, device)).logits.squeeze(-1).float()
        for batch in batches
    ]
    return torch.cat(rewards)[order_back(batches, device)]


def rewards_and_features(
    model: nn.Module, layer: nn.Module, ids: Sequence[Sequence[int]], **how: Any
) -> tuple[Tensor, Tensor]:
    """What `rewards_of` gives, and what `layer`, the reward's, reads of each text: (N,) and float32 (N, H).

    Of a layer that reads every token, as causal models have, the features are those of the last one that is
    not padding, where the reward is read.
    """
    seen: list[Tensor] = []
    with _hooked(layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))):
        rewards = rewards_of(model, ids, **how)
    lengths = np.array([len(row) for row in ids])
    batches = length_batches(lengths, how["max_tokens"])
    features = [
        hidden if hidden.dim() == 2 else hidden[range(len(batch)), (lengths[batch] - 1).tolist()]
        for hidden, batch in zip(seen, batches, strict=True)
    ]
    return rewards, torch.cat(features).float()[order_back(batches, rewards.device)]


def rewards_and_token_rewards(
    model: nn.Module, layer: nn.Module, ids: Sequence[Sequence[int]], **how: Any
) -> tuple[Tensor, list[Tensor]]:
    """What `rewards_of` gives, and the reward at each token of each text, float32, N tensors of its length;
    of one where `layer`, the reward's, reads a text as a whole, as encoders have it.
    """
    seen: list[Tensor] = []
    with _hooked(layer.register_forward_hook(lambda _, __, output: seen.append(output))):
        rewards = rewards_of(model, ids, **how)
    at_tokens: list[Tensor] = [rewards] * len(ids)
    for reward, batch in zip(seen, length_batches([len(row) for row in ids], how["max_tokens"]), strict=True):
        for row, place in zip(reward, batch.tolist(), strict=True):
            at_tokens[place] = row.flatten()[: len(ids[place])].float()
    return rewards, at_tokens


@contextmanager
def _hooked(handle: RemovableHandle) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def order_back(batches: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Where in the batches each text stands, in the order in which they were given."""
    return torch.from_numpy(np.argsort(np.concatenate(batches))).to(device)
