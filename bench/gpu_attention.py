"""On a GPU: milliseconds of each form of attention in packs, of an encoder's texts in rows and padded, and of
what torch's fused attention takes for a shape that it sees first.

    python bench/gpu_attention.py
    python bench/gpu_attention.py --tiny

Forms: flash attention over texts of unlike lengths, as packs have it; the same by torch's varlen_attn, as it
is from torch 2.11 on; FlexAttention; torch's fused attention text by text. `apart` is how far outputs and
gradients of query, key and value are from those text by text in float32, of their norm; `prepared_ms` is what
a layout takes before its first layer: where texts begin, and FlexAttention's blocks. bf16, random inputs,
medians of ten after three. `--tiny` is for a CPU, where only the last form can be learnt by. Prints JSON, a
line a measurement.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from step_profile import waiting
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForSequenceClassification, BertConfig

from outweigh.data.packs import packs_of
from outweigh.models import attention
from outweigh.models.attention import TreeLayout
from outweigh.models.batches import read_texts, token_budget
from outweigh.models.flash import How, flash, spread
from outweigh.models.loading import reward_layer
from outweigh.models.packing import choose_attention
from outweigh.models.plain import ROUND
from outweigh.models.precision import default_device

DEVICE = default_device()
HALF = torch.bfloat16
Form = Callable[[Tensor, Tensor, Tensor], Tensor]
TREES = [(8, 256, 256, 2, 28, 64), (32, 128, 128, 2, 16, 128), (2, 1024, 128, 16, 28, 64)]
"""Trees, tokens shared, tokens of each text's own in the mean, texts a tree, heads, size of a head."""
TINY = [(2, 10, 10, 2, 2, 16)]
NEW_LENGTHS = (200, 233, 301, 347, 411)


def median_ms(work: Callable[[], Any]) -> float:
    """Of ten, after three to warm up."""
    wait, seconds = waiting(DEVICE), []
    for _ in range(13):
        wait()
        started = time.perf_counter()
        work()
        wait()
        seconds.append(time.perf_counter() - started)
    return round(1e3 * statistics.median(seconds[3:]), 3)


def a_layout(trees: int, shared: int, own: int, texts: int) -> tuple[TreeLayout, int, int]:
    """Random trees, the tokens of their row, and those of them that are no filler."""
    rng = np.random.default_rng(0)
    ids = []
    for _ in range(trees):
        prompt = rng.integers(0, 2**30, shared).tolist()
        sizes = rng.integers(own // 2, own * 3 // 2, texts)
        ids += [prompt + rng.integers(0, 2**30, size).tolist() for size in sizes]
    (pack,) = packs_of(ids, 10**9)
    filler = -len(pack.ids) % ROUND
    return TreeLayout(pack, filler, DEVICE, plain=False), len(pack.ids) + filler, len(pack.ids)


def text_by_text(layout: TreeLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Without FlexAttention."""
    with patch.object(attention, "HALF", ()):
        return layout.attend(query, key, value, How())


def by_varlen(layout: TreeLayout, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """By torch's public function for unlike lengths."""
    found = varlen_attn(*spread(query, key, value, layout.spans), window_size=(-1, 0))
    assert isinstance(found, Tensor)
    return found.transpose(0, 1)[None]


def prepared(tree: list[int], part: str | None) -> None:
    """Nothing; a layout is made, and what its layers share."""
    layout, _, _ = a_layout(tree[0], tree[1], tree[2], tree[3])
    if part is not None:
        getattr(layout, part)


def outcome(form: Form, given: list[Tensor], slope: Tensor, tokens: int) -> list[Tensor]:
    """What it gives and the gradients, float32, of the tokens that are no filler."""
    for each in given:
        each.grad = None
    found = form(given[0], given[1], given[2])[:, :, :tokens]
    (found * slope[:, :, :tokens]).sum().backward()
    return [found.detach().float(), *(each.grad.float() for each in given if each.grad is not None)]


def forms(sizes: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """A line a form."""
    *tree, heads, size = sizes
    layout, row, tokens = a_layout(tree[0], tree[1], tree[2], tree[3])
    drawn = [torch.randn(1, row, heads, size, device=DEVICE).transpose(1, 2) for _ in range(4)]
    whole = [each.requires_grad_() for each in drawn[:3]]
    half = [each.detach().to(HALF).requires_grad_() for each in whole]
    slope = drawn[3].to(HALF)
    reference = outcome(partial(text_by_text, layout), whole, slope.float(), tokens)
    every: dict[str, Form] = {"text by text": partial(text_by_text, layout)}
    if DEVICE.type == "cuda":
        compiled = torch.compile(flex_attention, dynamic=True)
        every |= {
            "flash": lambda q, k, v: flash(q, k, v, layout.spans, How(), causal=True),
            "varlen_attn": partial(by_varlen, layout),
            "FlexAttention": lambda q, k, v: layout.flexible(q, k, v, How(), compiled),
        }
    for name, form in every.items():
        started = time.perf_counter()
        found = outcome(form, half, slope, tokens)
        waiting(DEVICE)()
        first = time.perf_counter() - started
        apart = [float((a - b).norm() / b.norm()) for a, b in zip(found, reference, strict=True)]
        with torch.no_grad():
            forward = median_ms(partial(form, half[0], half[1], half[2]))
        both = median_ms(partial(outcome, form, half, slope, tokens))
        line = {"work": "attention", "trees": tree, "tokens": row, "heads": heads, "head_size": size}
        line |= {"form": name, "first_seconds": round(first, 2), "forward_ms": forward, "both_ms": both}
        yield line | {"apart": [float(f"{each:.1e}") for each in apart]}
    empty = median_ms(partial(prepared, tree, None))
    taken = {part: round(median_ms(partial(prepared, tree, part)) - empty, 2) for part in ("spans", "blocks")}
    yield {"work": "layout", "trees": tree, "prepared_ms": taken}


def encoder(layers: int) -> Iterator[dict[str, Any]]:
    """A line each for rows and padded texts: 64 of log-normal lengths, forward and with the backward pass."""
    config = BertConfig(num_hidden_layers=layers, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    config.num_labels = 1
    torch.manual_seed(0)
    with DEVICE:
        model = AutoModelForSequenceClassification.from_config(config)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(4.8, 0.6, 64), 20, 512).astype(int)
    ids = [rng.integers(1000, 30000, length).tolist() for length in lengths]
    layer = reward_layer(model)
    rows = choose_attention(model, layer, DEVICE, HALF, 512)
    for name, packs, form in (("rows", rows, "outweigh"), ("padded", None, "sdpa")):
        model.set_attn_implementation(form)
        how: dict[str, Any] = {"pad_token": 0, "device": DEVICE, "max_tokens": token_budget(DEVICE)}

        def forward(how: dict[str, Any] = how | {"packs": packs}) -> Tensor:
            with torch.autocast(DEVICE.type, HALF):
                return read_texts(model, layer, ids, **how).rewards

        def both(forward: Callable[[], Tensor] = forward) -> None:
            forward().sum().backward()
            model.zero_grad()

        with torch.no_grad():
            line = {
                "work": "encoder",
                "tokens": int(lengths.sum()),
                "way": name,
                "forward_ms": median_ms(forward),
            }
        yield line | {"both_ms": median_ms(both)}


def new_shapes() -> Iterator[dict[str, Any]]:
    """A line with cuDNN's attention and one without: ms of five shapes, first and again, masked as padded
    texts are."""
    for cudnn in (True, False):
        torch.backends.cuda.enable_cudnn_sdp(cudnn)
        seen: list[list[float]] = [[], []]
        for found in seen:
            for length in NEW_LENGTHS:
                given = [torch.randn(16, 28, length, 64, device=DEVICE, dtype=HALF) for _ in range(3)]
                mask = torch.ones(16, 1, length, length, dtype=torch.bool, device=DEVICE).tril()
                waiting(DEVICE)()
                started = time.perf_counter()
                query, key, value = (each.requires_grad_() for each in given)
                scaled_dot_product_attention(query, key, value, mask).sum().backward()
                waiting(DEVICE)()
                found.append(round(1e3 * (time.perf_counter() - started), 1))
        yield {"work": "new shapes", "cudnn": cudnn, "first_ms": seen[0], "again_ms": seen[1]}
    torch.backends.cuda.enable_cudnn_sdp(True)


def main() -> None:
    """Prints the lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tiny", action="store_true", help="sizes for a CPU")
    told = parser.parse_args()
    machine = {"device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else DEVICE.type}
    for sizes in TINY if told.tiny else TREES:
        for line in forms(sizes):
            print(json.dumps(machine | line), flush=True)
    for line in (*encoder(1 if told.tiny else 12), *([] if told.tiny else new_shapes())):
        print(json.dumps(machine | line), flush=True)


if __name__ == "__main__":
    main()
