"""Layers in packs and rows that compute of the last layer what is read alone; Llama's turn to positions in
few operations, too."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from outweigh.models.attention import RowLayout, TreeLayout
from outweigh.models.elementwise import is_of_transformers, mix_in
from outweigh.models.flash import How

LLAMAS = ("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen3DecoderLayer")
"""Classes of transformers that are one layer: norm, attention with rotary positions, norm, gated MLP. What
they, and those below, make of packs and rows is compared with what they made of padded texts."""
BERTS = ("BertLayer", "RobertaLayer", "XLMRobertaLayer", "CamembertLayer", "ElectraLayer")
"""Classes that are another: attention, then `feed_forward_chunk`, both with sum and norm."""


def quicken(model: nn.Module) -> None:
    """Nothing; from here on the model's layers, if they are of a kind that is known, do in packs on a CPU, or
    in rows, as much as is needed; hooks on modules within them are not all called there. Elsewhere they are
    as they were.

    Classes are swapped rather than forward methods: a deep copy (peft makes one) keeps them.
    """
    for kinds, mixed_in in ((LLAMAS, _PackedLayer), (BERTS, _RowLayer)):
        for module in model.modules():
            if type(module).__name__ in kinds and is_of_transformers(module):
                mix_in(mixed_in, module)


class _RowLayer:
    """Mixed into an encoder layer's class."""

    def forward(self: Any, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """(1, T, H) -> the same; the last layer's is 0 but at texts' first tokens, which alone are read."""
        layout = kwargs.get("layout")
        is_last = _is_last(self.attention.self) and not torch.compiler.is_compiling()
        if not isinstance(layout, RowLayout) or not is_last:
            return super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        attended, _ = self.attention(hidden_states, layout=layout)
        first_1SH = self.feed_forward_chunk(attended.index_select(1, layout.firsts))
        return torch.zeros_like(hidden_states, dtype=first_1SH.dtype).index_copy(1, layout.firsts, first_1SH)


class _PackedLayer:
    """Mixed into a layer's class."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Any:
        """(1, T, H) -> the same; with `ends_alone` a last layer's is 0 but at each text's last token."""
        layout = kwargs.get("layout")
        is_here = hidden_states.device.type == "cpu" and not torch.compiler.is_compiling()
        if not isinstance(layout, TreeLayout) or not is_here:
            return super().forward(hidden_states, *args, **kwargs)  # type: ignore[misc]
        alone = kwargs.get("ends_alone", False) and _is_last(self.self_attn)  # type: ignore[attr-defined]
        return _forward(self, hidden_states, kwargs["position_embeddings"], layout, alone)


def _is_last(attention: Any) -> bool:
    return bool(attention.layer_idx + 1 == attention.config.num_hidden_layers)


def _forward(
    layer: Any, hidden_1TH: Tensor, positions: tuple[Tensor, ...], layout: TreeLayout, ends_alone: bool
) -> Tensor:
    attention, normed_1TH = layer.self_attn, layer.input_layernorm(hidden_1TH)
    kept_1SH, asking_1SH, own_positions = hidden_1TH, normed_1TH, positions
    if ends_alone:
        kept_1SH, asking_1SH = (each.index_select(1, layout.ends) for each in (hidden_1TH, normed_1TH))
        own_positions = tuple(each.index_select(1, layout.ends) for each in positions)
    query = _heads(attention, "q", asking_1SH, own_positions)
    key = _heads(attention, "k", normed_1TH, positions)
    value = _heads(attention, "v", normed_1TH)
    how = How(attention.scaling, attention.attention_dropout if layer.training else 0.0)
    attend = layout.attend_ends if ends_alone else layout.attend
    found = attend(query.to(value.dtype), key.to(value.dtype), value, how)
    kept_1SH = _plus(kept_1SH, attention.o_proj(found.transpose(1, 2).flatten(2)))
    kept_1SH = _plus(kept_1SH, layer.mlp(layer.post_attention_layernorm(kept_1SH)))
    if not ends_alone:
        return kept_1SH
    return torch.zeros_like(hidden_1TH, dtype=kept_1SH.dtype).index_copy(1, layout.ends, kept_1SH)


def _plus(kept: Tensor, more: Tensor) -> Tensor:
    """Their sum; of two types it takes less time to cast first, into memory that the sum takes over."""
    dtype = torch.result_type(kept, more)
    return kept + more if more.dtype is dtype else more.to(dtype).add_(kept)


def _heads(attention: Any, which: str, hidden: Tensor, positions: tuple[Tensor, ...] | None = None) -> Tensor:
    """Queries, keys or values, (1, heads, T, D), of the hidden (1, T, H), turned to their positions."""
    found = getattr(attention, f"{which}_proj")(hidden).unflatten(2, (-1, attention.head_dim))
    if positions is not None:
        norm = getattr(attention, f"{which}_norm", None)
        found = _rotated(found if norm is None else norm(found), *positions)
    heads: Tensor = found.transpose(1, 2)
    return heads


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x cos + (-x2, x1) sin of (1, T, heads, D), whose halves are x1 and x2; of x's type or positions'."""
    dtype = torch.result_type(x, cos)
    cosine, sine = (each[:, :, None].to(dtype) for each in (cos, sin))
    found: Tensor = _Rotated.apply(x.to(dtype), cosine, sine)  # type: ignore[no-untyped-call]
    return found


class _Rotated(torch.autograd.Function):
    """Its backward pass turns back."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return _turned(x, cos, sin, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        return _turned(gradient, cos, sin, -1), None, None


def _turned(x: Tensor, cos: Tensor, sin: Tensor, way: int) -> Tensor:
    half = x.shape[-1] // 2
    found = x * cos
    found[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-way)
    found[..., half:].addcmul_(x[..., :half], sin[..., half:], value=way)
    return found
