"""Attention in packs by torch's fused one, a tree at a time."""

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from outweigh.data.packs import Tree
from outweigh.models.flash import How

MERGED_FROM = 4
"""Texts of a tree: from there on it is as fast to merge what is shared with their own or faster."""


def fused_attention(tree: Tree, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
    """Of a tree's tokens to what their text has before them, and to themselves: (1, heads, T, D) each."""
    merges = (
        query.device.type == "cpu"
        and not (how.dropout or torch.is_grad_enabled())
        and query.shape[3] == value.shape[3]
        and len(tree.own) >= MERGED_FROM
    )
    return (_merged if merges else _in_turn)(tree, query, key, value, how)


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
    return torch.cat(found, dim=2)


def _merged(tree: Tree, query: Tensor, key: Tensor, value: Tensor, how: How) -> Tensor:
    """All texts at once to what they share, each to its own, both together by their sums of the softmax: no
    key is laid out twice and none is masked. It has no gradient."""
    sizes = [tree.shared, *tree.own]
    (q, k, v), *own = zip(*(each.split(sizes, dim=2) for each in (query, key, value)), strict=True)
    head = scaled_dot_product_attention(q, k, v, is_causal=True, scale=how.scale)
    attend = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    to_shared, sum_shared = attend(query[:, :, tree.shared :], k, v, scale=how.scale)
    each = [attend(*given, is_causal=True, scale=how.scale) for given in own]
    to_own, sum_own = (torch.cat(found, dim=2) for found in zip(*each, strict=True))
    share = (sum_own - sum_shared).sigmoid()[..., None].to(to_own.dtype)
    return torch.cat([head, torch.lerp(to_shared, to_own, share)], dim=2)
