"""`outweigh run`: a file of pairs -> a reward model from audited, repaired labels, its proof and a report."""

import json
import logging
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from outweigh.data.pairs import Data, OnBadRows, PairSet, read_pairs
from outweigh.data.records import plain
from outweigh.data.split import hold_out
from outweigh.errors import ConfigError, DataError
from outweigh.evaluation.facts import PairFacts, grade_of
from outweigh.models.reward import RewardModel
from outweigh.steps.audit import audit, check_enough
from outweigh.steps.config import RunConfig
from outweigh.steps.denoise import denoise, read_audit
from outweigh.steps.evaluate import Judged, compared, judged
from outweigh.steps.lock import alone
from outweigh.steps.record import (
    AUDIT,
    STRENGTH,
    Stopwatch,
    as_json,
    check_owner,
    check_same_run,
    described,
    headed,
    peak_memory,
    sources,
    write_json,
    write_run,
)
from outweigh.steps.votes import check_voters
from outweigh.training.checkpoints import RECORD
from outweigh.training.fit import checked, fit
from outweigh.training.items import asked_columns, check_steps
from outweigh.training.workers import check_jobs

logger = logging.getLogger(__name__)

DOUBTFUL = 200
"""Most doubtful pairs that the report shows."""
PLAIN, REPAIRED = "plain", "repaired"
SETTLES = ("model", RECORD, "checkpoints")  # moved in this order: the model says that it began


@alone
def run(
    data: Data,
    *,
    out: str | Path,
    eval: Sequence[str | Path] = (),
    config: RunConfig | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """The results of all steps, as in `out/results.json`; the page to look at is `out/report.html`.

    A reward model is trained on the pairs as they came. Their labels are audited, with its vote where full
    voters judge, and repaired where the audit can be trusted. If so, a second reward model is trained on the
    outcome, is `out/model`, and is compared with the first, `out/plain/model`, on `eval`, else on a tenth of
    the prompts held out. If not, the first is `out/model`. With `resume` what is finished is taken as it is,
    if it is of the same data and settings.

    Raises:
        DataError, ConfigError, ModelError, TrainingError: with what to do.
    """
    results, pairs = outcome(data, out=out, eval=eval, config=config, on_bad_rows=on_bad_rows, resume=resume)
    write_outcome(results, pairs, Path(out))
    return results


def outcome(
    data: Data,
    *,
    out: str | Path,
    eval: Sequence[str | Path] = (),
    config: RunConfig | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> tuple[dict[str, Any], PairSet]:
    """The results of a run before they are written, by which it is finished, and the pairs trained on.

    Raises:
        DataError, ConfigError, ModelError, TrainingError: as `run`.
    """
    config, out, clock = resolved(config or RunConfig()), Path(out), Stopwatch()
    with clock("reading"):
        pairs, held_out, about = begun(data, eval, config, out, on_bad_rows, resume)
    write_run(out, "run", asdict(config), about)
    found: dict[str, dict[str, Judged]] = {}
    trained: dict[str, Any] = {}
    with clock("training, plain"):
        model, trained[PLAIN] = fit(pairs, config.train, _plain_folder(out), resume=resume)
    with clock("evaluation"):
        found[PLAIN] = _judged(model, held_out, config)
    done = resume and _is_audited(out, data)
    with clock("scoring"):
        gap_B = None if done else np.subtract(*model.score_pairs(pairs))
    del model  # the next ones may need its memory
    if not done:
        audit(pairs, out=out, config=config.audit, training=config.train, of=data, first_gap_B=gap_B)
    audited = json.loads((out / AUDIT).read_text(encoding="utf-8"))
    with clock("denoise"):
        repaired = denoise(data, audit=out, out=out / "pairs.clean.jsonl")
    if set(repaired["actions"]) == {"keep"}:
        _settle(out)
    else:
        with clock("training, repaired"):
            clean = read_pairs(out / "pairs.clean.jsonl", keep=asked_columns(config.train))
            model, trained[REPAIRED] = fit(clean, config.train, out, resume=resume)
        with clock("evaluation"):
            found[REPAIRED] = _judged(model, held_out, config)
    results = headed("run", config.seed) | about | {"audit": audited["audit"], "denoise": repaired}
    results |= {"train": trained, **_compared(found, held_out, config)}
    results |= {"seconds": clock.seconds | audited["seconds"], "peak_memory_bytes": peak_memory()}
    return results, pairs


def write_outcome(results: Mapping[str, Any], pairs: PairSet, out: Path) -> None:
    """Nothing; writes the report, then `out/results.json`, which says that the run is finished."""
    write_page(results, pairs, out)
    write_json(out / "results.json", results)


def begun(
    data: Data,
    eval: Sequence[str | Path],
    config: RunConfig,
    out: Path,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> tuple[PairSet, dict[str, PairSet], dict[str, Any]]:
    """Pairs to train on, the sets to evaluate on by name, and what is said of both, once the run can begin.

    Raises:
        DataError, ConfigError, ModelError: it can't.
    """
    if config.train.beside is not None:
        raise ConfigError("train.beside: a run compares its two models itself. Leave it out.")
    check_owner(out, "run")
    check_unbegun(out, resume)
    check_jobs(config.audit.votes.jobs)
    pairs, held_out, about = _read(data, eval, config, on_bad_rows)
    check_enough(pairs, "run, beside the pairs to evaluate on")
    check_voters(pairs, config.audit)
    _, objective = checked(pairs, config.train)
    if config.audit.votes.method == "full":  # its voters see every pair, validation part and all
        check_steps(objective, config.train, len(pairs))
    if resume:
        check_same_run(out, asdict(config), about)
    return pairs, held_out, about


def check_unbegun(out: Path, resume: bool) -> None:
    """Nothing, if a run may write to the folder.

    Raises:
        ConfigError: there is a finished one, or an unfinished one and no `resume`.
    """
    if (out / "results.json").exists():
        raise ConfigError(f"{out}: holds a finished run. Choose another folder, or remove it.")
    if not resume and any((out / name).exists() for name in ("model", PLAIN)):
        raise ConfigError(f"{out}: holds an unfinished run. Go on with --resume, or choose another folder.")


def resolved(config: RunConfig) -> RunConfig:
    """The configuration with voters that are full unless told otherwise: one is trained in any case."""
    votes = config.audit.votes
    if votes.method == "auto" and not votes.voters:
        votes = replace(votes, method="full")
    return replace(config, audit=replace(config.audit, votes=votes))


def _read(
    data: Data, eval: Sequence[str | Path], config: RunConfig, on_bad_rows: OnBadRows
) -> tuple[PairSet, dict[str, PairSet], dict[str, Any]]:
    """Pairs to train on, the sets to evaluate on by name, and what is said of both."""
    keep = [config.grade] if config.grade else []
    asked = asked_columns(config.train)
    pairs = read_pairs(data, on_bad_rows=on_bad_rows, keep=asked if eval else [*asked, *keep])
    if eval:
        held_out = {str(each): read_pairs(each, on_bad_rows=on_bad_rows, keep=keep) for each in eval}
        unit = "given"
    else:
        split = hold_out(pairs, config.held_out, config.seed)
        held_out = {"held out": pairs.select(split.eval)}
        pairs, unit = pairs.select(split.train), split.unit
    if config.grade:
        for each in held_out.values():
            grade_of(each, config.grade)
    first = next(iter(held_out.values()))
    both = described(data, pairs, first)
    shared = {name: both.pop(name) for name in ("shared_prompts", "eval_pairs_shared", "shared_examples")}
    about = {"data": both, "eval_data": described(eval[0] if eval else data, first) | shared | {"unit": unit}}
    if count := shared["shared_prompts"]:
        logger.warning("%d prompts stand both in training and evaluation: that flatters the model.", count)
    if eval:
        about["eval_data"]["files"] = [file for each in eval for file in sources(each)]
    return pairs, held_out, about


def _is_audited(out: Path, data: Data) -> bool:
    """Whether a whole audit lies there; a damaged one is told, and made again."""
    try:
        read_audit(out, data)
    except DataError as error:
        if (out / AUDIT).exists():
            logger.warning("The audit is done again: %s", error)
        return False
    return True


def _plain_folder(out: Path) -> Path:
    """Where the model trained on the pairs as they came is, or is to be."""
    if (out / "model").exists() and not (out / PLAIN / "model").exists():
        _settle(out)  # again: it may have been cut short
        return out
    return out / PLAIN


def _settle(out: Path) -> None:
    """Makes what was trained on the pairs as they came the outcome; the second time, does what was left."""
    for name in SETTLES:
        if (out / PLAIN / name).exists():
            (out / PLAIN / name).rename(out / name)
    shutil.rmtree(out / PLAIN, ignore_errors=True)  # what a kill in the middle of a save left


def _judged(model: RewardModel, held_out: Mapping[str, PairSet], config: RunConfig) -> dict[str, Judged]:
    """What the model says of each set, by name."""
    return {
        name: judged(model, pairs, seed=config.seed, grade=config.grade) for name, pairs in held_out.items()
    }


def _compared(
    found: Mapping[str, Mapping[str, Judged]], held_out: Mapping[str, PairSet], config: RunConfig
) -> dict[str, Any]:
    """The first set's evaluations, and those of all sets where there are several, from found[model][set]."""
    sets = {}
    for where, pairs in held_out.items():
        models = {name: each[where] for name, each in found.items()}
        comparisons = compared(models, PairFacts.of(pairs, config.grade), seed=config.seed)
        evaluations = {name: each.evaluation for name, each in models.items()}
        sets[where] = {"evaluation": evaluations, "comparison": next(iter(comparisons.values()), None)}
    first = next(iter(sets.values()))
    return first if len(sets) == 1 else {**first, "sets": sets}


def write_page(results: Mapping[str, Any], pairs: PairSet, out: Path) -> Path:
    """The report of the results, `out/report.html`, with the pairs that the audit doubts most."""
    from outweigh.report import DoubtfulPair, write_report  # late: matplotlib is slow to load

    doubtful = []
    if (out / STRENGTH).exists():
        table = pq.read_table(out / STRENGTH).to_pydict()
        source = pairs.column("source")
        for place in np.argsort(-np.array(table["wrong_probability"]), kind="stable")[:DOUBTFUL].tolist():
            pair = pairs[place]
            doubtful.append(
                DoubtfulPair(
                    origin=pair.origin,
                    prompt=plain(pair.prompt) if pair.prompt else "",
                    chosen=plain(pair.chosen),
                    rejected=plain(pair.rejected),
                    strength=table["strength"][place],
                    spread=table["spread"][place],
                    wrong_probability=table["wrong_probability"][place],
                    action=table["action"][place],
                    source=None if source is None else source[place],
                )
            )
    return write_report(json.loads(as_json(results)), doubtful, out)
