"""outweigh align rl PROMPTS --reward-model M --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from outweigh.align.config import RLConfig
from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.training.config import TrainConfig


@dataclass(frozen=True, kw_only=True)
class AlignRL:
    """A policy that learns to raise a reward, in rounds: DIR/policy, DIR/results.json and DIR/rounds.png."""

    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of rows with a prompt; equal prompts count once."""
    reward_model: str
    """The reward model, or several as one (uwo:A,B, see score)."""
    out: Path
    """Folder for the policy, the rounds and results."""
    gold_model: str | None = None
    """A reward model that judges and is never trained on: it shows over-optimisation."""
    pairs: str | None = None
    """Preference pairs, on which MetaRM trains the reward model further between rounds."""
    eval: str | None = None
    """Prompts to follow the rounds on; without it some are kept from training."""
    resume: bool = False
    """Go on where an interrupted run ended, within a round or between two."""
    on_bad_rows: OnBadRows = "error"
    """skip leaves out rows without a prompt or with one too long, and counts them."""
    settings: Annotated[RLConfig, tyro.conf.arg(name="")] = field(default_factory=RLConfig)
    reward: TrainConfig = field(default_factory=TrainConfig)
    """How the reward model is trained on the pairs between rounds."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and trains."""
    told = parse(AlignRL, arguments)
    from outweigh.cli.show import rl_plan_lines, round_lines, show
    from outweigh.steps.rl import align_rl, planned_rl

    if told.common.dry_run:
        plan = planned_rl(
            told.data, out=told.out, config=told.settings, eval=told.eval, on_bad_rows=told.on_bad_rows
        )
        return show(told.common, plan, rl_plan_lines(plan))
    results = align_rl(
        told.data,
        reward_model=told.reward_model,
        out=told.out,
        config=told.settings,
        reward=told.reward,
        gold_model=told.gold_model,
        pairs=told.pairs,
        eval=told.eval,
        on_bad_rows=told.on_bad_rows,
        resume=told.resume,
    )
    show(told.common, results, round_lines(results, told.out))
