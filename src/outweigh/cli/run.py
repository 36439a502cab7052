"""outweigh run DATA --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.steps.config import RunConfig


@dataclass(frozen=True, kw_only=True)
class Run:
    """train -> audit -> denoise -> train again -> evaluate -> report; a tenth of the prompts is held out.

    Four trainings with full voters, two with --audit.votes.method probes.
    """

    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of pairs."""
    out: Path
    """Folder for everything: strength.parquet, pairs.clean.jsonl, model/, results.json, report.html."""
    eval: tuple[str, ...] = ()
    """Pairs to evaluate on, best with clean labels; the first is the report's."""
    resume: bool = False
    """Take what is finished in DIR as it is, and go on from there, with the same data and settings."""
    on_bad_rows: OnBadRows = "error"
    """skip counts bad rows and lists them in DIR/bad_rows.jsonl."""
    settings: Annotated[RunConfig, tyro.conf.arg(name="")] = field(default_factory=RunConfig)
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and runs."""
    told = parse(Run, arguments)
    from outweigh.cli.show import run_lines, show, show_plan
    from outweigh.steps.plan import planned, run_passes
    from outweigh.steps.run import begun, resolved, run
    from outweigh.training.arguments import check_arguments

    settings = resolved(told.settings)
    if told.common.dry_run:
        check_arguments(settings.train)
        pairs, judged, _ = begun(told.data, told.eval, settings, told.out, told.on_bad_rows, told.resume)
        plan = planned(
            pairs,
            of=told.data,
            model=settings.train.backbone,
            tokens=settings.train.tokens,
            passes=run_passes(settings),
            layers=settings.train.layers,
            trust_remote_code=settings.train.trust_remote_code,
            writes=[f"{told.out}/{name}" for name in ("model", "results.json", "report.html")],
        )
        return show_plan(told.common, plan | {"evaluated_on": sum(map(len, judged.values()))})
    results = run(
        told.data,
        out=told.out,
        eval=told.eval,
        config=settings,
        on_bad_rows=told.on_bad_rows,
        resume=told.resume,
    )
    show(told.common, results, run_lines(results, told.out))
