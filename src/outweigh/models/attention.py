"""Attention among texts that stand in one row: packs where a prompt stands once, and rows of an encoder."""

from collections.abc import Callable, Sequence
from functools import cache, cached_property
from itertools import accumulate, pairwise, starmap
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.attention.flex_attention import AuxRequest, BlockMask, create_block_mask, flex_attention
from torch.nn.functional import dropout as drop
from torch.nn.functional import pad as pad_right
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from outweigh.data.packs import Pack, Tree
from outweigh.models.batches import on_device
from outweigh.models.flash import HALF, How, Spans, flash, spans_of, takes_flash
from outweigh.models.fused import ends_attention, fused_attention, joined, merges
from outweigh.models.plain import Piece, plain_attention

PACKED = "outweigh"
"""What transformers knows this attention by. Where a forward brings no `layout` it is torch's fused one."""
ROUND_GROUP = 32
"""As ROUND, of the tokens of the longest text of a group that an encoder's attention takes at once."""
FLEX_SIZE = 16
"""The least size of a head that FlexAttention's kernels take."""
NOT_DONE = ("softcap", "position_bias")
"""What some architectures add to attention: capped scores, biases by distance."""


class Layout(Protocol):
    """Which tokens of a row each token sees."""

    causal: bool
    """A token sees what its text has before it, and itself; else its text both ways."""

    @property
    def spans(self) -> Spans:
        """The same as flash attention is told it."""
        ...

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """Attention within each text of the row: (1, heads, T, D) each, keys and values with as many heads as
        the model has of them, and returned as queries are."""
        ...


class TreeLayout:
    """Where the trees of a pack stand, then `filler` tokens of none, like each other; a token sees what its
    text has before it, and itself.

    Where `plain`, attention is products and a softmax, else torch's fused one, or on CUDA FlexAttention,
    where that takes what it is given.
    """

    causal = True

    def __init__(self, pack: Pack, filler: int, device: torch.device, *, plain: bool) -> None:
        self.trees = pack.trees
        self._pack = pack
        self._filler = filler
        self._plain = plain
        self._device = device

    @cached_property
    def pieces(self) -> list[Piece]:
        """What plain attention takes at once: a tree's first text with what it shares, the others' own."""
        found, start = [], 0
        for tree in self.trees:
            first = slice(start, start + tree.shared + tree.own[0])
            found.append(Piece(first, first, slice(start, start)))
            for own in starmap(slice, pairwise(accumulate(tree.own[1:], initial=first.stop))):
                found.append(Piece(own, own, slice(start, start + tree.shared)))
            start += tree.tokens
        return found

    @cached_property
    def ends(self) -> Tensor:
        """Where each text's last token stands, (S,), in the order of the row."""
        return on_device(np.array([piece.own.stop - 1 for piece in self.pieces]), self._device)

    def attend_ends(self, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """Attention of each text's last token alone, whose queries stand in turn, (1, heads, S, D)."""
        if self._plain or how.sinks is not None or not all(merges(e, query, value, how) for e in self.trees):
            alone = [piece._replace(queries=slice(at, at + 1)) for at, piece in enumerate(self.pieces)]
            return plain_attention(query, key, value, how, alone)
        key, value = _repeated(query, key, value)
        queries = query.split([len(tree.own) for tree in self.trees], dim=2)
        given = zip(self.trees, queries, self._by_tree(key), self._by_tree(value), strict=False)
        return joined([ends_attention(tree, q, k, v, how) for tree, q, k, v in given])

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """As `Layout` has it.

        No token is laid out twice but for keys that several texts share.
        """
        takes_flex = query.is_cuda and query.dtype in HALF and query.shape[3] >= FLEX_SIZE and not how.dropout
        if not takes_flex and (self._plain or how.sinks is not None):  # torch's fused one knows no sinks
            return plain_attention(query, key, value, how, self.pieces)
        key, value = _repeated(query, key, value)
        if takes_flex:
            return self.flexible(query, key, value, how, _compiled_flex())
        query_of, key_of, value_of = (self._by_tree(each) for each in (query, key, value))
        given = zip(self.trees, query_of, key_of, value_of, strict=False)
        found = [fused_attention(tree, q, k, v, how) for tree, q, k, v in given]
        return joined([*found, value_of[-1]])  # of filler, all alike, attention makes what it is

    def _by_tree(self, values: Tensor) -> list[Tensor]:
        """(1, heads, T, D) -> the tokens of each tree, and last the filler."""
        return list(values.split([*(tree.tokens for tree in self.trees), self._filler], dim=2))

    @cached_property
    def spans(self) -> Spans:
        """For all layers: a tree's first text has queries for what it shares, too, each has all its keys."""
        texts = self._pack.rows()
        keys = np.concatenate([*texts, len(self._pack.ids) + np.arange(self._filler)])
        own = [piece.own.stop - piece.own.start for piece in self.pieces]
        own, whole = [*own, self._filler], [*map(len, texts), self._filler]
        is_alone = all(len(tree.own) == 1 for tree in self.trees)
        return spans_of(own, whole, None if is_alone else keys, self._device)

    @cached_property
    def blocks(self) -> BlockMask:
        """Which blocks of tokens see which, for all layers."""
        whose = _whose(self.trees, self._filler)
        tree_T, own_T = (on_device(each, self._device) for each in whose)

        def sees(_batch: Tensor, _head: Tensor, one: Tensor, other: Tensor) -> Tensor:
            shared_or_own = (own_T[other] < 0) | (own_T[other] == own_T[one])
            return (other <= one) & (tree_T[other] == tree_T[one]) & shared_or_own

        return create_block_mask(sees, None, None, len(tree_T), len(tree_T), device=self._device)

    def flexible(
        self, query: Tensor, key: Tensor, value: Tensor, how: How, flex: Callable[..., Any]
    ) -> Tensor:
        """The same by `flex`, torch's FlexAttention or what was compiled of it, all trees at once; it knows
        no dropout."""
        found: Tensor
        found, seen = flex(
            query, key, value, block_mask=self.blocks, scale=how.scale, return_aux=AuxRequest(lse=True)
        )
        if how.sinks is None:
            return found
        # exp(lse) is the sum that the softmax divides by, to which the sink adds exp(sink)
        share: Tensor = (seen.lse - how.sinks[:, None]).sigmoid()
        return found * share[..., None].to(found.dtype)


def _whose(trees: Sequence[Tree], filler: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of each token of a pack its tree, one of its own for what fills it up, and which of its texts it is of
    alone, -1 if shared: (T,) both."""
    tree_T = np.repeat(np.arange(len(trees) + 1), [*(tree.tokens for tree in trees), filler])
    parts = [np.repeat(np.arange(-1, len(tree.own)), [tree.shared, *tree.own]) for tree in trees]
    return tree_T, np.concatenate([*parts, np.full(filler, -1)])


@cache
def _compiled_flex() -> Callable[..., Any]:
    """FlexAttention as one kernel for packs of every size; uncompiled it lays out all scores."""
    return torch.compile(flex_attention, dynamic=True)


class _Group(NamedTuple):
    """B texts of like length, laid out as (B, L) for their attention alone."""

    source: Tensor  # (B * L,) where in the row each of their tokens stands; of padding, any
    places: Tensor  # of their tokens among the B * L
    longest: int  # L
    seen: Tensor  # (B, 1, 1, L) added to the scores: 0, or minus infinity at padding


class RowLayout:
    """Where texts stand side by side, then `filler` tokens of none; a token sees its text, both ways.

    They are padded to those of like length for their attention only. `groups` has the texts of each such
    batch, in the order of the row. Where `plain`, attention is matrix products and a softmax, else torch's
    fused one.
    """

    causal = False

    def __init__(
        self, groups: Sequence[NDArray[np.int64]], filler: int, device: torch.device, *, plain: bool
    ) -> None:
        self._filler = filler
        self._plain = plain
        self._lengths = groups
        self._device = device

    @cached_property
    def spans(self) -> Spans:
        """For all layers."""
        lengths = [*np.concatenate(self._lengths).tolist(), self._filler]
        return spans_of(lengths, lengths, None, self._device)

    @cached_property
    def firsts(self) -> Tensor:
        """Where each text's first token stands, (S,), in the order of the row."""
        length_S = np.concatenate(self._lengths)
        return on_device(np.cumsum(length_S) - length_S, self._device)

    @cached_property
    def _groups(self) -> list[_Group]:
        found, start = [], 0
        for length_B in self._lengths:
            found.append(_group(length_B, start, self._device))
            start += int(length_B.sum())
        return found

    def attend(self, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
        """As `Layout` has it.

        Raises:
            ValueError: sinks, which no encoder has.
        """
        if how.sinks is not None:
            raise ValueError("attention in rows: got sinks, which it does not do.")
        _, heads, tokens, size = query.shape
        key, value = _repeated(query, key, value)
        flat = [each.transpose(1, 2).reshape(tokens, heads * size) for each in (query, key, value)]
        found = []
        for source, places, longest, seen in self._groups:
            shape = (len(seen), longest, heads, size)
            q, k, v = (each.index_select(0, source).view(shape).transpose(1, 2) for each in flat)
            seen = seen.to(q.dtype)
            if self._plain:
                weight = (q * (size**-0.5 if how.scale is None else how.scale) @ k.mT + seen).softmax(-1)
                out = drop(weight.to(v.dtype), how.dropout) @ v
            else:
                out = scaled_dot_product_attention(q, k, v, seen, dropout_p=how.dropout, scale=how.scale)
            found.append(out.transpose(1, 2).reshape(len(source), heads * size).index_select(0, places))
        whole = pad_right(torch.cat(found), (0, 0, 0, self._filler))
        return whole.view(1, tokens, heads, size).transpose(1, 2)


def _group(length_B: NDArray[np.int64], start: int, device: torch.device) -> _Group:
    """Texts that stand in the row from `start` on, one after the other."""
    longest = int(length_B.max())
    longest += -longest % ROUND_GROUP
    column_L = np.arange(longest)
    is_token_BL = column_L < length_B[:, None]
    begin_B = start + np.cumsum(length_B) - length_B
    source_BL = np.where(is_token_BL, begin_B[:, None] + column_L, begin_B[:, None])
    seen_BL = np.where(is_token_BL, 0.0, -np.inf).astype(np.float32)
    return _Group(
        on_device(source_BL.ravel(), device),
        on_device(np.flatnonzero(is_token_BL), device),
        longest,
        on_device(seen_BL, device)[:, None, None],
    )


@torch.compiler.disable  # type: ignore[untyped-decorator]  # what surrounds it is compiled once for all
def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout | None = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What each layer calls: (1, heads, T, D) -> (1, T, heads, D), each text by itself; nothing is masked
    but by the layout."""
    if unknown := [name for name in NOT_DONE if kwargs.get(name) is not None]:
        raise ValueError(f"attention in packs: got {', '.join(unknown)}, which it does not do.")
    if layout is None and s_aux is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    how = How(scaling, dropout, s_aux)
    if layout is None:
        found = _masked(query, *_repeated(query, key, value), attention_mask, how)
        return found.transpose(1, 2).contiguous(), None
    # Autocast leaves them in float32 after rotary positions: cast once, not in each use
    query, key = query.to(value.dtype), key.to(value.dtype)
    if takes_flash(query, value, how):
        found = flash(query, key, value, layout.spans, how, causal=layout.causal)
    else:
        found = layout.attend(query, key, value, how)
    return found.transpose(1, 2).contiguous(), None


def _repeated(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values once for each head of queries."""
    groups = query.shape[1] // key.shape[1]
    return repeat_kv(key, groups), repeat_kv(value, groups)


def _masked(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, how: How) -> Tensor:
    """Attention with sinks in padded texts, (B, heads, L, D); where nothing says what is `seen`, what stands
    before a token, and itself."""
    asked, known = query.shape[2], key.shape[2]
    if seen is None:
        seen = torch.ones(asked, known, dtype=torch.bool, device=query.device).tril(known - asked)
    score = query * (query.shape[3] ** -0.5 if how.scale is None else how.scale) @ key.mT
    score = score.masked_fill(~seen, -torch.inf)
    return drop(_shares(score, how.sinks).to(value.dtype), how.dropout) @ value


def _shares(score: Tensor, sinks: Tensor | None) -> Tensor:
    """Softmax of the scores (B, heads, queries, keys), whose sum is below 1 where a sink takes its share."""
    if sinks is None:
        return score.softmax(-1)
    sink = sinks.to(score.dtype).view(1, -1, 1, 1).expand(*score.shape[:3], 1)
    return torch.cat([score, sink], -1).softmax(-1)[..., :-1]


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
