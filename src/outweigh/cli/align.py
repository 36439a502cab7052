"""outweigh align dpo PAIRS --out DIR, and outweigh align rl PROMPTS --reward-model M --out DIR"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from outweigh.align.config import DPOConfig, RLConfig
from outweigh.cli.parse import Common, OnBadRows, Shared, parse
from outweigh.errors import ConfigError
from outweigh.servers.config import ServerConfig
from outweigh.training.config import TrainConfig


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


@dataclass(frozen=True, kw_only=True)
class AlignRL:
    """A policy that learns to raise a reward, in rounds: DIR/policy, DIR/results.json and DIR/report.html."""

    data: tyro.conf.Positional[str]
    """File, folder or Hub data set of rows with a prompt; equal prompts count once."""
    reward_model: str
    """The reward model, served or not, or several as one (uwo:A,B, see score)."""
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
    """skip leaves out rows without a prompt or with one too long, and counts them; bad rows of the pairs are
    listed in DIR/bad_rows.jsonl."""
    settings: Annotated[RLConfig, tyro.conf.arg(name="")] = field(default_factory=RLConfig)
    reward: TrainConfig = field(default_factory=TrainConfig)
    """How the reward model is trained on the pairs between rounds."""
    server: ServerConfig = field(default_factory=ServerConfig)
    """How served reward models are asked."""
    common: Shared = field(default_factory=Common)


def main(arguments: Sequence[str]) -> None:
    """Parses and aligns."""
    if arguments[:1] == ["rl"]:
        return _reinforce(arguments[1:])
    if not {"dpo", "-h", "--help"} & {*arguments}:
        raise ConfigError(f"got {' '.join(arguments[:1]) or 'nothing'}, want dpo or rl first.")
    told = parse(Align, arguments)
    from outweigh.cli.show import cap_lines, policy_lines, show, show_plan
    from outweigh.data.pairs import read_pairs
    from outweigh.evaluation.tables import evaluation_tables
    from outweigh.models.loading import resolve
    from outweigh.models.policy import check_causal
    from outweigh.steps.align import align_dpo
    from outweigh.steps.plan import TRAINING_PASSES, planned
    from outweigh.steps.record import check_owner
    from outweigh.training.arguments import check_arguments
    from outweigh.training.checkpoints import check_begun
    from outweigh.training.fit import checked
    from outweigh.training.items import asked_columns

    if told.common.dry_run:
        check_owner(told.out, "align dpo")
        check_begun(told.out, told.resume, "policy")
        if told.settings.reference is not None:
            resolve(told.settings.reference)
        if told.eval is not None:
            read_pairs(told.eval, on_bad_rows=told.on_bad_rows)
        check_arguments(told.settings.training)
        asked = asked_columns(told.settings.training)
        pairs = read_pairs(told.data, on_bad_rows=told.on_bad_rows, keep=asked)
        checked(pairs, told.settings.training)
        trusted = told.settings.trust_remote_code
        check_causal(told.settings.backbone, trust_remote_code=trusted)
        plan = planned(
            pairs,
            of=told.data,
            model=told.settings.backbone,
            tokens=told.settings.tokens,
            passes=1 + TRAINING_PASSES * told.settings.epochs,  # one for the reference
            trust_remote_code=trusted,
            writes=[f"{told.out}/policy", f"{told.out}/results.json"],
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


def _reinforce(arguments: Sequence[str]) -> None:
    """Parses and trains in rounds."""
    told = parse(AlignRL, arguments, name="align rl")
    from outweigh.cli.show import rl_plan_lines, round_lines, show
    from outweigh.steps.rl import align_rl, planned_rl

    asked: dict[str, Any] = {
        "reward_model": told.reward_model,
        "out": told.out,
        "config": told.settings,
        "reward": told.reward,
        "gold_model": told.gold_model,
        "pairs": told.pairs,
        "eval": told.eval,
        "on_bad_rows": told.on_bad_rows,
    }
    if told.common.dry_run:
        plan = planned_rl(told.data, **asked, resume=told.resume)
        return show(told.common, plan, rl_plan_lines(plan))
    results = align_rl(told.data, **asked, server=told.server, resume=told.resume)
    show(told.common, results, round_lines(results, told.out))
