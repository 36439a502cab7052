"""What ten times as many pairs take: seconds and memory of a training and then a scoring, a process a size.

    python bench/growth.py --pairs 1000 10000 100000

The model is a BERT of two layers and random weights, so small that reading, tokenising, batching and writing
weigh as much as they can; texts are words drawn at random. `times` is against the size before; what loading
and saving take whatever the size is in it, too. Prints JSON, a line a size.
"""

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

import torch
from peers import measured
from transformers import BertConfig, BertForSequenceClassification

import outweigh
from outweigh.data.config import TokenConfig
from outweigh.models.loading import load_tokenizer
from outweigh.training.config import TrainConfig


def small_bert(folder: str) -> None:
    """Nothing; a model with MiniLM's tokenizer lies in the folder."""
    torch.manual_seed(0)
    tokenizer = load_tokenizer("minilm")
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=2, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    config.num_labels = 1
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_pairs(path: Path, pairs: int) -> None:
    """So many pairs, no two alike; where one side says tea more often it is chosen."""
    draw = random.Random(0)
    words = ["tea", "soup", "bread", "river", "window", "morning", "paper", "garden", "music", "stone"]
    with path.open("w", encoding="utf-8") as out:
        for row in range(pairs):
            texts = [" ".join(draw.choices(words, k=draw.randint(10, 40))) for _ in range(2)]
            chosen, rejected = sorted(texts, key=lambda text: -text.count("tea"))
            out.write(json.dumps({"prompt": f"Number {row}?", "chosen": chosen, "rejected": rejected}) + "\n")


def one(pairs: int, backbone: str) -> None:
    """Prints what this process takes."""
    with tempfile.TemporaryDirectory() as place:
        data = Path(place) / "pairs.jsonl"
        write_pairs(data, pairs)
        config = TrainConfig(
            backbone=backbone, tokens=TokenConfig(max_tokens=128), validation=0.0, evaluations=1
        )
        seconds = {}
        started = time.perf_counter()
        outweigh.train(data, out=Path(place) / "run", config=config)
        seconds["train"] = time.perf_counter() - started
        started = time.perf_counter()
        outweigh.score(Path(place) / "run/model", data, out=Path(place) / "scored.jsonl")
        seconds["score"] = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
    print(json.dumps(seconds | {"peak_gib": peak}))


def main() -> None:
    """Prints a line for each size."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--one", help=argparse.SUPPRESS)
    told = parser.parse_args()
    if told.one:
        return one(told.pairs[0], told.one)
    before: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        small_bert(folder)
        for pairs in told.pairs:
            found = measured([sys.executable, __file__, f"--one={folder}", "--pairs", str(pairs)])
            line = {"pairs": pairs} | {name: round(value, 2) for name, value in found.items()}
            times = {name: round(found[name] / before[name], 2) for name in before}
            print(json.dumps(line | ({"times": times} if times else {})), flush=True)
            before = found


if __name__ == "__main__":
    main()
