"""Examples of token ids -> one flat batch of tensors."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from outweigh.models.rows import row_places

PER_RESPONSE = ("lengths", "starts", "ranks")


class Collator:
    """Concatenates the responses' ids, unpadded, and adds the columns that the loss needs.

        ids        (T,)  all responses' tokens, one after the other
        lengths    (R,)  tokens of each response
        sizes      (B,)  responses of each item: 2, chosen first, for a pair
        starts     (R,)  tokens before each response
        ranks      (R,)  lower is better
        item       (B,)  place among the items
        counted    (B,)  whether it is an item of the step, or a repeat: see `mark_repeats`
        column_*   (B,)  float32

    Only tensors, so that moving a batch to its device stays cheap.
    """

    def __init__(self, columns: Mapping[str, np.ndarray]) -> None:
        self.columns = {name: np.asarray(values, dtype=np.float32) for name, values in columns.items()}

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        ids = [response for example in examples for response in example["response_ids"]]
        items = np.array([example["item"] for example in examples])
        return {
            "ids": torch.from_numpy(np.concatenate(ids).astype(np.int64)),
            "lengths": torch.tensor([len(response) for response in ids]),
            "sizes": torch.tensor([len(example["response_ids"]) for example in examples]),
            "starts": torch.tensor([start for example in examples for start in example["response_starts"]]),
            "ranks": torch.tensor([rank for example in examples for rank in example["ranks"]]),
            "item": torch.from_numpy(items),
            "counted": torch.ones(len(items), dtype=torch.bool),
            **{f"column_{name}": torch.from_numpy(values[items]) for name, values in self.columns.items()},
        }


def responses(batch: Mapping[str, Tensor]) -> list[list[int]]:
    """The ids of each response of a collated batch, R lists."""
    return [part.tolist() for part in batch["ids"].split(batch["lengths"].tolist())]


def parts(batch: dict[str, Tensor], max_tokens: int) -> list[dict[str, Tensor]]:
    """The batch, or parts of like size, of about `max_tokens` and whole items each, the longest items
    together."""
    size_B, length_R = (batch[name].cpu().numpy() for name in ("sizes", "lengths"))
    token_B = np.add.reduceat(length_R, np.cumsum(size_B) - size_B)
    places = row_places(token_B, max_tokens)
    if len(places) < 2:
        return [batch]
    found = []
    for each in places:
        kept_B = np.isin(np.arange(len(size_B)), each)
        kept_R = kept_B.repeat(size_B)  # torch's own takes milliseconds
        kept = {"ids": kept_R.repeat(length_R), **dict.fromkeys(PER_RESPONSE, kept_R)}
        masks = {name: torch.from_numpy(kept.get(name, kept_B)) for name in batch}
        found.append({name: value[masks[name].to(value.device)] for name, value in batch.items()})
    return found
