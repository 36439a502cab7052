"""Where the time of a training step goes, and how near its matrix products are to what the machine can do.

    python bench/step_profile.py --pairs 16
    python bench/step_profile.py --pairs 64 --hidden 1792 --layers 24 --tokenizer FOLDER

Forward and backward pass of a Llama of random weights over pairs in packs, as the trainer has them, under
torch's profiler, after one to warm up. Shares are of the time in torch's operations; aten::mm are the matrix
products of the layers, whose rate is set beside that of one product alone, the median of 20, and so is that
of a whole step without the profiler, the median of three, attention's products not counted. On a GPU times
are its own, and `host_seconds` is when a step's last operation has been told to it. Prints JSON.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

import torch
from packs import CPU, feed_forward, random_model, take_step, texts_of
from torch.profiler import ProfilerActivity, profile

from outweigh.models.batches import forwards, token_budget
from outweigh.models.loading import load_tokenizer, reward_layer
from outweigh.models.packing import choose_attention
from outweigh.models.precision import autocast_dtype, default_device

LISTED = 10


def waiting(device: torch.device) -> Callable[[], Any]:
    """What returns once the device has done all that it was told."""
    return torch.cuda.synchronize if device.type == "cuda" else nullcontext


def self_seconds(step: Callable[[], None], device: torch.device) -> dict[str, float]:
    """Of each of torch's operations in a step, on the device."""
    on_gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities) as profiled:
        step()
        waiting(device)()
    told = [each for each in profiled.key_averages() if each.device_type.name == "CPU"]  # not kernels
    return {
        each.key: (each.self_device_time_total if on_gpu else each.self_cpu_time_total) / 1e6 for each in told
    }


def product_rate(dtype: torch.dtype, tokens: int, hidden: int, device: torch.device = CPU) -> float:
    """FLOP/s of the product that a layer's feed-forward part begins with."""
    one = torch.randn(tokens, hidden, dtype=dtype, device=device)
    other = torch.randn(hidden, feed_forward(hidden), dtype=dtype, device=device)
    wait = waiting(device)
    seconds = []
    for _ in range(25):
        wait()
        started = time.perf_counter()
        one @ other
        wait()
        seconds.append(time.perf_counter() - started)
    return 2 * tokens * other.numel() / statistics.median(seconds[5:])


def main() -> None:
    """Prints the shares and the two rates as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh_harmless.train.jsonl.gz"))
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--tokenizer", default="smollm2")
    told = parser.parse_args()
    tokenizer, device = load_tokenizer(told.tokenizer), default_device()
    ids = texts_of(told.data, told.pairs, tokenizer, told.max_tokens)
    with device:
        model = random_model(told.hidden, told.layers, tokenizer)
    layer, dtype, budget = reward_layer(model), autocast_dtype(device), token_budget(device)
    how: dict[str, Any] = {"pad_token": tokenizer.pad_token_id, "device": device, "max_tokens": budget}
    how["packs"] = choose_attention(model, layer, device, dtype, told.max_tokens)

    step = partial(take_step, model, layer, ids, dtype, how)
    step()
    steps, hosts, wait = [], [], waiting(device)
    for _ in range(3):
        wait()
        started = time.perf_counter()
        step()
        hosts.append(time.perf_counter() - started)
        wait()
        steps.append(time.perf_counter() - started)
    wall = statistics.median(steps)
    seconds = self_seconds(step, device)
    whole = sum(seconds.values())
    tokens = sum(each.inputs["input_ids"].numel() for each in forwards(ids, **how))
    weights = sum(each.numel() for name, each in model.named_parameters() if "embed" not in name)
    best = product_rate(dtype or torch.float32, budget, told.hidden, device)
    largest = sorted(seconds, key=lambda name: -seconds[name])[:LISTED]
    found = {
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if device.type == "cuda" else device.type,
        "dtype": str(dtype or torch.float32),
        "tokens": tokens,
        "seconds": round(wall, 3),
        "host_seconds": round(statistics.median(hosts), 3),
        "operations_seconds": round(whole, 3),
        "share": {name: round(seconds[name] / whole, 3) for name in largest},
        "products_gflop_per_s": round(6 * weights * tokens / seconds["aten::mm"] / 1e9),
        "one_product_gflop_per_s": round(best / 1e9),
        "whole_step_of_that": round(6 * weights * tokens / wall / best, 3),
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
