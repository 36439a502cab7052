"""outweigh select MODEL CANDIDATES --out FILE"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.servers.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class Select:
    """Of each row's responses the kept one; with gold scores what the best of n is worth, for every n."""

    model: tyro.conf.Positional[str]
    """A reward model, or several as one (mean:A,B, wco:A,B, uwo:A,B, warm:A,B, see score)."""
    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of rows with `responses`, and `gold` where it is known."""
    out: Path
    """File for the rows, .jsonl or .jsonl.gz; results and picture go beside it, as .results.json and .png."""
    baseline: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Another model to compare with; may be repeated."""
    gold_model: str | None = None
    """A reward model whose rewards are the gold, in place of the column."""
    candidates: int | None = None
    """The largest n of the curve; prompts with fewer responses are left out of it. Without it: the fewest
    that a prompt has, of those with two or more."""
    on_bad_rows: OnBadRows = "error"
    """skip leaves bad rows out, and counts them."""
    seed: int = 0
    """Decides the resamples of the intervals, and the order of equal rewards in a duel."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How a served reward model is asked."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and selects."""
    told = parse(Select, arguments)
    from outweigh.cli.show import selection_lines, show, show_plan
    from outweigh.data.rows import row_candidates
    from outweigh.data.writing import check_lines_name
    from outweigh.steps.plan import planned_scoring
    from outweigh.steps.record import check_apart
    from outweigh.steps.select import beside, check_candidates, select

    if told.common.dry_run:
        check_apart(told.out, told.data)
        check_lines_name(told.out)
        if told.candidates is not None:
            has_judge = told.gold_model is not None
            check_candidates(told.candidates, told.data, has_judge=has_judge, on_bad_rows=told.on_bad_rows)
        writes = [str(told.out), str(beside(told.out, ".results.json"))]
        models = [told.model, *told.baseline, *([told.gold_model] if told.gold_model else [])]
        return show_plan(
            told.common,
            planned_scoring(
                told.data, models=models, writes=writes, parse=row_candidates, on_bad_rows=told.on_bad_rows
            ),
        )
    results = select(
        told.model,
        told.data,
        out=told.out,
        baselines=told.baseline,
        gold_model=told.gold_model,
        candidates=told.candidates,
        on_bad_rows=told.on_bad_rows,
        seed=told.seed,
        server=told.server,
    )
    show(told.common, results, selection_lines(results, told.out))
