"""Whether a model computes the same in packs as on padded texts: found by trying."""

import logging
from typing import Any

import torch
from torch import Tensor, nn

from outweigh.data.packs import LEAST_SHARED
from outweigh.models.attention import PACKED
from outweigh.models.batches import forwards, order_back, run_forward

logger = logging.getLogger(__name__)

WINDOWS = ("sliding_window", "attention_chunk_size")
"""What architectures call the number of tokens that a layer looks back over."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of the features' largest; of half precision 5e-2. A text that saw another's tokens is off by far more."""

TRIED_IN_VAIN = (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError)
"""What architectures raise when they are given what they do not know."""


def takes_packs(model: Any, layer: nn.Module, max_tokens: int) -> bool:
    """True where texts of up to `max_tokens` go through the model in packs: each token sees all that stands
    before it, nothing else, and packed texts were tried and gave `layer`, the last one, what padded ones do.

    The model then attends by `PACKED`; else it is as it was, which is said of a model that reads every token.
    """
    config, before = model.config.get_text_config(), model.config._attn_implementation
    training = model.training
    model.eval()
    try:
        padded = _seen(model, layer, packs=False)
        if padded is None:
            return False  # an encoder: its reward is of the whole text
        windows = [size for name in WINDOWS if (size := getattr(config, name, None)) is not None]
        if min(windows, default=max_tokens) >= max_tokens:
            model.set_attn_implementation(PACKED)
            packed = _seen(model, layer, packs=True)
            if packed is not None and _same(packed, padded, model.dtype):
                return True
    except TRIED_IN_VAIN as error:
        logger.debug("%s: in a pack it said: %s", type(model).__name__, error)
    finally:
        model.train(training)
    model.set_attn_implementation(before)
    logger.warning("%s: its texts are padded, it does not take packs.", type(model).__name__)
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
    (forward,) = forwards(ids, pad_token=0, device=model.device, max_tokens=100, packs=packs)
    outcome = run_forward(model, layer, forward, looks_inside=True)
    if outcome.read.dim() < 3:
        return None
    return outcome.features()[order_back([forward.places], model.device)]


def _same(packed: Tensor, padded: Tensor, dtype: torch.dtype) -> bool:
    apart = (packed - padded).abs().max() / padded.abs().max()
    return bool(apart <= TOLERANCE.get(dtype, 5e-2))
