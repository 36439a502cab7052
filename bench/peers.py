"""Pairs a second and memory of our trainings and of TRL's, on the same pairs, the same token ids and model.

    python bench/peers.py --work reward --pairs 128 --batch 8 --repeats 5
    python bench/peers.py --work dpo --backbone smollm2
    python bench/peers.py --shape 256/64

Each training is a process of its own, or with `--together` all are one's, and a first round, in which kernels
are compiled, does not count. The ways take turns. Timed are the optimizer steps, the first with
its warming up among them, and what DPO asks of its reference; not loading, tokenising, evaluating, saving.
Batches are drawn at random but for TRL's best settings, which group texts of like length. Without a backbone
the model is a Llama of random weights, and with `--shape` texts are random words, so many tokens of prompt /
of each response: speed depends on neither. `tokens_a_second` are those of both texts of each pair as they
were given, whatever a way makes of them; memory is the GPU's where there is one. Prints JSON.
"""

import argparse
import gc
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import datasets
import torch
from packs import feed_forward
from trl.trainer.dpo_config import DPOConfig as PeerDPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.reward_config import RewardConfig
from trl.trainer.reward_trainer import RewardTrainer

from outweigh.align.config import DPOConfig
from outweigh.align.dpo import fit_policy
from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import encode, truncate
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.policy import load_policy
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

OURS = "outweigh"
BEST: dict[str, Any] = {
    "gradient_checkpointing": False,
    "train_sampling_strategy": "group_by_length",
    "remove_unused_columns": False,  # the lengths would go, too
}
PEERS: dict[str, dict[str, dict[str, Any]]] = {
    "reward": {"TRL, defaults": {}, "TRL, best settings": BEST},
    "dpo": {"TRL, defaults": {}, "TRL, best settings": BEST | {"precompute_ref_log_probs": True}},
}


class TokenizedDPOTrainer(DPOTrainer):
    """TRL's, which takes texts alone, given token ids; and what its reference took before training."""

    reference_seconds = 0.0

    def _prepare_dataset(self, dataset: datasets.Dataset, *args: Any) -> datasets.Dataset:
        return dataset

    def _precompute_ref_logps(self, *args: Any) -> datasets.Dataset:
        started = time.perf_counter()
        found = super()._precompute_ref_logps(*args)
        self.reference_seconds += time.perf_counter() - started
        return found


def some_pairs(data: Path, count: int) -> PairSet:
    """So many pairs, spread over the file."""
    whole = read_pairs(data)
    return whole.select(range(0, len(whole), len(whole) // count)[:count])


def ours(told: argparse.Namespace, backbone: str) -> float:
    """Seconds of our training."""
    pairs = some_pairs(told.data, told.pairs)
    shared: dict[str, Any] = {
        "backbone": backbone,
        "batch_pairs": told.batch,
        "tokens": TokenConfig(max_tokens=told.max_tokens),
        "evaluations": 1,
        "validation": 0.0,
        "trainer": {"save_strategy": "no"},
    }
    with tempfile.TemporaryDirectory() as place:
        if told.work == "dpo":
            seconds = fit_policy(pairs, DPOConfig(**shared), Path(place)).results["seconds"]
            return float(seconds["training"] + seconds["reference"])
        found = fit(pairs, TrainConfig(**shared), Path(place), guarded=False)
        return float(found.results["seconds"]["training"])


def theirs(told: argparse.Namespace, backbone: str, settings: dict[str, Any]) -> float:
    """Seconds of TRL's training on the token ids that we train on."""
    tokenizer = load_tokenizer(backbone)
    renderer = Renderer(tokenizer, "auto")
    rows = []
    for pair in some_pairs(told.data, told.pairs):
        texts = encode([(pair.prompt, pair.chosen), (pair.prompt, pair.rejected)], renderer)
        chosen, rejected = (truncate(text, told.max_tokens) for text in texts)
        row = {"length": len(chosen.ids) + len(rejected.ids)}
        if told.work == "dpo":
            start = min(chosen.start, rejected.start)
            rows.append(
                row
                | {"prompt_ids": chosen.ids[:start], "chosen_ids": chosen.ids[start:]}
                | {"rejected_ids": rejected.ids[start:]}
            )
        else:
            rows.append(row | {"chosen_ids": chosen.ids, "rejected_ids": rejected.ids})
    device = default_device()
    with tempfile.TemporaryDirectory() as place:
        arguments: dict[str, Any] = {
            "output_dir": place,
            "per_device_train_batch_size": told.batch,
            "num_train_epochs": 1,
            "max_length": told.max_tokens,
            "bf16": autocast_dtype(device) is torch.bfloat16,
            "use_cpu": device.type == "cpu",
            "save_strategy": "no",
            "report_to": [],
            "disable_tqdm": True,
        }
        given = {"processing_class": tokenizer, "train_dataset": datasets.Dataset.from_list(rows)}
        trainer: Any
        if told.work == "dpo":
            args = PeerDPOConfig(**arguments | settings)
            trainer = TokenizedDPOTrainer(load_policy(backbone), args=args, **given)
        else:
            model = load_classifier(backbone, tokenizer)
            trainer = RewardTrainer(model, args=RewardConfig(**arguments | settings), **given)
        started = time.perf_counter()
        trainer.train()
        return time.perf_counter() - started + getattr(trainer, "reference_seconds", 0.0)


def random_llama(told: argparse.Namespace, folder: str) -> None:
    """Nothing; a causal model with random weights and SmolLM2's tokenizer lies in the folder."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = load_tokenizer(told.tokenizer)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=told.hidden, intermediate_size=feed_forward(told.hidden),
        num_hidden_layers=told.layers, num_attention_heads=told.hidden // 64,
        num_key_value_heads=told.hidden // 64, max_position_embeddings=2048,
    )  # fmt: skip
    torch.manual_seed(0)
    with default_device():
        model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def whole_words(tokenizer: Any) -> list[int]:
    """Tokens that are a space and letters, and are read again as they were written."""
    candidates = [token for token in range(1000, 10_000) if tokenizer.decode([token])[:1] == " "]
    letters = [token for token in candidates if tokenizer.decode([token])[1:].isalpha()]
    text = tokenizer.decode(letters)
    again = set(tokenizer(text, add_special_tokens=False)["input_ids"])
    return [token for token in letters if token in again]


def write_words(path: Path, pairs: int, shape: str, tokenizer: Any) -> None:
    """Nothing; the file has so many pairs of random words, each a token of its own."""
    draw, words = random.Random(0), whole_words(tokenizer)
    prompt, response = map(int, shape.split("/"))
    sizes = {"prompt": prompt, "chosen": response, "rejected": response}
    with path.open("w", encoding="utf-8") as out:
        for _ in range(pairs):
            row = {name: tokenizer.decode(draw.choices(words, k=size)) for name, size in sizes.items()}
            out.write(json.dumps(row) + "\n")


def text_tokens(told: argparse.Namespace, backbone: str) -> int:
    """Of all texts that are trained on, each prompt counted with both responses."""
    pairs = some_pairs(told.data, told.pairs)
    texts = [(pair.prompt, side) for pair in pairs for side in (pair.chosen, pair.rejected)]
    encoded = encode(texts, Renderer(load_tokenizer(backbone), "auto"))
    return sum(len(truncate(text, told.max_tokens).ids) for text in encoded)


def peak_gib() -> float:
    """Most memory that this process held: the GPU's where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 1024**3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2


def one(told: argparse.Namespace, way: str, backbone: str) -> dict[str, float]:
    """Of a training: its time, and the most memory that was held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seconds = ours(told, backbone) if way == OURS else theirs(told, backbone, PEERS[told.work][way])
    found = {"seconds": seconds, "peak_gib": peak_gib()}
    print(way, json.dumps(found), file=sys.stderr, flush=True)  # is there still if the rest is cut off
    return found


def measured(command: list[str]) -> dict[str, float]:
    """What a process of its own prints on its last line; it finds nothing that another one worked out."""
    with tempfile.TemporaryDirectory() as cache:
        env = os.environ | {"OUTWEIGH_CACHE": cache, "HF_DATASETS_CACHE": cache}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Runs the ways in turns and prints medians and ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", choices=list(PEERS), default="reward")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/hh_harmless.train.jsonl.gz"))
    parser.add_argument("--shape", help="tokens of prompt / response of random words in place of the data")
    parser.add_argument("--pairs", type=int, default=128)
    parser.add_argument("--batch", type=int, default=8, help="pairs a step")
    parser.add_argument("--max-tokens", type=int, default=512)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--backbone", help="a bundled model, a folder or a Hub name")
    parser.add_argument("--tokenizer", default="smollm2", help="of the model of random weights")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--together", action="store_true", help="all in one process, after a first round")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    told = parser.parse_args()
    ways = [OURS, *PEERS[told.work]]
    if told.one:
        return print(json.dumps(one(told, told.one, told.backbone)))
    found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        if not told.backbone:
            random_llama(told, folder)
        backbone = told.backbone or folder
        if told.shape:
            told.data = Path(folder) / "pairs.jsonl"
            write_words(told.data, told.pairs, told.shape, load_tokenizer(backbone))
        tokens = text_tokens(told, backbone)
        sizes = [f"--{name}={getattr(told, name)}" for name in ("work", "data", "pairs", "batch")]
        sizes += [f"--max-tokens={told.max_tokens}", f"--backbone={backbone}"]
        first = {way: one(told, way, backbone)["seconds"] for way in ways if told.together}
        for _ in range(told.repeats):
            for way in ways:
                alone = [sys.executable, __file__, f"--one={way}", *sizes]
                found[way].append(one(told, way, backbone) if told.together else measured(alone))
    medians = {way: statistics.median(each["seconds"] for each in found[way]) for way in ways}
    for way in ways:
        rates = [told.pairs / each["seconds"] for each in found[way]]
        line = {
            "work": told.work,
            "data": told.shape or told.data.name,
            "batch": told.batch,
            **({"model": told.backbone} if told.backbone else {}),
            "way": way,
            "pairs_a_second": round(told.pairs / medians[way], 2),
            "tokens_a_second": round(tokens / medians[way]),
            "from_to": [round(min(rates), 2), round(max(rates), 2)],
            "times_ours_is_faster": round(medians[way] / medians[OURS], 2),
            **({"first_round": round(told.pairs / first[way], 2)} if told.together else {}),
            "peak_gib": round(statistics.median(each["peak_gib"] for each in found[way]), 2),
        }
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
