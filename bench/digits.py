"""Beyond text: pairs of images of digits by their pixels, the larger digit preferred.

    python bench/digits.py --seeds 0 1 2 3 4

The 1,797 images are scikit-learn's, 64 pixels each; some labels are planted wrong. A quarter of the images
makes the held-out pairs. Prints how well the audit by probes finds the flips, and the held-out accuracy of a
small network trained on the noisy labels, on those left after a flip or a drop, with the batch margin, and on
right labels.
"""

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from sklearn.datasets import load_digits

import outweigh
from outweigh.data.writing import write_rows
from outweigh.metrics.accuracy import correct
from outweigh.metrics.detection import auroc, precision_recall
from outweigh.objectives.batch import batch_margin
from outweigh.objectives.pairwise import pairwise_loss
from outweigh.steps.config import AuditConfig

PAIRS, HELD_OUT = 1500, 1500
EPOCHS, BATCH, RATE, HIDDEN = 20, 32, 3e-3, 32

Margin = Callable[[torch.Tensor], torch.Tensor]
NONE: Margin = torch.zeros_like
TRAINED = ("noisy", "flipped", "dropped", "batch margin", "flipped, batch margin", "right labels")


def of_batch(gap: torch.Tensor) -> torch.Tensor:
    """The margin that the whole batch asks for."""
    return batch_margin(gap, gap)


def pairs_of(images: NDArray[Any], digits: NDArray[Any], count: int, seed: int) -> NDArray[Any]:
    """Pixels of `count` pairs of unlike digits, the larger digit first, (count, 2, 64)."""
    rng = np.random.default_rng(seed)
    found: list[NDArray[Any]] = []
    while len(found) < count:
        one, other = rng.integers(0, len(images), 2)
        if digits[one] != digits[other]:
            larger = max(one, other, key=lambda place: digits[place])
            found.append(np.stack([images[larger], images[one + other - larger]]))
    return np.stack(found) / 16


def trained(pairs_B2H: NDArray[Any], seed: int, margin: Margin) -> torch.nn.Module:
    """A network of one hidden layer, trained by the pairwise equation."""
    torch.manual_seed(seed)
    model = torch.nn.Sequential(torch.nn.Linear(64, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    data = torch.from_numpy(pairs_B2H).float()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(data)).split(BATCH):
            reward_B2 = model(data[batch]).squeeze(-1)
            gap = reward_B2[:, 0] - reward_B2[:, 1]
            loss = pairwise_loss(gap, margin=margin(gap)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model


def accuracy(model: torch.nn.Module, pairs_B2H: NDArray[Any]) -> float:
    """Percent of the pairs whose larger digit has the larger reward."""
    with torch.no_grad():
        reward_B2 = model(torch.from_numpy(pairs_B2H).float()).squeeze(-1).double().numpy()
    return 100 * float(correct(reward_B2[:, 0] - reward_B2[:, 1]).mean())


def repaired(data: Path, audit: Path, policy: str) -> NDArray[Any]:
    """The pairs' pixels after the policy, (B, 2, 64)."""
    out = audit.with_name(f"{policy}.jsonl")
    outweigh.denoise(data, audit=audit, out=out, policy=policy)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    return np.array([[row["features_chosen"], row["features_rejected"]] for row in rows])


def cell(share: float, seed: int) -> dict[str, float | None]:
    """What one seed finds at one planted share."""
    loaded = load_digits()
    order = np.random.default_rng(seed).permutation(len(loaded.data))
    held, rest = order[: len(order) // 4], order[len(order) // 4 :]
    clean = pairs_of(loaded.data[rest], loaded.target[rest], PAIRS, seed)
    test = pairs_of(loaded.data[held], loaded.target[held], HELD_OUT, seed + 1)
    wrong = np.random.default_rng(seed + 2).permutation(PAIRS) < round(share * PAIRS)
    noisy = np.where(wrong[:, None, None], clean[:, ::-1], clean)
    rows = [
        {"chosen": f"image {2 * place}", "rejected": f"image {2 * place + 1}"}
        | {"features_chosen": pair[0].tolist(), "features_rejected": pair[1].tolist()}
        for place, pair in enumerate(noisy)
    ]
    with tempfile.TemporaryDirectory() as folder:
        data, out = Path(folder) / "pairs.jsonl", Path(folder) / "audit"
        write_rows(data, rows)
        outweigh.audit(data, out=out, config=AuditConfig(seed=seed, policy="flip", trust=False))
        claimed = np.array(pq.read_table(out / "strength.parquet").to_pydict()["wrong_probability"])
        flipped, dropped = (repaired(data, out, policy) for policy in ("flip", "drop"))
    found: dict[str, float | None] = {}
    if share:
        hits = precision_recall(claimed, wrong, threshold=0.5)
        found = {"auroc": auroc(claimed, wrong), "precision": hits.precision, "recall": hits.recall}
    batch = (noisy, of_batch), (flipped, of_batch)
    ways = (noisy, NONE), (flipped, NONE), (dropped, NONE), *batch, (clean, NONE)
    for name, (given, margin) in zip(TRAINED, ways, strict=True):
        found[name] = accuracy(trained(given, seed, margin), test)
    return found


def main() -> None:
    """Prints mean and deviation over seeds for each planted share."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--planted", nargs="+", type=float, default=[0.0, 0.1, 0.2, 0.3, 0.4])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    told = parser.parse_args()
    for share in told.planted:
        cells = [cell(share, seed) for seed in told.seeds]
        for name in cells[0]:
            values = np.array([np.nan if each[name] is None else each[name] for each in cells])
            about = {"planted": share, "what": name, "found": spread(values)}
            if name in TRAINED[1:]:
                about |= {"gain": spread(values - np.array([each["noisy"] for each in cells]))}
            print(json.dumps(about), flush=True)


def spread(values: NDArray[Any]) -> str:
    """Mean and sample standard deviation."""
    return f"{values.mean():.3f} ± {values.std(ddof=1) if len(values) > 1 else 0.0:.3f}"


if __name__ == "__main__":
    main()
