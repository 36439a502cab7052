"""outweigh align dpo DATA --out DIR; of align rl, see align_rl."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from outweigh.align.config import DPOConfig
from outweigh.cli import align_rl
from outweigh.cli.parse import Common, OnBadRows, Shared, parse


@dataclass(frozen=True, kw_only=True)
class Align:
    """A policy from pairs: DIR/policy and DIR/results.json."""

    by: tyro.conf.Positional[Literal["dpo"]]
    """dpo: direct preference optimisation on the pairwise equation, with every source of train. There is
    also rl, rounds against a reward model: outweigh align rl --help."""
    data: tyro.conf.Positional[str]
    """File, folder or Hub data set to train on."""
    out: Path
    """Folder for the policy, its checkpoints and results."""
    eval: str | None = None
    """Pairs to evaluate the finished policy's implicit reward on, once."""
    resume: bool = False
    """Go on from the newest whole checkpoint in DIR."""
    on_bad_rows: OnBadRows = "error"
    """skip counts bad rows and lists them in DIR/bad_rows.jsonl."""
    settings: Annotated[DPOConfig, tyro.conf.arg(name="")] = field(default_factory=DPOConfig)
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and aligns."""
    if arguments[:1] == ["rl"]:
        return align_rl.main(arguments[1:])
    told = parse(Align, arguments)
    from outweigh.cli.show import cap_lines, policy_lines, show, show_plan
    from outweigh.evaluation.tables import evaluation_tables
    from outweigh.steps.align import align_dpo
    from outweigh.steps.plan import TRAINING_PASSES, planned

    if told.common.dry_run:
        plan = planned(
            told.data,
            model=told.settings.backbone,
            tokens=told.settings.tokens,
            passes=1 + TRAINING_PASSES * told.settings.epochs,  # one for the reference
            writes=[f"{told.out}/policy", f"{told.out}/results.json"],
            on_bad_rows=told.on_bad_rows,
        )
        return show_plan(told.common, plan)
    results = align_dpo(
        told.data,
        out=told.out,
        config=told.settings,
        eval=told.eval,
        on_bad_rows=told.on_bad_rows,
        resume=told.resume,
    )
    policy = results["align"]["policy"]
    found = results.get("evaluation", {}).values()
    tables = [evaluation_tables(each, title=f"{told.eval}, implicit reward") for each in found]
    last = f"The policy is in {told.out / 'policy'}."
    show(told.common, results, [*tables, *cap_lines(policy), *policy_lines(policy), last])
