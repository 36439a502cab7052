"""outweigh audit DATA --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.errors import ConfigError
from outweigh.steps.config import AuditConfig
from outweigh.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class Audit:
    """How good the labels are: DIR/strength.parquet, a row a pair, and DIR/audit.json for the whole."""

    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of pairs."""
    out: Path
    """Folder for the results."""
    on_bad_rows: OnBadRows = "error"
    """skip counts bad rows and lists them in DIR/bad_rows.jsonl."""
    full: TrainConfig = field(default_factory=TrainConfig)
    """Training of the voters with votes.method full."""
    settings: Annotated[AuditConfig, tyro.conf.arg(name="")] = field(default_factory=AuditConfig)
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and audits."""
    told = parse(Audit, arguments)
    from outweigh.cli.show import audit_lines, show, show_plan
    from outweigh.data.pairs import read_pairs
    from outweigh.steps.audit import audit, check_enough
    from outweigh.steps.plan import passes, planned
    from outweigh.steps.record import check_owner
    from outweigh.steps.votes import check_voters

    votes, full = told.settings.votes, told.settings.votes.method == "full"
    if not full and told.full != TrainConfig():
        raise ConfigError("full: has no meaning without full voters, want votes.method full.")
    if told.common.dry_run:
        check_owner(told.out, "audit")
        pairs = read_pairs(told.data, on_bad_rows=told.on_bad_rows)
        check_enough(pairs)
        check_voters(pairs, told.settings)
        plan = planned(
            pairs,
            of=told.data,
            model=told.full.backbone if full else votes.backbone,
            tokens=told.full.tokens if full else votes.tokens,
            passes=passes(told.settings, told.full),
            layers=told.full.layers if full else None,
            trust_remote_code=full and told.full.trust_remote_code,
            writes=[f"{told.out}/strength.parquet", f"{told.out}/audit.json"],
        )
        return show_plan(told.common, plan)
    found = audit(
        told.data, out=told.out, config=told.settings, training=told.full, on_bad_rows=told.on_bad_rows
    )
    show(told.common, found.results, [*audit_lines(found.results), f"Each pair's strength is in {told.out}."])
