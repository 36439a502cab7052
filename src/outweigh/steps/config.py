"""The options of the steps put together. Imports nothing heavy: --help reads it."""

from dataclasses import dataclass, field

from outweigh.denoising.policies import POLICIES, PRESETS, RepairOptions, check_options
from outweigh.errors import ConfigError
from outweigh.limits import ABOVE_0, MOST_SEED, check_limits
from outweigh.training.config import TrainConfig
from outweigh.voting.config import VoteConfig


@dataclass(frozen=True, kw_only=True)
class AuditConfig:
    """Who votes, and what is recommended from the votes."""

    votes: VoteConfig = field(default_factory=VoteConfig)
    """The ensemble."""
    policy: str = "auto"
    """What to recommend. auto: where the audit is trusted what was measured best (flip), else keep; a policy
    that is named is taken whatever the audit finds."""
    repair: RepairOptions = field(default_factory=RepairOptions)
    """What the policies leave open."""
    trust: bool = True
    """Plant flips to see whether the voters find them. It costs a training with full voters; voters that came
    trained can't be asked again."""
    seed: int = 0
    """Decides the probes, the folds, the planted flips and the resamples; full voters have training's."""

    def __post_init__(self) -> None:
        check_limits(self, "", {"seed": (0, MOST_SEED)})
        known = ("auto", *POLICIES, *PRESETS)
        if self.policy not in known:
            raise ConfigError(f"policy: got {self.policy!r}, want one of {', '.join(known)}.")
        if not self.trust and self.policy == "auto":
            raise ConfigError("trust: policy auto needs it. Name a policy, as in --policy flip.")
        if self.policy not in ("auto", "keep"):  # whose options are for a policy that is named later
            check_options(self.policy, self.repair)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The whole way of a file of pairs."""

    audit: AuditConfig = field(default_factory=AuditConfig)
    """How the labels are judged; full voters train as `train` says, and the plain model is the first."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """How the reward models are trained, before and after the repair."""
    held_out: float = 0.1
    """Share of the prompts held out to evaluate on where no --eval is given."""
    grade: str | None = None
    """Column of graded preference in the evaluation's pairs to correlate the gaps with."""
    seed: int = 0
    """Decides the held-out part and the intervals; audit and train have their own."""

    def __post_init__(self) -> None:
        check_limits(self, "", {"held_out": (ABOVE_0, 0.99), "seed": (0, MOST_SEED)})
