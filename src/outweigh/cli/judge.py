"""outweigh judge PAIRS --by JUDGE, or outweigh judge A --against B --by JUDGE"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.servers.config import ServerConfig


@dataclass(frozen=True, kw_only=True)
class JudgeVerb:
    """A win rate, by gold scores, a reward model or a model behind a server; of pairs, agreement with
    people."""

    data: tyro.conf.Positional[str]
    """Pairs; or, with --against, rows of `responses`, of which the kept one (or the first) is judged."""
    by: str
    """A reward model (served or not, or several as one, uwo:A,B: see score), the URL of an OpenAI-compatible
    server, or gold: the rows' own scores."""
    against: str | None = None
    """The rows to win against, matched by prompt."""
    out: Path | None = None
    """File for the verdicts, .jsonl or .jsonl.gz: 1 for the first (or the chosen), 0 for the other, .5 a
    tie."""
    on_bad_rows: OnBadRows = "error"
    """skip leaves bad rows out and says how many they are."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How a server is asked."""
    prices: tuple[float, float] | None = None
    """Price of a million tokens that the server reads, and of a million that it says, to count the cost."""
    max_tokens: int = 512
    """Tokens of an answer of a model behind a server, its reasons among them; one that thinks needs more."""
    seed: int = 0
    """Decides which side stands first, and the resamples of the intervals."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and judges."""
    told = parse(JudgeVerb, arguments)
    from outweigh.cli.show import judge_lines, show
    from outweigh.steps.judge import judge, planned_judging

    asked: dict[str, Any] = {
        "by": told.by,
        "out": told.out,
        "prices": told.prices,
        "max_tokens": told.max_tokens,
        "on_bad_rows": told.on_bad_rows,
    }
    if told.common.dry_run:
        plan = planned_judging(told.data, told.against, **asked)
        again = " Those whose answer has no verdict are asked again, twice at most." if plan["asked"] else ""
        said = f"{plan['matches']:,} pairs of responses, {plan['asked']:,} questions.{again}"
        return show(told.common, plan, [said])
    results = judge(told.data, told.against, **asked, server=told.server, seed=told.seed)
    show(told.common, results, judge_lines(results))
