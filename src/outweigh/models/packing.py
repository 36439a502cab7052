"""Which attention a model takes: in packs, where it is found by trying that it computes the same."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from outweigh.data.packs import LEAST_SHARED
from outweigh.models.attention import PACKED
from outweigh.models.batches import forwards, order_back, run_forward

logger = logging.getLogger(__name__)

EAGER_TOKENS = 1024
"""Longest texts whose L x L matrices stay small: 25 MB a layer at 512 tokens and 12 heads."""
WINDOWS = ("sliding_window", "attention_chunk_size")
"""What architectures call the number of tokens that a layer looks back over."""
FAILURES = (AttributeError, IndexError, RuntimeError, TypeError, ValueError)
"""What architectures raise that do not know packs, or want more of a text than tokens: an EOS at its end."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of the features' largest; of half precision 5e-2. A text that saw another's tokens is off by far more."""


def takes_packs(model: Any, layer: nn.Module, max_tokens: int) -> bool:
    """True where texts of up to `max_tokens` go through the model in packs: each token sees all that stands
    before it, nothing else, and packed texts were tried and gave `layer`, the last one, what padded ones do.

    The model then attends by `PACKED`; else it is as it was, which is said of a model that reads every token.
    """
    before, training = model.config._attn_implementation, model.training
    model.eval()
    try:
        why = _refusal(model, layer, max_tokens)
    except FAILURES as error:
        why = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    finally:
        model.train(training)
    if why is None:
        return True
    model.set_attn_implementation(before)
    if why:
        logger.warning("%s: its texts are padded, it does not take packs: %s.", type(model).__name__, why)
    return False


def _refusal(model: Any, layer: nn.Module, max_tokens: int) -> str | None:
    """Why the model, whose attention may be another afterwards, does not take packs; None where it does, and
    nothing to say of an encoder, whose reward is of the whole text."""
    padded = _seen(model, layer, packs=False)
    if padded is None:
        return ""
    config = model.config.get_text_config()
    windows = [size for name in WINDOWS if (size := getattr(config, name, None)) is not None]
    if min(windows, default=max_tokens) < max_tokens:
        return f"a layer looks back over fewer than {max_tokens} tokens"
    model.set_attn_implementation(PACKED)
    packed = _seen(model, layer, packs=True)
    same = packed is not None and _same(packed, padded, model.dtype)
    return None if same else "it makes something else of them"


def choose_attention(
    model: Any, layer: nn.Module, device: torch.device, dtype: torch.dtype | None, max_tokens: int
) -> bool:
    """Whether texts go through the model in packs in training; sets the attention that is fastest.

    Where there are none, a CPU in bfloat16 takes the plain matrix form: torch's fused attention has a slow
    backward pass there, half of a training step (bench/attention.py). The same function is computed, with
    other rounding.
    """
    if takes_packs(model, layer, max_tokens):
        return True
    if device.type == "cpu" and dtype is torch.bfloat16 and max_tokens <= EAGER_TOKENS:
        model.set_attn_implementation("eager")
    return False


@torch.no_grad()
def _seen(model: Any, layer: nn.Module, *, packs: bool) -> Tensor | None:
    """What the layer reads where three short texts end, two of which begin alike, (3, H); None where it reads
    whole texts."""
    draw = torch.Generator().manual_seed(0)
    vocabulary = model.get_input_embeddings().num_embeddings
    beginning, *ends = (
        torch.randint(vocabulary, (size,), generator=draw).tolist() for size in (2 * LEAST_SHARED, 5, 3, 7)
    )
    ids = [beginning + ends[0], beginning + ends[1], ends[2]]
    (forward,) = forwards(ids, pad_token=0, device=model.device, max_tokens=None, packs=packs)
    outcome = run_forward(model, layer, forward, looks_inside=True)
    if outcome.read.dim() < 3:
        return None
    return outcome.features()[order_back([forward.places], model.device)]


def _same(packed: Tensor, padded: Tensor, dtype: torch.dtype) -> bool:
    apart = (packed - padded).abs().max() / padded.abs().max()
    return bool(apart <= TOLERANCE.get(dtype, 5e-2))
