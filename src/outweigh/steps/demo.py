"""`outweigh demo`: run, on pairs whose right labels are known, and how many of the wrong ones were found."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from outweigh.data.config import TokenConfig
from outweigh.data.files import raw_rows
from outweigh.metrics.detection import auroc, precision_recall
from outweigh.steps.config import AuditConfig, RunConfig
from outweigh.steps.lock import alone
from outweigh.steps.run import outcome, write_outcome
from outweigh.training.config import TrainConfig
from outweigh.voting.config import VoteConfig

PAIRS = Path(__file__).parents[1] / "data" / "demo"
SHORT = TokenConfig(max_tokens=160)  # the longest demo text has fewer


@alone
def demo(*, out: str | Path, seed: int = 0, resume: bool = False, jobs: int = 1) -> dict[str, Any]:
    """The results of `run` on the demo pairs, and `planted`: how the audit did on the planted wrong labels.

    So many `jobs` train voters at once.

    Raises:
        ConfigError: `out` holds a finished run.
    """
    out, config = Path(out), demo_config(seed, jobs)
    train, held_out = PAIRS / "train.jsonl.gz", PAIRS / "eval.jsonl.gz"
    results, pairs = outcome(train, out=out, eval=[held_out], config=config, resume=resume)
    results |= {"command": "demo", "planted": planted(train, out)}
    write_outcome(results, pairs, out)
    return results


def demo_config(seed: int = 0, jobs: int = 1) -> RunConfig:
    """Two epochs, and texts no longer than the demo's are."""
    audit = AuditConfig(votes=VoteConfig(tokens=SHORT, jobs=jobs), seed=seed)
    train = TrainConfig(tokens=SHORT, epochs=2, evaluations=2, seed=seed)
    return RunConfig(audit=audit, train=train, seed=seed)


def planted(data: Path, audit: Path) -> dict[str, Any]:
    """Precision, recall and AUROC of the audit against the column `planted_flip`, which only this reads."""
    wrong_of_row = {raw.row: raw.values["planted_flip"] for raw in raw_rows(data) if raw.values is not None}
    table = pq.read_table(audit / "strength.parquet", columns=["row", "wrong_probability", "action"])
    wrong = np.array([wrong_of_row[row] for row in table.column("row").to_pylist()])
    probability = table.column("wrong_probability").to_numpy()
    found = precision_recall(probability, wrong, threshold=0.5)
    return {
        "planted": found.wrong,
        "found": found.found,
        "flagged": found.flagged,
        "precision": found.precision,
        "recall": found.recall,
        "auroc": auroc(probability, wrong),
    }
