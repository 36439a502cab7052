"""`outweigh audit`: how good the labels are, pair by pair and as a whole."""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from outweigh.auditing.audit import Audit
from outweigh.auditing.audit import audit as audited
from outweigh.auditing.noise import MIN_PAIRS, NoiseEstimate
from outweigh.auditing.trust import THRESHOLD
from outweigh.data.checks import check_pairs_data
from outweigh.data.files import content_hash
from outweigh.data.pairs import Data, OnBadRows, PairSet, read_pairs
from outweigh.data.split import group_ids
from outweigh.data.writing import replaced_whole
from outweigh.denoising.policies import Repair, repair
from outweigh.errors import DataError
from outweigh.evaluation.facts import PairFacts
from outweigh.metrics.arrays import FloatArray
from outweigh.steps.config import AuditConfig
from outweigh.steps.lock import alone
from outweigh.steps.record import (
    AUDIT,
    STRENGTH,
    Stopwatch,
    check_owner,
    described,
    headed,
    peak_memory,
    write_json,
    write_run,
)
from outweigh.steps.votes import Asked, ask
from outweigh.training.config import TrainConfig
from outweigh.training.workers import check_jobs

HISTOGRAM_BINS = 40
REPAIR = "flip"
"""What auto recommends where the audit is trusted; measured in docs/measurements.md, repair."""


class Audited(NamedTuple):
    """The values of each pair, what is recommended for it, and what audit.json holds."""

    pairs: PairSet
    audit: Audit
    repair: Repair
    results: dict[str, Any]


@alone
def audit(
    data: Data | PairSet,
    *,
    out: str | Path | None = None,
    config: AuditConfig | None = None,
    training: TrainConfig | None = None,
    on_bad_rows: OnBadRows = "error",
    of: Data | None = None,
    first_gap_B: FloatArray | None = None,
) -> Audited:
    """The audit of the pairs' labels; written to `out/strength.parquet` and `out/audit.json` if given.

    `training` is of the full voters, and `first_gap_B` the gaps (B,) of a model trained so on the pairs
    already, the first of them. Where `data` is a selection of pairs in a larger piece of work, `of` names the
    data that they are of, and no run.yaml is written.

    Raises:
        DataError, ConfigError, ModelError: with what to do. Fewer than 100 pairs are too few to audit.
    """
    config, training, clock = config or AuditConfig(), training or TrainConfig(), Stopwatch()
    if config.votes.method == "auto" and not config.votes.voters:
        config = replace(config, votes=replace(config.votes, method="probes"))
    folder = Path(out) if out is not None else None
    check_jobs(config.votes.jobs)
    if folder is not None and of is None:
        check_owner(folder, "audit")
    with clock("reading"):
        pairs = read_pairs(data, on_bad_rows=on_bad_rows)
        about = described(data if of is None else of, pairs)
    check_enough(pairs)
    with clock("voting"):
        asked = ask(pairs, config, training, folder and folder / "voters", first_gap_B)
    with clock("auditing"):
        found = judged(pairs, asked, config)
    policy = config.policy
    if policy == "auto":
        policy = REPAIR if found.trust is not None and found.trust.repair else "keep"
    recommended = repair(policy, found.strength, found.spread, found.wrong_probability, config.repair)
    results = headed("audit", config.seed) | {
        "data": about,
        "audit": summary(found, config, asked, pairs),
        "denoise": {
            "policy": policy,
            "options": asdict(config.repair),
            "actions": _counted(recommended),
        },
        "seconds": clock.seconds,
        "peak_memory_bytes": peak_memory(),
    }
    if folder is not None:
        if pairs.counts.bad_rows:
            pairs.write_bad_rows(folder / "bad_rows.jsonl")
        if of is None:
            write_run(folder, "audit", asdict(config) | {"full": asdict(training)}, about)
        (folder / AUDIT).unlink(missing_ok=True)  # what stands there is of other values
        _write_strength(folder / STRENGTH, pairs, found, recommended)
        results["strength_sha256"] = content_hash(folder / STRENGTH)
        write_json(folder / AUDIT, results)
    return Audited(pairs, found, recommended, results)


def check_enough(pairs: PairSet, what: str = "audit") -> None:
    """Nothing, once there are 100 pairs, of which none is another's copy; `what` begins the message.

    Raises:
        DataError: there are fewer.
    """
    if (different := len(np.unique(group_ids(pairs, "pair")))) < MIN_PAIRS:
        copies = "" if different == len(pairs) else f" but for copies, {len(pairs)} with them"
        raise DataError(
            f"{what}: got {different} pairs{copies}, want at least {MIN_PAIRS}. Give more pairs, or train on "
            "these as they are: outweigh train DATA --out DIR"
        )


def judged(pairs: PairSet, asked: Asked, config: AuditConfig) -> Audit:
    """The audit of the votes: intervals by prompt from 30 prompts on, else by pair."""
    longer = check_pairs_data(pairs).longer_chosen
    return audited(
        asked.votes,
        group_B=PairFacts.of(pairs).unit().ids,
        source_B=pairs.column("source"),
        trial=asked.trial,
        rule_agreement=max(longer, 1 - longer),
        seed=config.seed,
    )


def summary(found: Audit, config: AuditConfig, asked: Asked, pairs: PairSet) -> dict[str, Any]:
    """What audit.json and the report say of the whole file."""
    trust = found.trust
    return {
        "method": "voters" if config.votes.voters else config.votes.method,
        "backbone": asked.backbone,
        "models": found.voters,
        "voters": list(asked.votes.models),
        "vote": config.votes.vote,
        "unit": asked.fold_unit,
        "held_out": found.held_out,
        "noise_rate": _rate(found.noise),
        "by_source": _by_source(found, pairs),
        "negative_share": float((found.strength < 0).mean()),
        "strength": _histogram(found.strength, found.wrong_probability),
        "reliability": [asdict(row) for row in trust.reliability] if trust else [],
        "trust": {
            "auroc": {"value": trust.auroc, "low": trust.low, "high": trust.high},
            "threshold": THRESHOLD,
            "recommendation": "repair" if trust.repair else "keep",
            "reason": trust.reason,
            "planted": trust.planted,
            "agreement": trust.agreement,
            "rule_agreement": trust.rule_agreement,
        }
        if trust
        else None,
    }


def _by_source(found: Audit, pairs: PairSet) -> list[dict[str, Any]]:
    """Each source's pairs and noise rate, None where they are too few to tell."""
    source = pairs.column("source")
    counts = Counter(() if source is None else source.astype(str).tolist())
    return [
        {"source": name, "pairs": counts[name], "noise_rate": _rate(noise)}
        for name, noise in found.noise_by_source.items()
    ]


def _rate(noise: NoiseEstimate | None) -> dict[str, Any] | None:
    if noise is None:
        return None
    return {"value": noise.rate, "low": noise.low, "high": noise.high, "pairs": noise.pairs}


def _histogram(strength: FloatArray, wrong_probability: FloatArray) -> dict[str, Any]:
    """Counts and edges of the strengths, and each bin's mean wrong probability (None where it is empty)."""
    counts, edges = np.histogram(strength, bins=HISTOGRAM_BINS)
    total, _ = np.histogram(strength, bins=edges, weights=wrong_probability)
    means = [float(t / c) if c else None for t, c in zip(total, counts, strict=True)]
    return {"counts": counts.tolist(), "edges": edges.tolist(), "wrong_probability": means}


def _counted(recommended: Repair) -> dict[str, int]:
    names, counts = np.unique(recommended.action, return_counts=True)
    return dict(zip(names.tolist(), counts.tolist(), strict=True))


def _write_strength(path: Path, pairs: PairSet, found: Audit, recommended: Repair) -> None:
    columns = found.columns(pairs.rows, recommended.action)
    for name in ("chosen_index", "rejected_index"):  # tells the pairs of one row of K responses apart
        if (places := pairs.column(name)) is not None:
            columns[name] = places.astype(np.int64)
    with replaced_whole(path) as out:
        pq.write_table(pa.table(columns), out)
