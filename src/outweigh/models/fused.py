"""Attention in packs by torch's fused one, a tree at a time."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from outweigh.data.packs import Tree
from outweigh.models.flash import How

MERGED_FROM = 4
"""Texts of a tree: from there on it is as fast to merge what is shared with their own or faster."""


def fused_attention(tree: Tree, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
    """Of a tree's tokens to what their text has before them, and to themselves: (1, heads, T, D) each."""
    if not merges(tree, query, value, how):
        return _in_turn(tree, query, key, value, how)
    sizes = [tree.shared, *tree.own]
    (q, k, v), *own = zip(*(each.split(sizes, dim=2) for each in (query, key, value)), strict=True)
    head = scaled_dot_product_attention(q, k, v, is_causal=True, scale=how.scale)
    return joined([head, _merged(query[:, :, tree.shared :], k, v, own, how)])


def ends_attention(tree: Tree, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
    """The same of each text's last token alone, (1, heads, texts, D), where `merges` is true."""
    sizes = [tree.shared, *tree.own]
    (k, v), *own = zip(*(each.split(sizes, dim=2) for each in (key, value)), strict=True)
    return _merged(query, k, v, [(q, *each) for q, each in zip(query.split(1, dim=2), own, strict=True)], how)


def merges(tree: Tree, query: Tensor, value: Tensor, how: How) -> bool:
    """Whether its texts' attention to what they share is one, merged with that to their own. It has no
    gradient."""
    return (
        query.device.type == "cpu"
        and not (how.dropout or torch.is_grad_enabled())
        and query.shape[3] == value.shape[3]
        and len(tree.own) >= MERGED_FROM
    )


def _in_turn(tree: Tree, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
    """Text by text: the first one together with what is shared, which the others' own comes after."""
    sizes = [tree.shared + tree.own[0], *tree.own[1:]]
    (q, k, v), *others = zip(*(each.split(sizes, dim=2) for each in (query, key, value)), strict=True)
    found = [scaled_dot_product_attention(q, k, v, None, how.dropout, is_causal=True, scale=how.scale)]
    shared_k, shared_v = k[:, :, : tree.shared], v[:, :, : tree.shared]
    for q, own_k, own_v in others:
        k, v = torch.cat([shared_k, own_k], 2), torch.cat([shared_v, own_v], 2)
        seen = torch.ones(q.shape[2], k.shape[2], dtype=torch.bool, device=q.device).tril(tree.shared)
        found.append(scaled_dot_product_attention(q, k, v, seen, how.dropout, scale=how.scale))
    return joined(found)


def _merged(query: Tensor, key: Tensor, value: Tensor, own: Sequence[tuple[Tensor, ...]], how: How) -> Tensor:
    """All queries to what is shared, each text's to its own, and both together by their sums of the softmax:
    no key is laid out twice and none is masked."""
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    to_shared, sum_shared = attend(query, key, value, scale=how.scale)
    each = [attend(q, k, v, is_causal=q.shape[2] > 1, scale=how.scale) for q, k, v in own]
    to_own, sum_own = joined([out for out, _ in each]), torch.cat([found for _, found in each], dim=2)
    share = (sum_own - sum_shared).sigmoid()[..., None].to(to_own.dtype)
    return torch.lerp(to_shared, to_own, share)


def joined(parts: Sequence[Tensor]) -> Tensor:
    """(1, heads, some, D) one after the other, (1, heads, T, D), in memory (1, T, heads, D)."""
    return torch.cat([part.transpose(1, 2) for part in parts], dim=1).transpose(1, 2)
