"""Who votes, and how. Imports nothing heavy: --help reads it."""

import math
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Literal

from outweigh.data.config import TokenConfig
from outweigh.errors import ConfigError
from outweigh.limits import ABOVE_0, check_limits, check_unread
from outweigh.models.config import DEPTH


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """How the heads are built and trained. The defaults are measured: docs/measurements.md, noise metrics."""

    models: int = 10
    """Heads that are trained; with folds, a fold."""
    kind: Literal["mlp", "linear"] = "mlp"
    """A hidden layer under the reward, or none."""
    width: int = 32
    """Hidden units of an mlp head."""
    epochs: int = 4
    """Passes over the pairs; few, so that the heads do not learn wrong labels by heart."""
    learning_rate: float = 1e-3
    """Of AdamW, the same at every step."""
    weight_decay: float = 1.0
    """Of AdamW."""
    batch_pairs: int = 128
    """Pairs a step."""
    second_look: bool = True
    """As many more heads are taught what the votes of the first make of each label, and vote beside them:
    together they find more (docs/measurements.md). How many are wrong the first say, of labels unseen."""

    def __post_init__(self) -> None:
        whole = dict.fromkeys(("models", "width", "epochs", "batch_pairs"), (1, math.inf))
        check_limits(
            self,
            "probes ",
            {**whole, "learning_rate": (ABOVE_0, math.inf), "weight_decay": (0, math.inf)},
        )


@dataclass(frozen=True, kw_only=True)
class VoteConfig:
    """Which ensemble judges each pair."""

    method: Literal["auto", "probes", "full"] = "auto"
    """probes: heads on a frozen backbone's features; full: whole reward models, as published, while the
    probes tell how many labels are wrong; auto: full in run, which trains the first anyway, else probes."""
    backbone: str = "minilm"
    """The probes' backbone: a folder, a Hub name, or a bundled model: minilm, smollm2."""
    depth: float = DEPTH
    """Share of that backbone's layers below the features. Half of smollm2's find as much as two thirds, in
    three quarters of the time (docs/measurements.md)."""
    voters: tuple[str, ...] = ()
    """Reward models that exist, to vote instead; or `columns`: the data's own scores or mean difference."""
    vote: Literal["in-sample", "out-of-fold"] = "in-sample"
    """in-sample: on the pairs trained on, as published; out-of-fold: by models that have not seen them."""
    folds: int = 5
    """Parts of the data for out-of-fold votes."""
    unit: Literal["prompt", "text", "pair"] = "prompt"
    """What no two folds share; where there are fewer than 5 of it the next finer one is taken, and said."""
    probes: ProbeConfig = field(default_factory=ProbeConfig)
    """The heads."""
    trainings: int = 2
    """Full voters, a training each; the paper has 10."""
    witness_votes: bool = False
    """With full voters in-sample: the probes, their witness, vote too, at their scale, with as much weight.
    On another backbone than the trained one they find what it does not (docs/measurements.md)."""
    jobs: int = 1
    """Full voters trained at once, each in a process with its share of the cores, and memory of its own."""
    tokens: TokenConfig = field(default_factory=lambda: TokenConfig(max_tokens=256))
    """Length and rendering of the texts that the probes read."""

    def __post_init__(self) -> None:
        whole = dict.fromkeys(("trainings", "jobs"), (1, math.inf))
        check_limits(self, "votes ", {**whole, "depth": (ABOVE_0, 1), "folds": (2, math.inf)})
        self._check_read()
        if self.witness_votes and (self.method == "probes" or self.vote == "out-of-fold" or self.voters):
            raise ConfigError(
                "votes witness_votes: got no full voters that vote in-sample, beside whom the probes could. "
                "Set votes.method to full."
            )
        if self.witness_votes and self.probes.models < self.trainings:
            raise ConfigError(
                f"votes witness_votes: got {self.probes.models} heads for {self.trainings} full voters, want "
                "as many or more. Raise probes.models."
            )

    def _check_read(self) -> None:
        """Nothing, if every option that is given is one that these voters read."""
        check = partial(check_unread, self, "votes ")
        if self.voters:
            own = ("voters", "witness_votes")
            unread = [each.name for each in fields(self) if each.name not in own]
            check(unread, "beside votes.voters, who came trained.")
        if self.method == "probes":
            check(("trainings", "jobs"), "with probes, want votes.method full.")
        if self.method == "full" and self.vote == "out-of-fold":
            unread = ["backbone", "depth", "probes", "tokens"]
            check(unread, "with full voters out-of-fold, beside whom no probes vote.")
        if self.vote == "in-sample":
            check(("folds", "unit"), "with votes in-sample, want votes.vote out-of-fold.")
