"""Attention in packs as matrix products and a softmax, with its backward pass written out.

Autograd would keep, copy and add up what hundreds of small products have of their own; here what a text sees
is laid out once for both passes, and gradients are written to where they belong.

Shapes: K heads of keys, for each of which G of queries; m tokens with padding; D a head's size.
"""

from collections.abc import Iterator, Sequence
from functools import cache
from itertools import accumulate, islice, repeat
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad

from outweigh.models.flash import How

QUERIES = 256
"""Tokens whose scores are computed at once: with more, many that none sees are. A multiple of ROUND."""
ROUND = 64
"""Tokens of a row, and on a CPU those of plain attention's products, are a multiple of it: each new size of a
product has to be prepared there, in milliseconds, and is then kept, in hundreds of KB."""


class Piece(NamedTuple):
    """Where in a row of keys stands what a text has of its own, and what it shares, which its own tokens see;
    and in one of queries those of its last tokens, of all its own or of fewer."""

    queries: slice
    own: slice
    shared: slice


class _Block(NamedTuple):
    """Tokens of a piece whose scores are computed at once."""

    queries: slice  # of the row of queries
    keys: int  # so many of those laid out, the first ones, some of them see
    unseen: int  # of these so many, the last ones, not all of them see


class _Weights(NamedTuple):
    """By which a block's tokens weigh values."""

    share: Tensor  # (K, G * m, keys), softmax of the scores; a sink's, if there is one, is the last
    used: Tensor  # (K, G * m, keys), without it and after dropout
    kept: Tensor | None  # bool, what dropout left


class _PlainAttention(torch.autograd.Function):
    """As `plain_attention`; sinks stand apart since they have a gradient, too."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        sinks: Tensor | None,
        pieces: Sequence[Piece],
        how: How,
    ) -> Tensor:
        """What tokens attend to; what the backward pass needs is kept where there may be one."""
        learns, kept = any(ctx.needs_input_grad), [sinks]
        scale = query.shape[3] ** -0.5 if how.scale is None else how.scale
        heads, shape = key.shape[1], (*query.shape[:3], value.shape[3])
        found = _rows(shape, query, pieces[-1].queries.stop)
        q_KGTD, k_K1TD, v_K1TD, out_KGTD = (_by_key_head(e, heads) for e in (query, key, value, found))
        with torch.autocast(query.device.type, enabled=False):  # all are of one type, and stay so
            for piece in pieces:
                k, v = (_laid(each, piece.shared, piece.own) for each in (k_K1TD, v_K1TD))
                kept += [k, v] if learns else []
                for block in _blocks(piece, k.shape[1]):
                    q = _laid(q_KGTD, block.queries).mul_(scale)
                    score = q @ k[:, : block.keys].mT
                    weights = _weights(score, block, q_KGTD.shape[1], sinks, how.dropout)
                    _put(weights.used @ v[:, : block.keys], out_KGTD, block.queries)
                    kept += [q, *weights] if learns else []
        ctx.save_for_backward(*kept)
        ctx.pieces, ctx.scale, ctx.dropout, ctx.heads = pieces, scale, how.dropout, heads
        ctx.shapes = (query.shape, key.shape, value.shape)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of query, key, value and sinks."""
        sinks, *saved = ctx.saved_tensors
        kept = iter(saved)
        last = ctx.pieces[-1]
        ends = (last.queries.stop, last.own.stop, last.own.stop)
        d_query, d_key, d_value = (_rows(*each) for each in zip(ctx.shapes, repeat(gradient), ends))
        g_KGTD, dq_KGTD, dk_K1TD, dv_K1TD = (
            _by_key_head(each, ctx.heads) for each in (gradient, d_query, d_key, d_value)
        )
        d_sinks = None if sinks is None else torch.zeros_like(sinks)
        for piece in ctx.pieces:
            k, v = islice(kept, 2)
            blocks = [(block, *islice(kept, 4)) for block in _blocks(piece, k.shape[1])]
            dk, dv = [], []
            for block, q, *of_block in reversed(blocks):  # the last one sees all keys
                weights, g = _Weights(*of_block), _laid(g_KGTD, block.queries)
                d_score = _through_softmax(g @ v[:, : block.keys].mT, weights, ctx.dropout)
                if d_sinks is not None:
                    d_sinks += d_score[..., -1].unflatten(1, (len(sinks) // ctx.heads, -1)).sum(-1).flatten()
                    d_score = d_score[..., :-1]
                _put(d_score @ k[:, : block.keys], dq_KGTD, block.queries)
                dk.append(d_score.mT @ q)
                dv.append(weights.used.mT @ g)
            for rows_K1TD, parts in ((dk_K1TD, dk), (dv_K1TD, dv)):
                _add(parts, rows_K1TD, piece)
        return d_query.mul_(ctx.scale), d_key, d_value, d_sinks, None, None


def plain_attention(query: Tensor, key: Tensor, value: Tensor, how: How, pieces: Sequence[Piece]) -> Tensor:
    """Of each piece's queries to what it shares and to its own up to themselves.

    Takes (1, heads, Q, D), and keys and values (1, fewer or as many heads, T, D), of which values may have
    another D, which is what it gives: (1, heads, Q, D), 0 after the last piece; in memory (1, Q, heads, D).
    """
    # Of a parameter the function would keep all it has computed, for a backward pass that never comes
    sinks = how.sinks if how.sinks is None or torch.is_grad_enabled() else how.sinks.detach()
    found: Tensor = _PlainAttention.apply(query, key, value, sinks, pieces, how)  # type: ignore[no-untyped-call]
    return found


def _size(span: slice) -> int:
    return int(span.stop - span.start)


def _rows(shape: Sequence[int], like: Tensor, end: int) -> Tensor:
    """(1, heads, T, D), to be written up to `end` and 0 from there on; in memory (1, T, heads, D)."""
    _, heads, tokens, size = shape
    found = like.new_empty(1, tokens, heads, size)
    found[:, end:] = 0
    return found.transpose(1, 2)


def _by_key_head(values: Tensor, heads: int) -> Tensor:
    """(1, K * G, T, D) as (K, G, T, D)."""
    found: Tensor = values[0].unflatten(0, (heads, -1))
    return found


def _laid(values_KGTD: Tensor, *spans: slice) -> Tensor:
    """The tokens of spans together, (K, G * m, D), zeros after them, but for one alone."""
    sizes = [_size(span) for span in spans]
    tokens = sum(sizes)
    padding = -tokens % ROUND if values_KGTD.device.type == "cpu" and tokens > 1 else 0
    K, G, _, D = values_KGTD.shape
    found = values_KGTD.new_empty(K, G, tokens + padding, D)
    for span, end in zip(spans, accumulate(sizes), strict=True):
        found[:, :, end - _size(span) : end] = values_KGTD[:, :, span]
    found[:, :, tokens:] = 0
    return found.flatten(1, 2)


def _put(values: Tensor, rows_KGTD: Tensor, span: slice) -> None:
    """Nothing; writes a span's values, (K, G * m, D), without those of its padding."""
    rows_KGTD[:, :, span] = values.unflatten(1, (rows_KGTD.shape[1], -1))[:, :, : _size(span)]


def _add(parts: Sequence[Tensor], rows_K1TD: Tensor, piece: Piece) -> None:
    """Nothing; writes a piece's own gradients, and adds those of what it shares with other pieces.

    The first of the parts, (K, keys, D), is of all its keys, the others of the first ones.
    """
    whole, *others = parts
    for part in others:
        whole[:, : part.shape[1]] += part
    if shared := _size(piece.shared):
        rows_K1TD[:, 0, piece.shared] += whole[:, :shared]
    _put(whole[:, shared:], rows_K1TD, piece.own)


def _blocks(piece: Piece, keys: int) -> Iterator[_Block]:
    """The piece's queries, QUERIES at a time; so many `keys` are laid out for it."""
    before = _size(piece.shared) + _size(piece.own) - _size(piece.queries)
    for start in range(0, _size(piece.queries), QUERIES):
        stop = min(start + QUERIES, _size(piece.queries))
        seen = before + stop
        some = min(seen + -seen % ROUND, keys)
        own = slice(piece.queries.start + start, piece.queries.start + stop)
        yield _Block(own, some, some - before - start)


def _weights(score: Tensor, block: _Block, groups: int, sinks: Tensor | None, dropout: float) -> _Weights:
    """Of scores, (K, G * m, keys), which are changed."""
    score_KGmk = score.unflatten(1, (groups, -1))
    late = _late(QUERIES + ROUND, score.dtype, score.device)[: score_KGmk.shape[2], : block.unseen]
    score_KGmk[..., block.keys - block.unseen :] += late
    if sinks is not None:
        sink_KGm1 = sinks.to(score.dtype).view(-1, groups, 1, 1).expand(*score_KGmk.shape[:3], 1)
        score = torch.cat([score, sink_KGm1.flatten(1, 2)], -1)
    share = score.softmax(-1)
    used = share[..., : block.keys]
    if not dropout:
        return _Weights(share, used, None)
    return _Weights(share, *torch.native_dropout(used, dropout, True))


def _through_softmax(d_used: Tensor, weights: _Weights, dropout: float) -> Tensor:
    """The gradient of the scores, a sink's the last, of that of the weights used."""
    if weights.kept is not None:
        d_used = d_used * weights.kept / (1 - dropout)
    d_share = pad(d_used, (0, weights.share.shape[-1] - d_used.shape[-1]))
    found: Tensor = torch.ops.aten._softmax_backward_data(d_share, weights.share, -1, d_share.dtype)
    return found


@cache
def _late(tokens: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """What is added to the scores of so many tokens with each other: minus infinity at what comes after."""
    return torch.full((tokens, tokens), -torch.inf, dtype=dtype, device=device).triu(1)
