"""Token ids -> forward passes over rows of many texts, unpadded; of causal models prompts stand once."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from outweigh.data.packs import packs_of
from outweigh.models.attention import Layout, RowLayout, TreeLayout
from outweigh.models.batches import CPU_TOKENS, Forward, length_batches

ROUND = 64
"""Tokens of a row are a multiple of it: each new size of a matrix product has to be prepared on a CPU."""


@dataclass(frozen=True)
class Trees:
    """Of a causal model: packs, in which what texts have in common at their beginning stands once."""

    def forwards(
        self, ids: Sequence[Sequence[int]], max_tokens: int, device: torch.device
    ) -> Iterator[Forward]:
        """Passes of at most `max_tokens`, but for a longer text, which stands alone."""
        for pack in packs_of(ids, max_tokens):
            inputs = _inputs(pack.ids, pack.positions, TreeLayout(pack, device), device)
            inputs["use_cache"] = False
            yield Forward(np.array(pack.places), inputs, True, np.zeros_like(pack.places), pack.rows())


@dataclass(frozen=True)
class Rows:
    """Of an encoder: texts side by side, each of which is read at its first token."""

    reader: nn.Module
    """Takes (B, L, H), and reads the first of L."""
    position: int
    """Of a text's first token."""
    plain: bool
    """Attention as matrix products and a softmax, not torch's fused one."""

    def forwards(
        self, ids: Sequence[Sequence[int]], max_tokens: int, device: torch.device
    ) -> Iterator[Forward]:
        """Passes of like size, the longest texts first, of `max_tokens` and less than a text more at most."""
        length_N = np.array([len(row) for row in ids])
        for places in row_places(length_N, max_tokens):
            length_S = length_N[places]
            total = int(length_S.sum())
            filler = -total % ROUND
            # filled with a token that the texts have: of no other need the model know the embedding
            tokens = np.concatenate([*(ids[place] for place in places), np.repeat(ids[places[0]][0], filler)])
            positions = np.concatenate([*map(np.arange, length_S), np.zeros(filler)]).astype(np.int64)
            groups = [length_S[batch] for batch in length_batches(length_S, CPU_TOKENS)]
            layout = RowLayout(groups, filler, device, plain=self.plain)
            inputs = _inputs(tokens, self.position + positions, layout, device)
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
            begin_S = np.cumsum(length_S) - length_S
            first = torch.from_numpy(begin_S).to(device)
            columns = [np.arange(length) for length in length_S]
            yield Forward(places, inputs, False, np.arange(len(places)), columns, (self.reader, first))


def row_places(length_N: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Which of N texts stand in each row, the longest first: as few rows as may be, of like size."""
    order = np.argsort(-length_N, kind="stable")
    total = int(length_N.sum())
    rows = -(-total // max_tokens)
    before = np.cumsum(length_N[order]) - length_N[order]
    row_N = before * rows // total
    return [order[row_N == row] for row in np.unique(row_N)]


def _inputs(
    tokens: NDArray[np.int64], positions: NDArray[np.int64], layout: Layout, device: torch.device
) -> dict[str, Any]:
    """What a model's forward is given for a row of T tokens."""
    return {
        "input_ids": torch.from_numpy(tokens)[None].to(device),
        "position_ids": torch.from_numpy(positions)[None].to(device),
        # A mask of four dimensions is taken as it is: none is made of T x T, and this one is not looked at
        "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
        "layout": layout,
    }
