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
from outweigh.models.batches import CPU_TOKENS, Forward, length_batches, on_device
from outweigh.models.plain import ROUND


@dataclass(frozen=True)
class Trees:
    """Of a causal model: packs, in which what texts have in common at their beginning stands once."""

    plain: bool = False
    """Attention as matrix products and a softmax, not torch's fused one."""

    def forwards(
        self, ids: Sequence[Sequence[int]], max_tokens: int, device: torch.device
    ) -> Iterator[Forward]:
        """Passes of at most `max_tokens` and less than ROUND more; a longer text stands alone."""
        for pack in packs_of(ids, max_tokens):
            filler = -len(pack.ids) % ROUND
            layout = TreeLayout(pack, filler, device, plain=self.plain)
            inputs = _inputs(pack.ids, pack.positions, filler, layout, device)
            inputs["use_cache"] = False
            yield Forward(np.array(pack.places), inputs, True, np.zeros_like(pack.places), pack.rows())


@dataclass(frozen=True)
class Rows:
    """Of an encoder: texts side by side, each of which is read at its first token."""

    reader: nn.Module
    """Takes (B, L, H), and reads the first of L."""
    padding: int | None
    """The pad token where it has a position of its own, the one of its number: a text's come after it."""
    plain: bool
    """Attention as matrix products and a softmax, not torch's fused one."""

    def forwards(
        self, ids: Sequence[Sequence[int]], max_tokens: int, device: torch.device
    ) -> Iterator[Forward]:
        """Passes of like size, the longest texts first, of `max_tokens` and less than a text and ROUND more.

        Raises:
            ValueError: a text of no tokens, whose first one there is nothing to read of.
        """
        length_N = np.array([len(row) for row in ids])
        if length_N.min(initial=1) < 1:
            raise ValueError(f"rows: got no token in text {int(length_N.argmin())}, want one or more.")
        for places in row_places(length_N, max_tokens):
            length_S = length_N[places]
            total = int(length_S.sum())
            filler = -total % ROUND
            texts = [np.asarray(ids[place]) for place in places]
            positions = [positions_of(text, self.padding) for text in texts]
            groups = [length_S[batch] for batch in length_batches(length_S, CPU_TOKENS)]
            layout = RowLayout(groups, filler, device, plain=self.plain)
            inputs = _inputs(np.concatenate(texts), np.concatenate(positions), filler, layout, device)
            inputs["token_type_ids"] = torch.zeros_like(inputs["input_ids"])
            begin_S = np.cumsum(length_S) - length_S
            first = on_device(begin_S, device)
            columns = [np.arange(length) for length in length_S]
            yield Forward(places, inputs, False, np.arange(len(places)), columns, (self.reader, first))


def positions_of(text_L: NDArray[np.int64], padding: int | None) -> NDArray[np.int64]:
    """Positions of a text's tokens, (L,): from 0, or as RoBERTa counts, where a pad token within the text,
    too, stands at its own and moves none of those after it."""
    if padding is None:
        return np.arange(len(text_L))
    is_token_L = (text_L != padding).astype(np.int64)
    position_L: NDArray[np.int64] = padding + np.cumsum(is_token_L) * is_token_L
    return position_L


def row_places(length_N: NDArray[np.int64], max_tokens: int) -> list[NDArray[np.int64]]:
    """Which of N texts stand in each row, the longest first: as few rows as may be, of like size."""
    order = np.argsort(-length_N, kind="stable")
    total = int(length_N.sum())
    rows = -(-total // max_tokens)
    before = np.cumsum(length_N[order]) - length_N[order]
    row_N = before * rows // total
    return [order[row_N == row] for row in np.unique(row_N)]


def _inputs(
    tokens: NDArray[np.int64],
    positions: NDArray[np.int64],
    filler: int,
    layout: Layout,
    device: torch.device,
) -> dict[str, Any]:
    """What a model's forward is given for a row of tokens and so many that fill it up: like the first, for of
    no other token than the texts have need the model know the embedding."""
    filled = [np.append(each, each[:1].repeat(filler)) for each in (tokens, positions)]
    ids, places = (on_device(each, device)[None] for each in filled)
    return {
        "input_ids": ids,
        "position_ids": places,
        # A mask of four dimensions is taken as it is: none is made of T x T, and this one is not looked at
        "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
        "layout": layout,
    }
