"""Seconds of a training step in packs, in which each prompt stands once, and on padded texts of like length.

    python bench/packs.py --pairs 8 --steps 4 --repeats 5
    python bench/packs.py --backbone minilm --pairs 16 --max-tokens 256

Pairs of a file of ours, bf16 autocast where the machine has it, the same pairs a step, interleaved repeats,
medians. Without a backbone the model is a Llama of random weights: speed does not depend on them. An encoder
has its texts side by side in a row, each whole.
"""

import argparse
import json
import statistics
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSequenceClassification, LlamaConfig

from outweigh.data.pairs import read_pairs
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import encode, truncate
from outweigh.models.batches import CPU_TOKENS, Packing, forwards, read_texts
from outweigh.models.loading import load_classifier, load_tokenizer, reward_layer
from outweigh.models.packing import choose_attention
from outweigh.models.precision import autocast_dtype
from outweigh.models.rows import Rows, Trees
from outweigh.objectives.pairwise import pairwise_loss

CPU = torch.device("cpu")
WAYS = ("padded, fused attention", "padded, plain attention", "packs, fused attention", "packs")


def texts_of(data: Path, pairs: int, tokenizer: Any, max_tokens: int) -> list[list[int]]:
    """Token ids of so many pairs spread over the file, chosen and rejected in turn."""
    whole = read_pairs(data)
    some = whole.select(range(0, len(whole), len(whole) // pairs)[:pairs])
    texts = [(pair.prompt, side) for pair in some for side in (pair.chosen, pair.rejected)]
    encoded = encode(texts, Renderer(tokenizer, "auto"))
    return [truncate(text, max_tokens).ids for text in encoded]


def feed_forward(hidden: int) -> int:
    """Width of the feed-forward part, 8 / 3 of the layer's, rounded up to 64: of odd sizes a GPU's products
    take several times as long."""
    return -(-hidden * 8 // 3 // 64) * 64


def random_model(hidden: int, layers: int, tokenizer: Any) -> Any:
    """A Llama with a scalar head."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=hidden, intermediate_size=feed_forward(hidden),
        num_hidden_layers=layers, num_attention_heads=hidden // 64, num_key_value_heads=hidden // 64,
        pad_token_id=tokenizer.pad_token_id, max_position_embeddings=1024,
    )  # fmt: skip
    config.num_labels = 1
    return AutoModelForSequenceClassification.from_config(config)


def packing(
    way: str, model: Any, layer: torch.nn.Module, dtype: torch.dtype | None, max_tokens: int
) -> Packing | None:
    """What the way puts texts into; the model attends as it has it."""
    fused = way.endswith("fused attention")
    if way.startswith("padded"):
        model.set_attn_implementation("sdpa" if fused else "eager")
        return None
    found = choose_attention(model, layer, CPU, dtype, max_tokens)
    return replace(found, plain=False) if fused and isinstance(found, Trees | Rows) else found


def take_step(
    model: Any,
    layer: torch.nn.Module,
    ids: list[list[int]],
    dtype: torch.dtype | None,
    how: dict[str, Any],
) -> None:
    """Nothing; forward and backward pass of pairs, chosen and rejected in turn, with no optimizer."""
    with torch.autocast(how["device"].type, dtype) if dtype else nullcontext():
        reward = read_texts(model, layer, ids, **how).rewards
    pairwise_loss(reward[::2] - reward[1::2]).mean().backward()
    model.zero_grad()


def main() -> None:
    """Prints the medians and the ratios as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh_harmless.train.jsonl.gz"))
    parser.add_argument("--pairs", type=int, default=8, help="pairs a step")
    parser.add_argument("--steps", type=int, default=4, help="steps timed together")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--backbone", help="a bundled model, a folder or a Hub name")
    told = parser.parse_args()
    tokenizer = load_tokenizer(told.backbone or "smollm2")
    ids = texts_of(told.data, told.pairs * told.steps, tokenizer, told.max_tokens)
    steps = [ids[at : at + 2 * told.pairs] for at in range(0, len(ids), 2 * told.pairs)]
    model = (
        load_classifier(told.backbone, tokenizer)
        if told.backbone
        else random_model(told.hidden, told.layers, tokenizer)
    )
    layer, dtype = reward_layer(model), autocast_dtype(CPU)
    how: dict[str, Any] = {"pad_token": tokenizer.pad_token_id, "device": CPU, "max_tokens": CPU_TOKENS}
    tokens = {"texts": sum(map(len, ids))}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for repeat in range(told.repeats + 1):
        for way in WAYS:
            how["packs"] = packing(way, model, layer, dtype, told.max_tokens)
            tokens[way] = sum(
                each.inputs["input_ids"].numel() for step in steps for each in forwards(step, **how)
            )
            started = time.perf_counter()
            for step in steps:
                take_step(model, layer, step, dtype, how)
            if repeat:  # the first warms up
                seconds[way].append(time.perf_counter() - started)
    medians = {way: statistics.median(each) for way, each in seconds.items()}
    rate = {way: round(told.pairs * told.steps / each, 2) for way, each in medians.items()}
    ratio = {way: round(medians[way] / medians["packs"], 2) for way in WAYS}
    print(json.dumps({"tokens": tokens, "seconds": seconds, "pairs a second": rate, "times slower": ratio}))


if __name__ == "__main__":
    main()
