"""What stands between a layer's products, in fewer passes over memory: on a CPU a tenth of a training step.

Under autocast what comes between layers is float32, and so is all that is made of it until a product casts
it, each for itself: what an RMSNorm gives, and queries and keys, since their positions' sines are. Here both
are of the type in which products are computed.
"""

import re
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

IN_A_LAYER = re.compile(r"\.\d+\.")
"""In a module's name; what the norm after the last layer gives, the reward's layer reads in float32."""
TOLERANCE = 1e-5
"""Of an RMSNorm's largest output; one that computes something else is off by far more."""


def cast_early(model: nn.Module) -> None:
    """Nothing; from here on, under a CPU's autocast, RMSNorms within layers and rotary positions are of its
    type, and all RMSNorms' backward passes are written out. What is not known to be one is as it was.

    Classes are swapped rather than forward methods: a deep copy (peft makes one) keeps them.
    """
    for name, module in model.named_modules():
        if not is_of_transformers(module):
            continue
        if _is_rms_norm(module):
            mix_in(_CastNorm if IN_A_LAYER.search(name) else _Norm, module)
        elif name.endswith("rotary_emb"):
            mix_in(_CastPositions, module)


def mix_in(kind: type, module: nn.Module) -> None:
    """Nothing; from here on the module's class is the same with `kind` before it, by the same name."""
    own: Any = type(module)
    module.__class__ = _mixed(kind, own)


@cache
def _mixed(kind: Any, own: Any) -> type:
    return type(own.__name__, (kind, own), {})


def is_of_transformers(module: nn.Module) -> bool:
    """Whether its class is one of the library's own, whose code is known, and not mixed into yet."""
    return type(module).__module__.startswith("transformers.models.")


class _Norm:
    """Mixed into an RMSNorm's class."""

    casts = False

    def forward(self, hidden: Tensor) -> Tensor:
        dtype = _products_dtype(hidden)
        if dtype is None:
            return super().forward(hidden)  # type: ignore[misc, no-any-return]
        given = dtype if self.casts else hidden.dtype
        return _rms_norm(hidden, self.weight, _epsilon(self), given)  # type: ignore[attr-defined]


class _CastNorm(_Norm):
    casts = True


class _CastPositions:
    """Mixed into the class of what gives cosines and sines of positions."""

    def forward(self, hidden: Tensor, *args: Any, **kwargs: Any) -> Any:
        dtype, found = _products_dtype(hidden), super().forward(hidden, *args, **kwargs)  # type: ignore[misc]
        is_pair = isinstance(found, tuple) and len(found) == 2
        return tuple(each.to(dtype) for each in found) if dtype and is_pair else found


def _products_dtype(hidden: Tensor) -> torch.dtype | None:
    """What autocast casts what is made of `hidden` to; None where it does not, or a compiler fuses it all."""
    if hidden.device.type != "cpu" or hidden.dtype is not torch.float32 or torch.compiler.is_compiling():
        return None
    return torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None


def _epsilon(norm: Any) -> Any:
    """What it adds to the mean square, by the names that architectures have for it; None without."""
    return getattr(norm, "variance_epsilon", getattr(norm, "eps", None))


@torch.no_grad()
def _is_rms_norm(module: nn.Module) -> bool:
    """Whether it computes x / sqrt(mean(x^2) + eps) * weight, by what it makes of some x, small ones too."""
    weights, eps = list(module.parameters(recurse=False)), _epsilon(module)
    if not type(module).__name__.endswith("RMSNorm") or len(weights) != 1 or not isinstance(eps, float):
        return False
    (weight,) = weights
    is_whole = weight.dim() == 1 and weight.numel() > 0 and weight.device.type == "cpu"
    if weight is not getattr(module, "weight", None) or not is_whole or weight.dtype is not torch.float32:
        return False
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 3, len(weight), generator=draw) * torch.tensor([1.0, eps**0.5])[:, None, None]
    with torch.autocast("cpu", enabled=False):
        expected, found = module(x), _rms_norm(x, weight, eps, x.dtype)
    apart, largest = ((expected - found).abs().amax((1, 2)), expected.abs().amax((1, 2)))
    return bool((apart <= TOLERANCE * largest).all())


def _rms_norm(x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight over the last dimension, in `dtype` at its end."""
    found: Tensor = _RMSNorm.apply(x, weight, eps, dtype)  # type: ignore[no-untyped-call]
    return found


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float, dtype: torch.dtype) -> Tensor:
        x_NH = x.flatten(0, -2)
        norm_N1: Tensor = torch.linalg.vector_norm(x_NH, dim=1, keepdim=True)
        scale_N1 = norm_N1.square_().div_(x_NH.shape[1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_NH, weight, scale_N1)
        return (x_NH * scale_N1).mul_(weight).to(dtype).view(x.shape)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """dx = scale (g w - x scale^2 mean(g w x)), and of the weights the sum of g x scale over rows."""
        x_NH, weight, scale_N1 = ctx.saved_tensors
        g_NH = gradient.reshape(x_NH.shape).to(x_NH.dtype)
        both_NH = g_NH * x_NH
        along_N1 = (both_NH @ weight)[:, None] * scale_N1.square() / x_NH.shape[1]
        d_x = (g_NH * weight).addcmul_(x_NH, along_N1, value=-1).mul_(scale_N1)
        return d_x.view(gradient.shape), scale_N1[:, 0] @ both_NH, None, None
