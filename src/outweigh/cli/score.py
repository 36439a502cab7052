"""outweigh score MODEL DATA --out FILE"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.servers.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class Score:
    """Each row of DATA with the rewards of its texts: reward_chosen, reward_rejected, gap; or rewards."""

    model: tyro.conf.Positional[str]
    """A reward model: a folder, a Hub name, or the URL of a served one, http://.../get_reward (OpenRLHF; add
    #NAME of the tokenizer that renders for it) or .../classify (vLLM); or several as one: mean:A,B, wco:A,B
    (worst case), uwo:A,B (less half of the variance; uwo(0.1):A,B a tenth) or warm:A,B (mean weights)."""
    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of pairs or of rows with `responses`."""
    out: Path
    """File for the rows, .jsonl or .jsonl.gz; one that is there is not written over."""
    on_bad_rows: OnBadRows = "error"
    """skip leaves bad rows out and says how many they are."""
    resume: bool = False
    """Go on where a run of the same data and model was killed; what is finished stands in FILE.unfinished."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How a served reward model is asked."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and scores."""
    told = parse(Score, arguments)
    from outweigh.cli.show import scoring_lines, show, show_plan
    from outweigh.steps.plan import planned_scoring
    from outweigh.steps.record import check_apart
    from outweigh.steps.score import score
    from outweigh.steps.unfinished import check_free

    if told.common.dry_run:
        check_apart(told.out, told.data)
        check_free(told.out, told.resume)
        plan = planned_scoring(
            told.data, models=[told.model], writes=[str(told.out)], on_bad_rows=told.on_bad_rows
        )
        return show_plan(told.common, plan)
    results = score(
        told.model,
        told.data,
        out=told.out,
        server=told.server,
        on_bad_rows=told.on_bad_rows,
        resume=told.resume,
    )
    show(told.common, results, scoring_lines(results))
