"""Who votes, and how. Imports nothing heavy: --help reads it."""

from dataclasses import dataclass, field, fields
from functools import partial
from typing import Literal

from outweigh.data.config import TokenConfig
from outweigh.errors import ConfigError
from outweigh.models.config import DEPTH
from outweigh.training.config import check_unread


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
        if self.kind not in ("mlp", "linear"):
            raise ConfigError(f"probes kind: got {self.kind!r}, want mlp or linear.")
        for name in ("models", "width", "epochs", "batch_pairs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"probes {name}: got {getattr(self, name)}, want at least 1.")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            raise ConfigError(
                f"probes: got learning_rate {self.learning_rate} and weight_decay {self.weight_decay}, "
                "want more than 0, and at least 0."
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
        self._check_read()
        if not 0 < self.depth <= 1:
            raise ConfigError(f"votes depth: got {self.depth}, want above 0, and 1, all layers, at most.")
        for name in ("trainings", "jobs"):
            if getattr(self, name) < 1:
                raise ConfigError(f"votes {name}: got {getattr(self, name)}, want at least 1.")
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
