"""`outweigh align dpo`: a policy from pairs."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from outweigh.align.config import DPOConfig
from outweigh.align.dpo import fit_policy
from outweigh.align.implicit import implicit_reward
from outweigh.data.pairs import Data, OnBadRows, PairSet, read_pairs
from outweigh.steps.evaluate import judged
from outweigh.steps.lock import alone
from outweigh.steps.record import (
    Stopwatch,
    check_owner,
    check_same_run,
    described,
    headed,
    peak_memory,
    write_json,
    write_run,
)
from outweigh.training.checkpoints import check_begun
from outweigh.training.items import asked_columns


@alone
def align_dpo(
    data: Data | PairSet,
    *,
    out: str | Path,
    config: DPOConfig | None = None,
    eval: Data | PairSet | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """The results of aligning a policy with the data, as in `out/results.json`; it is saved in `out/policy`.

    With `eval`, the implicit reward of the finished policy is evaluated there, once. With `resume` an
    unfinished run on the same data, with the same settings, goes on.

    Raises:
        DataError, ConfigError, ModelError, TrainingError: with what to do.
    """
    config, out = config or DPOConfig(), Path(out)
    check_owner(out, "align dpo")
    check_begun(out, resume, "policy")
    clock = Stopwatch()
    with clock("reading"):
        pairs = read_pairs(data, on_bad_rows=on_bad_rows, keep=asked_columns(config.training))
        if pairs.counts.bad_rows:
            pairs.write_bad_rows(out / "bad_rows.jsonl")
        about = described(data, pairs)
        held_out = None if eval is None else read_pairs(eval, on_bad_rows=on_bad_rows)
    if resume:
        check_same_run(out, asdict(config), about)
    write_run(out, "align dpo", asdict(config), about)
    aligned = fit_policy(pairs, config, out, resume=resume)
    results = {**headed("align dpo", config.seed), "data": about, "align": {"policy": aligned.results}}
    if held_out is not None:
        with clock("evaluation"):
            implied = implicit_reward(aligned.policy, config)
            results["evaluation"] = {"policy": judged(implied, held_out, seed=config.seed).evaluation}
    results |= {
        "seconds": {**clock.seconds, **aligned.results["seconds"]},
        "peak_memory_bytes": peak_memory(),
    }
    write_json(out / "results.json", results)
    return results
