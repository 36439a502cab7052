"""Sampling n responses to a prompt, its cache shared, beside transformers' own way, which reads it n times.

    python bench/generation.py --repeats 3

Both draw from one bf16 (or float32) SmolLM2 with the same settings, in turns, four prompts at a time, up to
32 rows; rates are of tokens drawn, ends counted. Prints a JSON line a setting: medians, and the ratio's
smallest and largest.
"""

import argparse
import json
import statistics
import time
from functools import partial

import torch

from outweigh.data.records import Message, Text
from outweigh.generation.config import SamplingConfig
from outweigh.generation.local import LocalPolicy

PROMPTS = 4


def prompts_of(tokens: int) -> list[Text]:
    """Prompts of about so many tokens, of words that are one token each."""
    words = ["river", "stone", "cloud", "bread"]
    return [(Message("user", " ".join([word] * tokens)),) for word in words]


def ours(policy: LocalPolicy, prompts: list[Text]) -> int:
    """Tokens drawn by outweigh."""
    return sum(sample.tokens or 0 for each in policy.samples(prompts, 0) for sample in each)


def theirs(policy: LocalPolicy, prompts: list[Text], n: int) -> int:
    """Tokens drawn by transformers with num_return_sequences, the rows of as many prompts at once."""
    tokenizer = policy.tokenizer
    tokenizer.padding_side = "left"
    drawn = 0
    for start in range(0, len(prompts), policy.batch_prompts):
        texts = [
            policy.asking.renderer.opened(each) for each in prompts[start : start + policy.batch_prompts]
        ]
        batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            said = policy.model.generate(
                **batch.to(policy.device), generation_config=policy.generation, num_return_sequences=n
            )
        new = said[:, batch["input_ids"].shape[1] :]
        ends = torch.isin(new, policy.ends.to(new.device))
        drawn += int(torch.where(ends.any(1), ends.int().argmax(1) + 1, new.shape[1]).sum())
    return drawn


def main() -> None:
    """Times both ways in turns."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--policy", default="smollm2")
    parser.add_argument("--prompt-tokens", type=int, nargs="+", default=[64, 512])
    parser.add_argument("--n", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--new-tokens", type=int, default=48)
    parser.add_argument("--repeats", type=int, default=3)
    told = parser.parse_args()
    for n in told.n:
        policy = LocalPolicy(told.policy, SamplingConfig(n=n, max_new_tokens=told.new_tokens))
        for length in told.prompt_tokens:
            prompts = prompts_of(length)
            ours(policy, prompts[:1])  # the first pass warms up
            ways = {
                "outweigh": partial(ours, policy, prompts),
                "transformers": partial(theirs, policy, prompts, n),
            }
            rates: dict[str, list[float]] = {name: [] for name in ways}
            for _ in range(told.repeats):
                for name, draw in ways.items():
                    started = time.perf_counter()
                    drawn = draw()
                    rates[name].append(drawn / (time.perf_counter() - started))
            ratios = sorted(a / b for a, b in zip(*rates.values(), strict=True))
            print(
                json.dumps(
                    {
                        "prompt_tokens": length,
                        "n": n,
                        "tokens_per_second": {k: round(statistics.median(v), 1) for k, v in rates.items()},
                        "ratio": [
                            round(each, 2) for each in (statistics.median(ratios), ratios[0], ratios[-1])
                        ],
                    }
                ),
                flush=True,
            )


if __name__ == "__main__":
    main()
