"""How well frozen MiniLM's probes find planted flips, and what repair by them gains; train files only.

    python bench/noise_metrics.py --data ../shared/data --seeds 5

Prints tables, writes bench/results/noise_metrics.json. Features are cached under --cache. Seeds 0 to 3 served
to choose the defaults, so seeds count from 10. Accuracy is on a held-out quarter of the prompts (pairs, where
all share one prompt), with the labels as they are, by heads trained on the other part.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from frozen_features import layer_features, pooled, text_rows

from outweigh.auditing.metrics import NOISE_METRICS
from outweigh.auditing.noise import estimate_noise
from outweigh.auditing.strength import preference_strength
from outweigh.auditing.trust import Trial, estimate_trust, planted_flips
from outweigh.auditing.wrong import wrong_probability
from outweigh.data.pairs import PairSet, read_pairs
from outweigh.data.split import folds, hold_out
from outweigh.denoising.policies import RepairOptions, repair
from outweigh.metrics.detection import auroc
from outweigh.voting.config import ProbeConfig
from outweigh.voting.probes import fit_heads, probe_votes
from outweigh.voting.votes import held_out_strength

FLIPS = 0.2
FIRST_SEED = 10
POOLING = "response-4"
POOLINGS = ("first", "all-6", "all-4", "all-3", "response-0", "response-2", "response-3", "response-4",
            "response-5", "response-6", "response-3+6", "response-2+4+6")  # fmt: skip
REPAIRS: dict[str, tuple[str, dict[str, Any]]] = {
    "keep": ("keep", {}),
    "flip": ("flip", {}),
    "flip 20 %": ("flip", {"fraction": 0.2}),
    "drop": ("drop", {}),
    "smooth": ("smooth", {}),
    "smooth at 0.2": ("smooth", {"smoothing": 0.2}),
    "smooth below 0.3": ("smooth", {"smooth_band": 0.3}),
    "smooth, spread": ("smooth", {"smooth_spread": 0.5}),
    "margin": ("margin", {}),
    "flip+smooth": ("flip+smooth", {}),
    "flip+margin": ("flip+margin", {}),
    "smooth+margin": ("smooth+margin", {}),
}
# Voters of falling ability, for the gate: pooling and config; the learner always has POOLING.
VOTERS: dict[str, tuple[str, ProbeConfig]] = {
    "default": (POOLING, ProbeConfig()),
    "last layer": ("all-6", ProbeConfig()),
    "last layer, linear, 1 epoch": ("all-6", ProbeConfig(kind="linear", epochs=1)),
    "first token, linear, 1 epoch": ("first", ProbeConfig(kind="linear", epochs=1)),
}


class Data:
    """A data set's pairs, and features by pooling."""

    def __init__(self, name: str, folder: Path, cache: Path, split: str = "train"):
        self.name, self.place = name, (folder, cache)
        self.pairs: PairSet = read_pairs(str(folder / f"{name}.{split}.jsonl.gz"))
        self.layers_NLH = layer_features(self.pairs, name, cache)
        _, self.chosen, self.rejected = text_rows(self.pairs)

    def planted(self, share: float, seed: int, places: np.ndarray | None = None) -> tuple[np.ndarray, ...]:
        """Chosen and rejected rows of the pairs (at some places) after flips, and which are flipped."""
        places = np.arange(len(self.pairs)) if places is None else places
        flipped = planted_flips(len(places), seed, share)
        chosen, rejected = self.chosen[places], self.rejected[places]
        return np.where(flipped, rejected, chosen), np.where(flipped, chosen, rejected), flipped


def mean_and_std(values: Sequence[float | None]) -> dict[str, float]:
    """Mean and sample std over seeds."""
    known = np.array(values, dtype=float)
    return {"mean": float(known.mean()), "std": float(known.std(ddof=1)) if len(known) > 1 else 0.0}


def poolings(data: Data, seeds: range) -> Iterator[dict[str, Any]]:
    """AUROC of the weakness by pooling, with the default probes in-sample."""
    for pooling in POOLINGS:
        features = pooled(data.layers_NLH, pooling)
        found = []
        for seed in seeds:
            chosen, rejected, flipped = data.planted(FLIPS, seed)
            votes = probe_votes(features, chosen, rejected, config=ProbeConfig(), seed=seed)
            found.append(auroc(NOISE_METRICS["weakness"](votes), flipped))
        yield {"pooling": pooling} | mean_and_std(found)


def metrics(data: Data, seeds: range) -> Iterator[dict[str, Any]]:
    """AUROC of each noise metric, by kind of head and by who votes; of the weakness, by epoch too."""
    features = pooled(data.layers_NLH, POOLING)
    for vote in ("in-sample", "pair", "text", "prompt"):
        for kind in ("linear", "mlp"):
            found: dict[str, list[float | None]] = {name: [] for name in NOISE_METRICS}
            by_epoch: dict[str, list[float | None]] = {}
            unit = None
            for seed in seeds:
                chosen, rejected, flipped = data.planted(FLIPS, seed)
                fold = None
                if vote != "in-sample":
                    split = folds(data.pairs, vote, 5, seed)  # type: ignore[arg-type]
                    fold, unit = split.fold, split.unit
                if unit not in (None, vote):
                    break  # too few groups: the finer unit has its own line
                epochs = 8 if vote == "in-sample" else 4
                config = ProbeConfig(kind=kind, epochs=epochs)
                long = probe_votes(features, chosen, rejected, config=config, fold_B=fold, seed=seed)
                assert long.epoch_gap_EB is not None  # of probes it is there
                for epoch, gap in enumerate(long.epoch_gap_EB, start=1):
                    by_epoch.setdefault(f"epoch {epoch}", []).append(auroc(-gap.astype(float), flipped))
                votes = long
                if epochs != 4:
                    votes = probe_votes(
                        features, chosen, rejected, config=ProbeConfig(kind=kind), fold_B=fold, seed=seed
                    )
                for name, metric in NOISE_METRICS.items():
                    found[name].append(auroc(metric(votes), flipped))
            for name, values in (found | by_epoch).items():
                if values:
                    yield {"vote": vote, "kind": kind, "metric": name} | mean_and_std(values)


def noise(data: Data, seeds: range) -> Iterator[dict[str, Any]]:
    """The estimated noise rate, and how wrong_probability fares, by planted share."""
    features = pooled(data.layers_NLH, POOLING)
    for share in (0.0, 0.1, 0.2, 0.3, 0.4):
        rates, lows, highs, inside, errors = [], [], [], [], []
        for seed in seeds:
            chosen, rejected, flipped = data.planted(share, seed)
            votes = probe_votes(features, chosen, rejected, config=ProbeConfig(), seed=seed)
            held_out = held_out_strength(votes)
            found = estimate_noise(held_out, np.arange(len(chosen)))
            claimed = wrong_probability(votes, found)
            tenths = np.array_split(np.argsort(claimed), 10)
            rates.append(found.rate)
            lows.append(found.low)
            highs.append(found.high)
            inside.append(found.low <= share <= found.high)
            errors.append(float(np.mean([abs(claimed[t].mean() - flipped[t].mean()) for t in tenths])))
        yield {"planted": share, "low": float(np.mean(lows)), "high": float(np.mean(highs)),
               "inside": float(np.mean(inside)), "calibration_error": float(np.mean(errors)),
               } | mean_and_std(rates)  # fmt: skip


def accuracy(
    features: np.ndarray, data: Data, held: np.ndarray, labels: Any, seed: int, **terms: Any
) -> float:
    """Accuracy in % on held-out pairs of the mean of four heads trained on the labels."""
    heads = trained_heads(features, labels, seed, **terms)
    return right_share(heads, features, data.chosen[held], data.rejected[held])


def right_share(heads: Any, features: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> float:
    """Accuracy in % of the heads' mean reward, ties half."""
    reward = heads.rewards(features).mean(axis=1)
    gap = reward[chosen] - reward[rejected]
    return 100 * float(np.where(gap == 0, 0.5, gap > 0).mean())


def trained_heads(features: np.ndarray, labels: Any, seed: int, **terms: Any) -> Any:
    """Four heads trained on rows of chosen and rejected, and weights."""
    chosen, rejected, weight = labels
    given: dict[str, Any] = {name: torch.from_numpy(values).float() for name, values in terms.items()}
    weight_BA = torch.from_numpy(np.tile(weight[:, None], 4)).float()
    return fit_heads(
        features, chosen, rejected, config=ProbeConfig(), seed=seed, weight_BA=weight_BA, **given
    )


def repairs(data: Data, seeds: range) -> Iterator[dict[str, Any]]:
    """Points of accuracy that each policy gains over keeping the labels, by planted share."""
    features = pooled(data.layers_NLH, POOLING)
    for share in (0.0, FLIPS, 0.3):
        found: dict[str, list[float]] = {}
        for seed in seeds:
            part = hold_out(data.pairs, 0.25, seed, "prompt")
            chosen, rejected, _ = data.planted(share, seed, part.train)
            votes = probe_votes(features, chosen, rejected, config=ProbeConfig(), seed=seed)
            strength, held_out = preference_strength(votes.gap_MB), held_out_strength(votes)
            claimed = wrong_probability(votes, estimate_noise(held_out, np.arange(len(chosen))))
            for name, (policy, options) in REPAIRS.items():
                done = repair(policy, strength.mean, strength.spread, claimed, RepairOptions(**options))
                flip, terms = done.flip, {"margin_B": done.margin, "flip_rate_B": done.flip_rate}
                labels = np.where(flip, rejected, chosen), np.where(flip, chosen, rejected), ~done.drop * 1.0
                found.setdefault(name, []).append(accuracy(features, data, part.eval, labels, seed, **terms))
            clean = data.chosen[part.train], data.rejected[part.train], np.ones(len(part.train))
            found.setdefault("labels as they came", []).append(
                accuracy(features, data, part.eval, clean, seed)
            )
        base = np.array(found["keep"])
        for name, values in found.items():
            yield {"planted": share, "policy": name, "accuracy": float(np.mean(values))} | mean_and_std(
                list(np.array(values) - base)
            )


def tested(data: Data, seeds: range) -> Iterator[dict[str, Any]]:
    """Accuracy on the test file of heads trained on all pairs with planted flips, flipped, and unplanted."""
    held = Data(data.name, *data.place, split="test")
    features, elsewhere = pooled(data.layers_NLH, POOLING), pooled(held.layers_NLH, POOLING)
    found: dict[str, list[float]] = {}
    for seed in seeds:
        chosen, rejected, _ = data.planted(FLIPS, seed)
        votes = probe_votes(features, chosen, rejected, config=ProbeConfig(), seed=seed)
        strength, held_out = preference_strength(votes.gap_MB), held_out_strength(votes)
        claimed = wrong_probability(votes, estimate_noise(held_out, np.arange(len(chosen))))
        flip = repair("flip", strength.mean, strength.spread, claimed).flip
        flipped = np.where(flip, rejected, chosen), np.where(flip, chosen, rejected)
        for name, rows in (
            ("plain", (chosen, rejected)),
            ("flipped", flipped),
            ("unplanted", (data.chosen, data.rejected)),
        ):
            heads = trained_heads(features, (*rows, np.ones(len(chosen))), seed)
            share = right_share(heads, elsewhere, held.chosen, held.rejected)
            found.setdefault(name, []).append(share)
    base = np.array(found["plain"])
    for name, values in found.items():
        own = mean_and_std(values)
        gain = mean_and_std(list(np.array(values) - base))
        yield {"labels": name, "accuracy": own["mean"], "std": own["std"]} | {
            f"gain {key}": value for key, value in gain.items()
        }


def gate(data: Data, seeds: range, names: Sequence[str] = tuple(VOTERS)) -> Iterator[dict[str, Any]]:
    """What the trust gate says of voters of falling ability, and what flipping by them gains."""
    features = pooled(data.layers_NLH, POOLING)
    for voters in names:
        pooling, config = VOTERS[voters]
        own = pooled(data.layers_NLH, pooling)
        for share in (0.0, 0.1, 0.2, 0.3):
            trusts, gains = [], []
            for seed in seeds:
                part = hold_out(data.pairs, 0.25, seed, "prompt")
                chosen, rejected, _ = data.planted(share, seed, part.train)

                def vote(
                    swapped: Any, seed: int = seed, config: Any = config, own: Any = own,
                    chosen: Any = chosen, rejected: Any = rejected,
                ) -> Any:  # fmt: skip
                    labels = np.where(swapped, rejected, chosen), np.where(swapped, chosen, rejected)
                    return probe_votes(own, *labels, config=config, seed=seed)

                votes = vote(np.zeros(len(chosen), dtype=bool))
                strength, held_out = preference_strength(votes.gap_MB), held_out_strength(votes)
                rate = estimate_noise(held_out, np.arange(len(chosen)))
                flips = planted_flips(len(chosen), seed + 100)
                trusts.append(estimate_trust(Trial(flips, vote(flips)), noise=rate))
                claimed = wrong_probability(votes, trusts[-1].noise)
                flip = repair("flip", strength.mean, strength.spread, claimed).flip
                every = np.ones(len(chosen))
                labels = np.where(flip, rejected, chosen), np.where(flip, chosen, rejected), every
                after = accuracy(features, data, part.eval, labels, seed)
                gains.append(after - accuracy(features, data, part.eval, (chosen, rejected, every), seed))
            found = {
                "trust": float(np.mean([each.auroc for each in trusts])),
                "low": float(np.mean([each.low for each in trusts])),
                "repair": float(np.mean([each.repair for each in trusts])),
                "noise rate": float(np.mean([each.noise.rate for each in trusts])),
            }
            yield {"voters": voters, "planted": share} | found | mean_and_std(gains)


PARTS = {
    "poolings": poolings,
    "metrics": metrics,
    "noise": noise,
    "repairs": repairs,
    "test": tested,
    "gate": gate,
}


def main() -> None:
    """Runs the parts on the data sets, prints each line as it comes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument(
        "--names", nargs="+", default=["arguments", "rmb", "sense", "hh_helpful", "hh_harmless"]
    )
    parser.add_argument(
        "--parts",
        nargs="+",
        default=[part for part in PARTS if part != "test"],
        choices=list(PARTS),
        help="test reads the test file",
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--cache", type=Path, default=Path("/tmp/outweigh-bench"))
    parser.add_argument("--out", type=Path, default=Path("bench/results/noise_metrics.json"))
    parser.add_argument("--voters", nargs="+", default=list(VOTERS), choices=list(VOTERS), help="of the gate")
    told = parser.parse_args()
    parts = PARTS | {"gate": partial(gate, names=told.voters)}
    seeds = range(FIRST_SEED, FIRST_SEED + told.seeds)
    results = json.loads(told.out.read_text()) if told.out.exists() else {}
    for name in told.names:
        data = Data(name, told.data, told.cache)
        for part in told.parts:
            rows = []
            for row in parts[part](data, seeds):
                rows.append(row)
                shown = " ".join(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values())
                print(name, part, shown, flush=True)
            results.setdefault(part, {})[name] = {"seeds": list(seeds), "rows": rows}
            told.out.parent.mkdir(parents=True, exist_ok=True)
            told.out.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
