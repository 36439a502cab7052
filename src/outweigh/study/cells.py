"""One cell of a study: planted flips, audit, repair, training, gaps on the held-out pairs; kept once done."""

import hashlib
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import as_completed
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from outweigh.data.files import content_hash
from outweigh.errors import OutweighError
from outweigh.metrics.detection import auroc
from outweigh.models.features import checkpoint_identity
from outweigh.models.reward import RewardModel
from outweigh.steps.audit import audit
from outweigh.steps.record import Stopwatch, write_json
from outweigh.steps.train import train
from outweigh.study.config import Cell, Study
from outweigh.study.pairs import CHANGED, change_pairs, held_out_pairs, write_pairs
from outweigh.training.config import TrainConfig
from outweigh.training.workers import worker_processes

LAYOUT = 2  # raised when equal cells come to find something else
WORK = "work"  # below the study's folder: what cells under way need


def run_cells(
    study: Study, out: Path, *, jobs: int = 1
) -> Iterator[tuple[Cell, dict[str, Any] | OutweighError, bool]]:
    """Each cell with what it found, or why it failed, and whether it was there already, as they end.

    Done cells lie in `out/cells` under a hash of all that decides them, and are taken from there. With
    several jobs the audits, then the cells, run in processes of their own, which share the cores.
    """
    done, waiting = parted_cells(study, out)
    for cell, file in done.items():
        yield cell, json.loads(file.read_text()), True
    work = [cells[0] for cells in waiting.values()]
    ended = _in_processes(study, work, out, jobs) if jobs > 1 else _in_turn(study, work, out)
    for first, found in ended:
        for cell in waiting[_digest(study, first)]:
            yield cell, found, False


def parted_cells(study: Study, out: Path) -> tuple[dict[Cell, Path], dict[str, list[Cell]]]:
    """The cells that are done, with their files, and the others: those of one key are one piece of work, as
    two names of one method are."""
    done: dict[Cell, Path] = {}
    waiting: dict[str, list[Cell]] = {}
    for cell in study.cells:
        file = _file(study, cell, out)
        if _is_whole(file):
            done[cell] = file
        else:
            waiting.setdefault(file.stem, []).append(cell)
    return done, waiting


def _is_whole(file: Path) -> bool:
    """Whether a cell's results are there; damaged ones are found anew."""
    try:
        return isinstance(json.loads(file.read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def audits_of(study: Study, work: list[Cell], out: Path) -> list[Cell]:
    """Of the cells that share an audit which is not there yet, one each."""
    found = {_hashed(_of_audit(study, cell)): cell for cell in work if study.changes(cell.method).audited}
    return [cell for key, cell in found.items() if not (out / "audits" / key / "done.json").exists()]


def _in_turn(
    study: Study, work: list[Cell], out: Path
) -> Iterator[tuple[Cell, dict[str, Any] | OutweighError]]:
    for cell in work:
        yield cell, run_cell(study, cell, out)


def _in_processes(
    study: Study, work: list[Cell], out: Path, jobs: int
) -> Iterator[tuple[Cell, dict[str, Any] | OutweighError]]:
    with worker_processes(jobs) as workers:
        audits = audits_of(study, work, out)
        for done in [workers.submit(audit_cell, study, cell, out) for cell in audits]:
            done.result()
        running = {workers.submit(run_cell, study, cell, out): cell for cell in work}
        for future in as_completed(running):
            yield running[future], future.result()


def audit_cell(study: Study, cell: Cell, out: Path) -> None:
    """Nothing; the audit that the cell needs is there, unless it fails, which the cell will say."""
    with _folder(study, cell, out) as work, suppress(OutweighError):
        write_pairs(study.data[cell.data], cell, work / "pairs.jsonl")
        _audited(study, cell, out, work / "pairs.jsonl")


def run_cell(study: Study, cell: Cell, out: Path) -> dict[str, Any] | OutweighError:
    """What the cell found: the gaps of the held-out pairs, seconds by part, what was planted and found; or
    why it failed, of which nothing is kept."""
    try:
        with _folder(study, cell, out) as work:
            results = _found_by(study, cell, out, work)
    except OutweighError as error:
        return error
    write_json(_file(study, cell, out), results)
    return results


@contextmanager
def _folder(study: Study, cell: Cell, out: Path) -> Iterator[Path]:
    """A folder of the cell's own, gone afterwards."""
    (out / WORK).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out / WORK, prefix=f"{_digest(study, cell)}-") as work:
        yield Path(work)


def _found_by(study: Study, cell: Cell, out: Path, work: Path) -> dict[str, Any]:
    files, changes = study.data[cell.data], study.changes(cell.method)
    pairs, found, clock = work / "pairs.jsonl", {}, Stopwatch()
    planted = write_pairs(files, cell, pairs)
    if changes.audited:
        audited = _audited(study, cell, out, pairs)
        clock.seconds["audit"] = audited["seconds"]
        found = _found(audited, [] if changes.shuffled else planted)
        with clock("denoise"):
            found["actions"] = change_pairs(audited, changes, cell.seed, work)
        pairs = work / CHANGED
    config = study.training(cell.method, seed=cell.seed, data=cell.data)
    with clock("training"):
        trained = train(pairs, out=work / "run", config=config)
    with clock("scoring"):
        model = RewardModel.load(work / "run" / "model", trust_remote_code=config.trust_remote_code)
        chosen, rejected = model.score_pairs(held_out_pairs(files))
    return {
        "cell": cell._asdict(),
        "gap": [round(float(each), 6) for each in chosen - rejected],
        "seconds": clock.seconds,
        "alarms": trained["train"]["model"]["alarms"],
        "found": found,
    }


def _audited(study: Study, cell: Cell, out: Path, pairs: Path) -> dict[str, Any]:
    """The audit that all methods share on these pairs, done by the first that needs it."""
    folder = out / "audits" / _hashed(_of_audit(study, cell))
    done = folder / "done.json"
    if not done.exists():
        own = pairs.with_name("audit")  # in the cell's folder, so that what fails is gone with it
        own.mkdir()
        shutil.copy(pairs, own / "pairs.jsonl")
        began = time.monotonic()
        training = study.training(study.baseline, seed=cell.seed, data=cell.data)
        audit(own / "pairs.jsonl", out=own, config=study.auditing(seed=cell.seed), training=training)
        (own / "done.json").write_text(json.dumps({"seconds": time.monotonic() - began}))
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(OSError):  # another job was first: its audit is the same
            own.rename(folder)
    return {
        "folder": folder,
        "pairs": folder / "pairs.jsonl",
        "seconds": json.loads(done.read_text())["seconds"],
    }


def _found(audited: dict[str, Any], planted: list[bool]) -> dict[str, Any]:
    """What the audit says, and how well it finds the planted flips."""
    folder: Path = audited["folder"]
    noise = json.loads((folder / "audit.json").read_text())["audit"]["noise_rate"]
    found: dict[str, Any] = {"noise_rate": noise}
    if any(planted):
        table = pq.read_table(folder / "strength.parquet").to_pydict()
        wrong = np.array(planted)[table["row"]]
        found["auroc"] = auroc(np.array(table["wrong_probability"]), wrong)
    return found


def _of_data(study: Study, cell: Cell) -> list[Any]:
    files = study.data[cell.data]
    contents = [_content(files["train"]), _content(files["eval"]) if "eval" in files else None]
    return [LAYOUT, version("outweigh"), *contents, cell.planted, cell.fraction, cell.seed]


def _of_training(training: TrainConfig) -> list[Any]:
    shifted = _content(training.meta.data) if training.meta.data else None
    return [asdict(training), _weights(training.backbone), _weights(training.similarity.encoder), shifted]


def _of_audit(study: Study, cell: Cell) -> list[Any]:
    config, training = (
        study.auditing(seed=cell.seed),
        study.training(study.baseline, seed=cell.seed, data=cell.data),
    )
    voters = [_weights(each) for each in (config.votes.backbone, *config.votes.voters) if each != "columns"]
    told = asdict(config)
    del told["votes"]["jobs"]  # decides nothing but the time
    return [_of_data(study, cell), told, voters, _of_training(training)]


def _digest(study: Study, cell: Cell) -> str:
    """A hash of all that decides the cell: the data, the options, and the weights that they name."""
    changes = study.changes(cell.method)
    training = _of_training(study.training(cell.method, seed=cell.seed, data=cell.data))
    audited = [asdict(changes), _of_audit(study, cell)] if changes.audited else None
    return _hashed([_of_data(study, cell), training, audited])


@cache
def _weights(name: str) -> str:
    return checkpoint_identity(name)


@cache
def _content(path: str) -> str:
    return content_hash(path)


def _hashed(parts: list[Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _file(study: Study, cell: Cell, out: Path) -> Path:
    return out / "cells" / f"{_digest(study, cell)}.json"
