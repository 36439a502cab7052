"""outweigh denoise DATA --audit DIR --out FILE"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from outweigh.cli.parse import Common, Shared, parse
from outweigh.denoising.policies import POLICIES, PRESETS, RepairOptions


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """The rows of DATA again, with margin, flip_rate, weight, strength, spread, action and row on each."""

    data: tyro.conf.Positional[str]
    """The data that was audited."""
    audit: Path
    """Folder of the audit."""
    out: Path
    """File for the rows, .jsonl or .jsonl.gz."""
    policy: Literal[  # type: ignore[valid-type]  # the names are the policies' own
        ("auto", *POLICIES, *PRESETS)
    ] = "auto"
    """What to do; auto is what the audit recommends, secrets-... what Secrets of RLHF II did."""
    peer: Annotated[Literal["trl", "openrlhf", "ms-swift"] | None, tyro.conf.arg(name="for")] = None
    """Write the rows that this trainer reads, and say what it ignores."""
    margin_is_signed: bool = False
    """Negate the data's own margin on a flipped row; else it becomes 0, and is counted."""
    options: Annotated[RepairOptions, tyro.conf.arg(name="")] = field(default_factory=RepairOptions)
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and repairs."""
    told = parse(Denoise, arguments)
    from outweigh.cli.show import denoise_lines, show
    from outweigh.steps.denoise import denoise
    from outweigh.steps.record import check_apart

    policy = None if told.policy == "auto" else told.policy
    options = None if told.options == RepairOptions() else told.options  # then the audit's
    check_apart(told.out, told.data)
    counts = denoise(
        told.data,
        audit=told.audit,
        out=None if told.common.dry_run else told.out,
        policy=policy,
        options=options,
        peer=told.peer,
        margin_is_signed=told.margin_is_signed,
    )
    end = "would go to" if told.common.dry_run else "are in"
    show(told.common, counts, [*denoise_lines(counts), f"{counts['written']:,} rows {end} {told.out}."])
