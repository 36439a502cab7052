"""Flash attention over texts of unlike lengths, where a GPU has it."""

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from outweigh.models.batches import on_device

HALF: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16)


class How(NamedTuple):
    """What an architecture asks of its attention."""

    scale: float | None = None  # of the scores; of None, 1 / sqrt(D)
    dropout: float = 0.0
    sinks: Tensor | None = None
    """A score of each head, (heads,), that takes its share of the softmax and gives nothing for it."""


class Spans(NamedTuple):
    """Where each of S texts has its queries and its keys, for attention that takes unlike lengths."""

    keys: Tensor | None  # (K,) where in the row the keys stand, text after text; None: as the row has them
    query_begin: Tensor  # int32 (S + 1,) in the row, and where it ends
    key_begin: Tensor  # int32 (S + 1,) among the K
    most_queries: int
    most_keys: int


def spans_of(
    queries: Sequence[int], keys: Sequence[int], places: NDArray[np.int64] | None, device: torch.device
) -> Spans:
    """Of texts with so many queries and keys each, whose keys stand at `places` in the row."""
    query_begin, key_begin = (
        on_device(np.cumsum([0, *filter(None, each)], dtype=np.int32), device)  # filler may be none
        for each in (queries, keys)
    )
    source = None if places is None else on_device(places, device)
    return Spans(source, query_begin, key_begin, max(queries), max(keys))


def takes_flash(query: Tensor, value: Tensor, how: How) -> bool:
    """Whether flash attention computes this: on CUDA, in half precision, without sinks."""
    if not query.is_cuda or query.dtype not in HALF or how.sinks is not None:
        return False
    return query.shape[3] == value.shape[3] and query.shape[3] in flash_sizes(query.device)


@cache
def flash_sizes(device: torch.device) -> range:
    """Sizes of a head that torch's flash attention takes there with its backward pass: none before Ampere or
    in a build without it, up to 192 where a multiprocessor has too little memory for more."""
    if device.type != "cuda" or not torch.backends.cuda.is_flash_attention_available():
        return range(0)
    major, minor = torch.cuda.get_device_capability(device)
    if major < 8:
        return range(0)
    return range(8, 257 if minor == 0 and major < 12 else 193, 8)


def flash(query: Tensor, key: Tensor, value: Tensor, spans: Spans, how: How, *, causal: bool) -> Tensor:
    """Attention (1, heads, T, D) of each text's queries, which are its last, to its keys, of which several
    heads may share one.

    By the operation below torch's own varlen_attn, which knows no dropout and has 0.5 ms a call of its own.
    """
    given = spread(query, key, value, spans)
    found: Tensor = torch.ops.aten._flash_attention_forward(
        *given, how.dropout, causal, False, scale=how.scale
    )[0]
    return found.transpose(0, 1)[None]


def spread(
    query: Tensor, key: Tensor, value: Tensor, spans: Spans
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, int, int]:
    """Queries (T, heads, D) and each text's keys and values (K, heads, D), text after text, then where texts
    begin among them and the most that one has."""
    q, k, v = (each[0].transpose(0, 1) for each in (query, key, value))
    if spans.keys is not None:
        k, v = k.index_select(0, spans.keys), v.index_select(0, spans.keys)
    return q, k, v, *spans[1:]
