"""`outweigh study`: every cell, then the table and the figure of those that ended well."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from outweigh.data.pairs import read_pairs
from outweigh.data.writing import replaced_whole
from outweigh.denoising.rows import WRITTEN
from outweigh.errors import ConfigError, DataError, OutweighError, TrainingError
from outweigh.steps.lock import alone
from outweigh.steps.record import headed, write_json
from outweigh.study.cells import WORK, run_cells
from outweigh.study.config import Cell, Study, read_study
from outweigh.study.pairs import check_rows
from outweigh.study.plot import draw_gains
from outweigh.study.table import markdown, study_lines
from outweigh.training.arguments import check_arguments
from outweigh.training.config import MetaConfig
from outweigh.training.fit import check_training
from outweigh.training.items import asked_columns
from outweigh.training.meta import check_responses
from outweigh.training.workers import check_jobs

Told = Callable[[Cell, dict[str, Any] | OutweighError, bool], None]


@alone
def run_study(
    study: str | Path | Study, *, out: str | Path, jobs: int = 1, told: Told | None = None
) -> dict[str, Any]:
    """The lines of the study's table, as in `out/study.json`, with `out/table.md` and `out/gains.png`.

    Cells that are done lie in `out/cells` and are not run again, so that a study may be interrupted, or grow;
    of an interrupted one the table of what is done is written.
    `told` is called with each cell as it ends, what it found, and whether it was there already.

    Raises:
        ConfigError: before the first cell, where the study can't mean what it says.
        TrainingError: cells failed; the table of the others is written before.
    """
    study = study if isinstance(study, Study) else read_study(Path(study))
    check_jobs(jobs)
    check_study(study)  # before an hour has passed
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(out / WORK, ignore_errors=True)  # of cells that a kill has ended
    found: dict[Cell, dict[str, Any]] = {}
    failed: dict[Cell, OutweighError] = {}
    try:
        for cell, each, known in run_cells(study, out, jobs=jobs):
            if isinstance(each, OutweighError):
                failed[cell] = each
            else:
                found[cell] = each
            if told is not None:
                told(cell, each, known)
    finally:  # of an interrupted study, too
        results = _written(study, out, found, failed)
    if failed:
        (cell, error), *_ = failed.items()
        raise TrainingError(
            f"study: {len(failed)} of {len(study.cells)} cells failed, the first: {cell}: {error} The others "
            f"are in {out / 'table.md'}."
        )
    return results


def check_study(study: Study) -> None:
    """Nothing, if each of its cells can be trained.

    Raises:
        ConfigError: one can't.
    """
    for files in study.data.values():
        check_rows(files["train"])
    columns, enough = cache(_columns), cache(check_responses)  # of data that several methods read alike
    for method in study.methods:
        _check(study, method, columns, enough)


def _columns(train: str, asked: tuple[str, ...]) -> frozenset[str]:
    return frozenset(read_pairs(train, keep=asked).columns)


def _check(
    study: Study,
    method: str,
    columns: Callable[[str, tuple[str, ...]], frozenset[str]],
    enough: Callable[[MetaConfig], None],
) -> None:
    """Nothing, once each cell of the method can be trained: its data has the columns that it asks for, or a
    repair is to add them, and what it takes as shifted has enough responses.

    Raises:
        ConfigError: it can't.
    """
    try:
        training = study.training(method, seed=0)
        if training.objective == "listwise":
            raise ConfigError("objective listwise: a study's data are pairs, want pairs.")
        asked = tuple(asked_columns(training))
        added = frozenset(WRITTEN if study.changes(method).audited else ())
        given = tuple(name for name in asked if name not in added)
        for files in study.data.values():
            check_training(training, columns(files["train"], given) | added)
        if training.meta.data is not None:
            for name in study.data:
                enough(study.training(method, seed=0, data=name).meta)
        check_arguments(training)
    except (ConfigError, DataError) as error:
        raise ConfigError(f"methods {method}: {error}") from None


def _written(
    study: Study, out: Path, found: Mapping[Cell, dict[str, Any]], failed: Mapping[Cell, OutweighError]
) -> dict[str, Any]:
    """What goes into `out/study.json`, written there, with the table and the figure of the cells found."""
    lines = study_lines(study, {cell: found[cell] for cell in study.cells if cell in found})
    results = headed("study", 0) | {
        "study": asdict(study),
        "lines": [asdict(line) for line in lines],
        "failed": {str(cell): str(error) for cell, error in failed.items()},
    }
    write_json(out / "study.json", results)
    with replaced_whole(out / "table.md") as file:
        file.write(markdown(study, lines).encode())
    draw_gains(lines, out / "gains.png")
    return results
