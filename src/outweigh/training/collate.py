"""Examples of token ids -> one flat batch."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outweigh.data.packs import trees_of
from outweigh.models.batches import on_device
from outweigh.models.rows import row_places

Batch = dict[str, Any]
"""What a collator makes; see there."""
PER_RESPONSE = ("lengths", "starts", "ranks")


class Collator:
    """Concatenates the responses' ids, unpadded, and adds the columns that the loss needs.

        ids        (T,)  all responses' tokens, one after the other
        lengths    (R,)  tokens of each response
        sizes      (B,)  responses of each item: 2, chosen first, for a pair
        starts     (R,)  tokens before each response
        counted    (B,)  whether it is an item of the step, or a repeat: see `mark_repeats`
        ranks      (R,)  lower is better
        item       (B,)  place among the items
        column_*   (B,)  float32

    The first five lay out passes and stay arrays, which no device takes: read from one, they would wait for
    all that it has to do. The rest are tensors.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self.columns = {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> Batch:
        ids = [response for example in examples for response in example["response_ids"]]
        items = np.array([example["item"] for example in examples])
        return {
            "ids": np.concatenate(ids).astype(np.int64),
            "lengths": np.array([len(response) for response in ids]),
            "sizes": np.array([len(example["response_ids"]) for example in examples]),
            "starts": np.array([start for example in examples for start in example["response_starts"]]),
            "counted": np.ones(len(items), dtype=bool),
            "ranks": torch.tensor([rank for example in examples for rank in example["ranks"]]),
            "item": torch.from_numpy(items),
            **{f"column_{name}": torch.from_numpy(values[items]) for name, values in self.columns.items()},
        }


def responses(batch: Mapping[str, Any]) -> list[list[int]]:
    """The ids of each response of a collated batch, R lists."""
    return [part.tolist() for part in np.split(batch["ids"], np.cumsum(batch["lengths"])[:-1])]


def items_of(batch: Mapping[str, Any]) -> list[list[list[int]]]:
    """The ids of each item's responses, B lists of them."""
    texts = iter(responses(batch))
    return [list(islice(texts, size)) for size in batch["sizes"].tolist()]


def parts(batch: Batch, max_tokens: int, *, shares: bool = False) -> list[Batch]:
    """The batch, or parts of like size, of about `max_tokens` and whole items each, the longest items
    together. Where a forward `shares`, what an item's responses have in common at their beginning counts
    once."""
    size_B, length_R = batch["sizes"], batch["lengths"]
    token_B = np.add.reduceat(length_R, np.cumsum(size_B) - size_B)
    if shares:
        trees = [trees_of(ids, int(tokens)) for ids, tokens in zip(items_of(batch), token_B, strict=True)]
        token_B = np.array([sum(tree.tokens for tree in each) for each in trees])
    places = row_places(token_B, max_tokens)
    if len(places) < 2:
        return [batch]
    found = []
    for each in places:
        kept_B = np.isin(np.arange(len(size_B)), each)
        kept_R = kept_B.repeat(size_B)
        kept = {"ids": kept_R.repeat(length_R), **dict.fromkeys(PER_RESPONSE, kept_R)}
        place_of = {name: np.flatnonzero(kept.get(name, kept_B)) for name in batch}
        found.append({name: _at(value, place_of[name]) for name, value in batch.items()})
    return found


def counted(values: Tensor, counted_N: NDArray[np.bool_]) -> Tensor:
    """Those of N values that count."""
    return values if counted_N.all() else _at(values, np.flatnonzero(counted_N))


def counted_first(value: Tensor | float, counted_B: NDArray[np.bool_]) -> Any:
    """Those that count of the first view's, which stand before the others'; a number is one for all."""
    return counted(value[: len(counted_B)], counted_B) if isinstance(value, Tensor) else value


def _at(values: Any, places: NDArray[np.int64]) -> Any:
    # By places, not by a mask: how many of those are set a device would have to be waited for
    return values[on_device(places, values.device) if isinstance(values, Tensor) else places]
