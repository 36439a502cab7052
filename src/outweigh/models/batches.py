"""Token ids -> rewards: length-sorted batches, or rows of many texts, within a token budget."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CPU_TOKENS = 2048
"""Padded tokens a forward on a CPU: with many more the activations leave its cache."""
GPU_TOKENS = 16384
"""And on a GPU, where memory has room (training/memory.py): in a step of about as many tokens a model of 1B
kept an H200 busy for .35 s, its host for .38, of .45 in all (bench/results/gpu_h200.jsonl). No other number
was measured."""
PASSES = 32
"""A pass is taken to cost what the budget's 32nd part costs. On a CPU MiniLM's costs 50 to 200 tokens, of
2,048 in training; on GPUs none was measured."""


def token_budget(device: torch.device) -> int:
    """Padded tokens that one forward takes on this device."""
    return CPU_TOKENS if device.type == "cpu" else GPU_TOKENS


def length_batches(lengths: Sequence[int] | np.ndarray, max_tokens: int) -> list[np.ndarray]:
    """Indices of texts of like length, the longest first, each batch at most `max_tokens` with its padding.

    Of all ways to cut the sorted texts the one with the least padding, where a batch more must save
    `max_tokens` / PASSES tokens of it. A text longer than the budget stands alone.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    texts, fixed = len(order), max_tokens / PASSES
    cost = np.full(texts + 1, np.inf)  # of the first texts
    begun = np.zeros(texts + 1, dtype=np.int64)  # where their last batch begins
    cost[0] = 0
    for start in range(texts):
        longest = int(lengths[order[start]])
        size = np.arange(1, min(max(1, max_tokens // max(1, longest)), texts - start) + 1)
        found = cost[start] + fixed + size * longest
        better = found < cost[start + size]
        cost[start + size[better]], begun[start + size[better]] = found[better], start
    batches, end = [], texts
    while end:
        batches.append(order[begun[end] : end])
        end = int(begun[end])
    return batches[::-1]


def pad(ids: Sequence[Sequence[int]], pad_token: int, device: torch.device) -> dict[str, Tensor]:
    """Right-padded `input_ids` (B, L) and their `attention_mask`."""
    longest = max(len(row) for row in ids)
    input_ids = np.full((len(ids), longest), pad_token, dtype=np.int64)
    mask = np.zeros_like(input_ids)
    for place, row in enumerate(ids):
        input_ids[place, : len(row)] = row
        mask[place, : len(row)] = 1
    return {
        "input_ids": on_device(input_ids, device),
        "attention_mask": on_device(mask, device),
    }


class Forward(NamedTuple):
    """One forward pass over S of the texts, and where in its rows of tokens they stand."""

    places: NDArray[np.int64]  # (S,), among the texts given
    inputs: dict[str, Any]
    packed: bool  # each text is read where it ends, not a row as a whole
    rows: NDArray[np.int64]  # (S,)
    columns: list[NDArray[np.int64]]  # of each text's tokens, S arrays of its length
    first: tuple[nn.Module, Tensor] | None = None
    """Of an encoder's row: what reads texts at their first tokens, and where those stand, (S,)."""

    @property
    def last(self) -> tuple[list[int], list[int]]:
        """Row and column of each text's last token."""
        return self.rows.tolist(), [int(each[-1]) for each in self.columns]


class Packing(Protocol):
    """A way to put many texts into one row."""

    def forwards(
        self, ids: Sequence[Sequence[int]], max_tokens: int, device: torch.device
    ) -> Iterator[Forward]:
        """Passes of about `max_tokens`."""
        ...


class Outcome(NamedTuple):
    """What a model made of one forward pass."""

    forward: Forward
    logits: Tensor  # (R, 1)
    read: Tensor  # by the reward's layer: (R, H), or (R, L, H) where it reads every token; empty if not asked
    given: Tensor  # by that layer: (R, 1), or (R, L, 1); the logits if not asked

    def rewards(self) -> Tensor:
        """Of its texts, float32 (S,)."""
        reward_S1 = self.given[self.forward.last] if self.forward.packed else self.logits
        return reward_S1.squeeze(-1).float()

    def features(self) -> Tensor:
        """What the reward's layer reads of each text, where the reward is read, float32 (S, H)."""
        return (self.read if self.read.dim() == 2 else self.read[self.forward.last]).float()

    def token_rewards(self) -> list[Tensor]:
        """The reward at each token of each text, float32, S tensors of its length; of one where the reward's
        layer reads a text as a whole, as encoders have it."""
        if self.given.dim() == 2:
            return list(self.given.float())
        places = zip(self.forward.rows.tolist(), self.forward.columns, strict=True)
        return [self.given[row, torch.from_numpy(columns), 0].float() for row, columns in places]


def forwards(
    ids: Sequence[Sequence[int]],
    *,
    pad_token: int,
    device: torch.device,
    max_tokens: int | None,
    packs: Packing | None,
) -> Iterator[Forward]:
    """Passes of about `max_tokens`, with None one of all texts: packs, or texts of like length, padded."""
    lengths = [len(row) for row in ids]
    if packs is not None:
        yield from packs.forwards(ids, sum(lengths) if max_tokens is None else max_tokens, device)
        return
    batches = [np.arange(len(ids))] if max_tokens is None else length_batches(lengths, max_tokens)
    for batch in batches:
        inputs = pad([ids[place] for place in batch.tolist()], pad_token, device)
        columns = [np.arange(lengths[place]) for place in batch.tolist()]
        yield Forward(batch, inputs, False, np.arange(len(batch)), columns)


def run_forward(
    model: nn.Module,
    layer: nn.Module,
    forward: Forward,
    *,
    looks_inside: bool = False,
    every_token: bool = False,
) -> Outcome:
    """What the model makes of the pass; of `layer`, whose output is the reward, where one looks inside, as in
    a pack one has to. Its last token is all that is read of a packed text, if not `every_token` is."""
    seen: list[tuple[Tensor, Tensor]] = []
    with ExitStack() as hooks:
        if forward.first is not None:
            reader, first_S = forward.first
            handle = reader.register_forward_pre_hook(lambda _, inputs: (_first(inputs, first_S),))
            hooks.callback(handle.remove)
        if forward.packed or looks_inside:
            handle = layer.register_forward_hook(lambda _, inputs, output: seen.append((inputs[0], output)))
            hooks.callback(handle.remove)
        ends_alone = {"ends_alone": True} if forward.packed and not every_token else {}
        logits = model(**forward.inputs, **ends_alone).logits
    return Outcome(forward, logits, *(seen[-1] if seen else (logits.new_empty(0), logits)))


def _first(inputs: tuple[Tensor, ...], first_S: Tensor) -> Tensor:
    """What is to be read of each text, (S, 1, H), of all in the row, (1, T, H)."""
    if not inputs or inputs[0].dim() != 3:
        raise ValueError("nothing in it reads first tokens from all")
    return inputs[0][0, first_S][:, None]


class Texts(NamedTuple):
    """What a model says of N texts, in the order in which they were given; gradients flow where enabled."""

    rewards: Tensor  # float32 (N,)
    features: Tensor  # float32 (N, H); (0,) if not asked
    token_rewards: list[Tensor]  # float32, N tensors of each text's length; none if not asked


def read_texts(
    model: nn.Module,
    layer: nn.Module,
    ids: Sequence[Sequence[int]],
    *,
    features: bool = False,
    token_rewards: bool = False,
    **how: Any,
) -> Texts:
    """The rewards of the texts, and what else is asked for; `how` is what `forwards` takes.

    Which texts share a forward pass changes nothing but rounding, but where there is dropout: in a pack the
    responses to one prompt see it under the same one.
    """
    inside = features or token_rewards
    run = partial(run_forward, model, layer, looks_inside=inside, every_token=token_rewards)
    outcomes = [run(each) for each in forwards(ids, **how)]
    rewards_N = torch.cat([each.rewards() for each in outcomes])
    back = order_back([each.forward.places for each in outcomes], rewards_N.device)
    at_tokens = [each for outcome in outcomes for each in outcome.token_rewards()] if token_rewards else []
    return Texts(
        rewards_N[back],
        torch.cat([each.features() for each in outcomes])[back] if features else rewards_N.new_empty(0),
        [at_tokens[place] for place in back.tolist()] if token_rewards else [],
    )


def order_back(batches: Sequence[np.ndarray], device: torch.device) -> Tensor:
    """Where in the batches each text stands, in the order in which they were given."""
    return on_device(np.argsort(np.concatenate(batches)), device)


def on_device(values: NDArray[Any], device: torch.device) -> Tensor:
    """The values there, without a wait for what the device still has to do."""
    return torch.from_numpy(values).to(device, non_blocking=True)
