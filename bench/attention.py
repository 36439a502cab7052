"""Seconds of a training step on a CPU with torch's fused attention and with the plain matrix form.

    python bench/attention.py --backbone minilm --repeats 5

32 texts of random tokens a step, log-normal lengths around 80, bf16 autocast, interleaved repeats, medians.
"""

import argparse
import json
import statistics
import time

import numpy as np
import torch

from outweigh.models.batches import CPU_TOKENS, read_texts
from outweigh.models.loading import load_classifier, load_tokenizer, reward_layer
from outweigh.objectives.pairwise import pairwise_loss


def main() -> None:
    """Prints the medians and their spread as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backbone", default="minilm")
    parser.add_argument("--repeats", type=int, default=5)
    told = parser.parse_args()
    tokenizer = load_tokenizer(told.backbone)
    rng = np.random.default_rng(0)
    lengths = np.clip(rng.lognormal(4.4, 0.5, 32), 20, 256).astype(int)
    ids = [rng.integers(1000, 30000, length).tolist() for length in lengths]
    models = {}
    for form in ("sdpa", "eager"):
        models[form] = load_classifier(told.backbone, tokenizer)
        models[form].set_attn_implementation(form)
    seconds: dict[str, list[float]] = {form: [] for form in models}
    for repeat in range(told.repeats + 1):
        for form, model in models.items():
            started = time.perf_counter()
            with torch.autocast("cpu", dtype=torch.bfloat16):
                reward = read_texts(
                    model,
                    reward_layer(model),
                    ids,
                    pad_token=0,
                    device=torch.device("cpu"),
                    max_tokens=CPU_TOKENS,
                    packs=None,
                ).rewards
            pairwise_loss(reward[::2] - reward[1::2]).mean().backward()
            model.zero_grad()
            if repeat:  # the first warms up
                seconds[form].append(time.perf_counter() - started)
    medians = {form: round(statistics.median(each), 3) for form, each in seconds.items()}
    ratio = round(medians["sdpa"] / medians["eager"], 2)
    print(json.dumps({"backbone": told.backbone, "seconds": seconds, "medians": medians, "ratio": ratio}))


if __name__ == "__main__":
    main()
