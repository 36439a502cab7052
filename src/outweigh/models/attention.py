"""Attention in packs, where a prompt stands once."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from outweigh.data.packs import Pack

PACKED = "outweigh"
"""What transformers knows this attention by. Where a forward brings no `layout` it is torch's fused one."""
NOT_DONE = ("softcap", "s_aux", "position_bias")
"""What some architectures add to attention: capped scores, sinks, biases by distance."""


class Layout:
    """Where the trees of a pack stand, as each layer's attention needs it."""

    def __init__(self, pack: Pack, device: torch.device) -> None:
        self.trees = pack.trees
        # The first text of a tree together with what it shares, then what each other one has of its own
        self.segments = [size for tree in self.trees for size in (tree.shared + tree.own[0], *tree.own[1:])]
        self._device = device
        self._seen: dict[tuple[int, int], Tensor] = {}

    def seen(self, own: int, shared: int) -> Tensor:
        """What each token of a text's own part sees, (own, shared + own): all that is shared, what stands
        before it, and itself."""
        if (own, shared) not in self._seen:
            every = torch.ones(own, shared + own, dtype=torch.bool, device=self._device)
            self._seen[own, shared] = every.tril(shared)
        return self._seen[own, shared]


def packed_inputs(pack: Pack, device: torch.device) -> dict[str, Any]:
    """What a causal model's forward is given for a pack, one row of T tokens."""
    return {
        "input_ids": torch.from_numpy(pack.ids)[None].to(device),
        "position_ids": torch.from_numpy(pack.positions)[None].to(device),
        # A mask of four dimensions is taken as it is: none is made of T x T, and this one is not looked at
        "attention_mask": torch.zeros(1, 1, 1, 1, device=device),
        "use_cache": False,
        "layout": Layout(pack, device),
    }


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
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """What each layer calls: (1, heads, T, D) -> (1, T, heads, D), each text by itself; nothing is masked
    but by the layout."""
    if unknown := [name for name in NOT_DONE if kwargs.get(name) is not None]:
        raise ValueError(f"attention in packs: got {', '.join(unknown)}, which it does not do.")
    if layout is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, dropout=dropout, **kwargs
        )
    groups = query.shape[1] // key.shape[1]
    found = attend(query, repeat_kv(key, groups), repeat_kv(value, groups), layout, scaling, dropout)
    return found.transpose(1, 2).contiguous(), None


def attend(
    query: Tensor, key: Tensor, value: Tensor, layout: Layout, scale: float | None, dropout: float
) -> Tensor:
    """Causal attention within each text of the pack: (1, heads, T, D) each, and so returned.

    A tree's first text is attended at once with what it shares; what each other one has of its own attends
    to the shared keys and to its own. No token is laid out twice but for those keys.
    """
    parts = iter(zip(*(each.split(layout.segments, dim=2) for each in (query, key, value)), strict=True))
    how: dict[str, Any] = {"dropout_p": dropout, "scale": scale}
    found = []
    for tree in layout.trees:
        q, k, v = next(parts)
        found.append(scaled_dot_product_attention(q, k, v, is_causal=True, **how))
        shared_k, shared_v = k[:, :, : tree.shared], v[:, :, : tree.shared]
        for own in tree.own[1:]:
            q, own_k, own_v = next(parts)
            k, v = torch.cat([shared_k, own_k], 2), torch.cat([shared_v, own_v], 2)
            seen = layout.seen(own, tree.shared)
            found.append(scaled_dot_product_attention(q, k, v, seen, **how))
    return torch.cat(found, dim=2)


AttentionInterface.register(PACKED, packed_attention)
AttentionMaskInterface.register(PACKED, sdpa_mask)
