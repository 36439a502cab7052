"""`outweigh train`: a reward model from pairs or ranked responses."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from outweigh.data.pairs import Data, OnBadRows, PairSet, read_pairs, read_rankings
from outweigh.data.records import Ranking
from outweigh.data.writing import replaced_whole
from outweigh.steps.evaluate import judged
from outweigh.steps.lock import alone
from outweigh.steps.record import (
    Stopwatch,
    check_owner,
    check_same_run,
    described,
    headed,
    peak_memory,
    sources,
    write_json,
    write_run,
)
from outweigh.training.checkpoints import check_begun
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit
from outweigh.training.items import asked_columns


@alone
def train(
    data: Data | PairSet,
    *,
    out: str | Path,
    config: TrainConfig | None = None,
    eval: Data | PairSet | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """The results of training on the data, as in `out/results.json`; the model is saved in `out/model`.

    With `eval`, training is watched on a validation part of the data all the same, and the finished model is
    evaluated on `eval` once. With `resume` a training on the same data, with the same settings, goes on.

    Raises:
        DataError, ConfigError, ModelError, TrainingError: with what to do.
    """
    config, out = config or TrainConfig(), Path(out)
    check_owner(out, "train")
    check_begun(out, resume)
    clock = Stopwatch()
    with clock("reading"):
        items, about = _read(data, config, on_bad_rows, out / "bad_rows.jsonl")
        held_out = None if eval is None else read_pairs(eval, on_bad_rows=on_bad_rows)
    if resume:
        check_same_run(out, asdict(config), about)
    write_run(out, "train", asdict(config), about)
    trained = fit(items, config, out, resume=resume)
    results = {**headed("train", config.seed), "data": about, "train": {"model": trained.results}}
    if held_out is not None:
        with clock("evaluation"):
            found = judged(trained.model, held_out, seed=config.seed)
        results["evaluation"] = {"model": found.evaluation}
    results |= {
        "seconds": {**clock.seconds, **trained.results["seconds"]},
        "peak_memory_bytes": peak_memory(),
    }
    write_json(out / "results.json", results)
    return results


def _read(
    data: Data | PairSet, config: TrainConfig, on_bad_rows: OnBadRows, bad_rows: Path
) -> tuple[PairSet | Sequence[Ranking], dict[str, Any]]:
    """What to train on, and what is said of it; rows skipped go to the file `bad_rows`."""
    if config.objective == "listwise" and not isinstance(data, PairSet):
        found = read_rankings(data, on_bad_rows=on_bad_rows)
        if found.bad:
            with replaced_whole(bad_rows) as out:
                out.write(found.bad)
        counts = found.reading.counts
        about = {"rows": counts.rows, "tied": counts.tied, "bad_rows": counts.bad_rows}
        return found.rankings, about | {"rankings": len(found.rankings), "files": sources(data)}
    pairs = read_pairs(data, on_bad_rows=on_bad_rows, keep=asked_columns(config))
    if pairs.counts.bad_rows:
        pairs.write_bad_rows(bad_rows)
    return pairs, described(data, pairs)
