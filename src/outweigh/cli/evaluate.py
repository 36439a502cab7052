"""outweigh evaluate DATA... --model M --out FILE"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.servers.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Accuracy, calibration and correlation of reward models on pairs, beside "the longer one wins"."""

    data: tyro.conf.Positional[tuple[str, ...]]
    """Files, folders or Hub data sets of pairs."""
    model: tyro.conf.UseAppendAction[tuple[str, ...]]
    """A reward model, or several as one (uwo:A,B, see score); may be repeated, then they are compared on the
    same pairs."""
    out: Path | None = None
    """JSON file for the results."""
    grade: str | None = None
    """Column of graded preference to correlate the gaps with, besides votes and ratings."""
    on_bad_rows: OnBadRows = "error"
    """skip counts bad rows."""
    seed: int = 0
    """Decides the resamples of the intervals."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How a served reward model is asked."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and evaluates."""
    told = parse(Evaluate, arguments)
    from outweigh.cli.show import show, show_plan
    from outweigh.data.config import TokenConfig
    from outweigh.evaluation.tables import comparison_table, evaluation_tables, models_table
    from outweigh.models.ensemble import members_of
    from outweigh.servers.config import is_server, masked
    from outweigh.steps.evaluate import evaluate, read_sets
    from outweigh.steps.plan import planned
    from outweigh.steps.record import check_apart

    if told.common.dry_run:
        if told.out is not None:
            check_apart(told.out, *told.data)
        read = read_sets(told.data, told.grade, told.on_bad_rows)
        names = [name for model in told.model for name in members_of(model).names]
        here = [name for name in names if not is_server(name)]
        if not here:
            served = [masked(name) for name in names]
            return show(
                told.common, {"served": served}, [f"Every text would be sent to {', '.join(served)}."]
            )
        for data, pairs in read.items():
            plan = planned(
                pairs,
                of=data,
                model=here[0],
                tokens=TokenConfig(),
                passes=len(here),
                writes=[str(told.out)] if told.out else [],
            )
            show_plan(told.common, plan)
        return
    results = evaluate(
        list(told.data),
        models=told.model,
        out=told.out,
        grade=told.grade,
        on_bad_rows=told.on_bad_rows,
        seed=told.seed,
        server=told.server,
    )
    tables = []
    for where, found in results["sets"].items():
        models = found["evaluation"]
        if len(models) == 1:
            tables.append(evaluation_tables(*models.values(), title=f"{where}, {next(iter(models))}"))
        else:
            tables.append(models_table(models, title=where))
        for name, comparison in found["comparisons"].items():
            later, _, earlier = name.partition(" - ")
            tables.append(comparison_table(comparison, name_a=later, name_b=earlier))
    show(told.common, results, tables)
