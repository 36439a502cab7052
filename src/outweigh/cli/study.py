"""outweigh study FILE --out DIR"""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from outweigh.cli.parse import Common, Shared, parse
from outweigh.errors import OutweighError


@dataclass(frozen=True, kw_only=True)
class StudyVerb:
    """A grid of runs, data x noise x fraction x seed x method: DIR/table.md, gains.png, study.json."""

    file: tyro.conf.Positional[Path]
    """YAML with data, methods, seeds, planted, fractions, baseline, and options of train and audit."""
    out: Path
    """Folder for the cells and the table; cells that are there are not run again."""
    jobs: int = 1
    """Cells run at once, in processes that share the cores; their seconds then say less."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and runs the cells."""
    told = parse(StudyVerb, arguments)
    from outweigh.cli.show import show
    from outweigh.study.config import Cell, read_study
    from outweigh.study.plan import planned_study, study_plan_lines
    from outweigh.study.run import run_study
    from outweigh.study.table import console_tables

    study = read_study(told.file)
    if told.common.dry_run:
        plan = planned_study(study, told.out)
        return show(told.common, plan, study_plan_lines(plan))
    ended = 0

    def say(cell: Cell, found: Mapping[str, Any] | OutweighError, known: bool) -> None:
        nonlocal ended
        ended += 1
        if isinstance(found, OutweighError):
            print(f"{ended}/{len(study.cells)} {cell}: failed. {found}", file=sys.stderr, flush=True)
        elif not told.common.quiet:
            right = sum((gap > 0) + (gap == 0) / 2 for gap in found["gap"]) / len(found["gap"])
            how = "known" if known else f"{sum(found['seconds'].values()):.0f} s"
            print(f"{ended}/{len(study.cells)} {cell}: {right:.4f} ({how})", file=sys.stderr, flush=True)

    results = run_study(study, out=told.out, jobs=told.jobs, told=say)
    last = f"The whole table is in {told.out}/table.md, its figure in {told.out}/gains.png."
    show(told.common, results, [*console_tables(results["lines"]), last])
