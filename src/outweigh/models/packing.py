"""How a model is given texts, and by which attention: in rows of many, if that gives what padded texts do."""

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from outweigh.data.packs import LEAST_SHARED
from outweigh.models.attention import PACKED
from outweigh.models.batches import Forward, Packing, forwards, order_back, run_forward
from outweigh.models.elementwise import cast_early
from outweigh.models.flash import flash_sizes
from outweigh.models.layers import quicken
from outweigh.models.precision import has_amx
from outweigh.models.rows import Rows, Trees

logger = logging.getLogger(__name__)

EAGER_TOKENS = 1024
"""Longest texts whose L x L matrices stay small: 25 MB a layer at 512 tokens and 12 heads."""
STRETCHED = ("dynamic", "longrope")
"""Rotary positions that change for a whole row where one text in it is long."""
WINDOWS = ("sliding_window", "attention_chunk_size")
"""What architectures call the number of tokens that a layer looks back over."""
BEGINNING = 2 * LEAST_SHARED
"""Tokens that two of the texts have in common by which packs are tried."""
FAILURES = (AssertionError, AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError)
"""What architectures raise that do not know packs, or want more of a text than tokens: an EOS at its end."""
TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}
"""Of the features' largest; of half precision 5e-2. A text that saw another's tokens is off by far more."""

Look = Callable[[Forward], tuple[Tensor, bool]]
"""What is read of each text of a pass, (S, H), and whether a text is read as a whole, not every token."""


def takes_packs(
    model: Any, layer: nn.Module, max_tokens: int, dtype: torch.dtype | None = None
) -> Packing | None:
    """Packs, where texts of up to `max_tokens` go through the model in them: each token sees all that stands
    before it, nothing else, and packed texts were tried and gave `layer`, the last one, what padded ones do.
    Of an encoder rows, tried in the same way, where flash attention makes them pay.

    The model then attends by `PACKED`; else it is as it was, which is said of a model that was tried. `dtype`
    is what autocast computes products in.
    """
    _prepare(model, model.device, dtype)
    trees, look = _scored(model.device, dtype), partial(_of_layer, model, layer)
    rows = partial(_rows, model, layer, trees.plain) if _takes_flash(model.device, dtype) else None
    return _packing(model, look, max_tokens, trees, rows)


def backbone_packs(model: Any, max_tokens: int, dtype: torch.dtype | None = None) -> Packing | None:
    """As `takes_packs`, of a model without a head, whose last hidden states are read."""
    _prepare(model, model.device, dtype)
    return _packing(model, partial(_of_backbone, model), max_tokens, _scored(model.device, dtype))


def choose_attention(
    model: Any,
    layer: nn.Module,
    device: torch.device,
    dtype: torch.dtype | None,
    max_tokens: int,
    *,
    packed: bool = True,
) -> Packing | None:
    """How texts go through the model in training, None for padded; sets the attention that is fastest.

    A causal model takes packs where it can, an encoder rows, but on a GPU in full precision, where flash
    attention, which rows pay by, is not to be had.
    A CPU in bfloat16 takes the plain matrix form, but for long texts, whose scores the backward pass keeps:
    torch's fused attention is slow there, half of a training step (bench/attention.py). The same function is
    computed, with other rounding. No packs at all where not `packed`.
    """
    _prepare(model, device, dtype)
    trees = _learnt(device, dtype) if max_tokens <= EAGER_TOKENS else Trees()
    pays = device.type == "cpu" or _takes_flash(device, dtype)
    rows = partial(_rows, model, layer, trees.plain) if pays else None
    packs = _packing(model, partial(_of_layer, model, layer), max_tokens, trees, rows) if packed else None
    if packs is None and trees.plain:
        model.set_attn_implementation("eager")
    return packs


def _prepare(model: nn.Module, device: torch.device, dtype: torch.dtype | None) -> None:
    """Nothing; from here on the model, and torch in this process, is as fast as it can be on its device.

    On a GPU attention that torch fuses is not cuDNN's: that prepares itself for each new shape, in 0.13 to
    0.16 s on an H200, and of padded texts nearly each batch has one. For good, as a backward pass with
    checkpointing, too, has to choose what the forward pass chose.
    """
    if device.type == "cuda":
        torch.backends.cuda.enable_cudnn_sdp(False)
    if device.type == "cpu" and dtype is torch.bfloat16:
        cast_early(model)


def _takes_flash(device: torch.device, dtype: torch.dtype | None) -> bool:
    """Whether attention can be flash attention, by which texts of unlike lengths in a row cost no more."""
    return dtype is torch.bfloat16 and bool(flash_sizes(device))


def _learnt(device: torch.device, dtype: torch.dtype | None) -> Trees:
    """Packs to learn from, attended in the way that is fastest with its backward pass (bench/packs.py)."""
    return Trees(plain=device.type == "cpu" and dtype is torch.bfloat16)


def _scored(device: torch.device, dtype: torch.dtype | None) -> Trees:
    """Packs to score: with AMX torch's fused attention is faster forwards, without it the plain one is
    (bench/scoring.py)."""
    return Trees() if has_amx(device) else _learnt(device, dtype)


def _packing(
    model: Any, look: Look, max_tokens: int, trees: Trees, rows: Callable[[], Rows] | None = None
) -> Packing | None:
    """`trees` where each token is read, `rows` where a text is as a whole, if one sees in them what one sees
    in padded texts; None where not, with attention as it was."""
    before, training = model.config._attn_implementation, model.training
    model.eval()
    try:
        padded, is_encoder = _seen(model, look, None)
        if is_encoder and rows is None:
            return None
        packs = rows() if is_encoder and rows is not None else trees
        why = _refusal(model, look, max_tokens, packs, padded)
    except FAILURES as error:
        why = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
    finally:
        model.train(training)
    if why is None:
        return packs
    model.set_attn_implementation(before)
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model  # where there are adapters
    name = type(inner).__name__
    logger.warning("%s: takes no packs, %s. Padded texts are slower and give the same.", name, why)
    return None


def _refusal(model: Any, look: Look, max_tokens: int, packs: Packing, padded: Tensor) -> str | None:
    """Why the model, whose attention is another afterwards, does not take packs; None where it does."""
    config = model.config.get_text_config()
    windows = [size for name in WINDOWS if (size := getattr(config, name, None)) is not None]
    if min(windows, default=max_tokens) < max_tokens:
        return f"a layer looks back over fewer than {max_tokens} tokens"
    if (longest := _unstretched(config)) is not None and longest < max_tokens:
        return f"its rotary positions are others beside a text of over {longest} tokens"
    model.set_attn_implementation(PACKED)
    quicken(model)
    packed, _ = _seen(model, look, packs)
    same = packed.shape == padded.shape and _same(packed, padded, model.dtype)
    return None if same else "it makes something else of them"


def _unstretched(config: Any) -> int | None:
    """Tokens up to which rotary positions are the same whatever else stands in a row; None where they always
    are."""
    rotary = getattr(config, "rope_parameters", None) or {}
    kinds = [rotary, *(each for each in rotary.values() if isinstance(each, dict))]  # one a kind of layer
    limits = [
        each.get("original_max_position_embeddings")
        or getattr(config, "original_max_position_embeddings", None)
        or config.max_position_embeddings
        for each in kinds
        if each.get("rope_type") in STRETCHED
    ]
    return min(limits, default=None)


def _rows(model: nn.Module, layer: nn.Module, plain: bool) -> Rows:
    """Rows for an encoder as most are built: a pooler, or else the head around its last layer, reads a text's
    first token, and where padding has a position of its own, all others come after it."""
    modules = dict(model.named_modules())
    poolers = [module for name, module in modules.items() if name.endswith("pooler")]
    head = next(name for name, module in modules.items() if module is layer).rpartition(".")[0]
    padding = [
        module.padding_idx
        for name, module in modules.items()
        if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
    ]
    return Rows(poolers[0] if poolers else modules[head], padding[0] if padding else None, plain)


@torch.no_grad()
def _seen(model: Any, look: Look, packs: Packing | None) -> tuple[Tensor, bool]:
    """What is read of three short texts, two of which begin alike, (3, H), and whether as a whole."""
    draw = torch.Generator().manual_seed(0)
    tokens = model.get_input_embeddings().num_embeddings
    beginning, *ends = (
        torch.randint(tokens, (size,), generator=draw).tolist() for size in (BEGINNING, 5, 3, 7)
    )
    ids = [beginning + ends[0], beginning + ends[1], ends[2]]
    (forward,) = forwards(ids, pad_token=0, device=model.device, max_tokens=None, packs=packs)
    with torch.autocast(model.device.type, enabled=False):  # whose rounding would hide what is looked for
        read, as_a_whole = look(forward)
    return read[order_back([forward.places], model.device)], as_a_whole


def _of_layer(model: nn.Module, layer: nn.Module, forward: Forward) -> tuple[Tensor, bool]:
    some, every = (
        run_forward(model, layer, forward, looks_inside=True, every_token=each) for each in (False, True)
    )
    return torch.cat([some.features(), every.features()], 1), some.read.dim() == 2


def _of_backbone(model: nn.Module, forward: Forward) -> tuple[Tensor, bool]:
    hidden_RLH = model(**forward.inputs).last_hidden_state
    read = hidden_RLH[forward.last]
    if forward.packed:
        return read, False
    one, other = hidden_RLH[:2, :BEGINNING]  # an encoder's tokens see how their texts end
    equal = 1e-5 if model.dtype in TOLERANCE else 2e-2  # in half precision more is rounded
    return read, not torch.allclose(one, other, rtol=0, atol=equal * float(other.abs().max()))


def _same(packed: Tensor, padded: Tensor, dtype: torch.dtype) -> bool:
    apart = (packed - padded).abs().max() / padded.abs().max()
    return bool(apart <= TOLERANCE.get(dtype, 5e-2))
