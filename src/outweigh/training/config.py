"""What a training run can be told, a line of meaning under each field. Imports nothing heavy."""

import math
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from outweigh.data.config import LEAST_TOKENS, TokenConfig
from outweigh.errors import ConfigError
from outweigh.limits import ABOVE_0, MOST_SEED, Limits, check_limits, check_unread
from outweigh.objectives.spec import Spec


@dataclass(frozen=True, kw_only=True)
class SimilarityConfig:
    """How alike two responses are, for the cosine cap; PCRM takes BERT's [CLS] of the whole text."""

    encoder: str = "minilm"
    """A folder, a Hub name, or a bundled model, computed once and kept in the cache."""
    pooling: Literal["mean", "first"] = "mean"
    """Over all tokens, as minilm was made for; first: [CLS], as PCRM has it."""
    text: Literal["whole", "response"] = "whole"
    """Prompt and response, or the response alone."""
    max_tokens: int = 512
    """Longer texts lose the left of their prompt first."""

    def __post_init__(self) -> None:
        check_limits(self, "similarity ", {"max_tokens": (LEAST_TOKENS, math.inf)})


@dataclass(frozen=True, kw_only=True)
class MetaConfig:
    """MetaRM: a step's gradient is taken where the model tells unlabelled responses further apart."""

    data: str | None = None
    """Rows of {prompt, responses} of the policy, or the prompts, that rewards are to hold for; or pairs, the
    labels of which are not read, with responses 2; none: off."""
    responses: int = 5
    """Responses taken of each row, at least two; the paper has 5."""
    prompts: int = 16
    """Rows a step, over all devices."""
    rho: float = 0.01
    """Length of the step in weight space, where eta is none; the log's meta_change says what it does."""
    eta: float | None = None
    """Factor of the gradient instead; the paper's 5e-6 moves a model of 20M parameters not at all."""

    def __post_init__(self) -> None:
        limits = {"responses": (2, math.inf), "prompts": (1, math.inf)}
        check_limits(self, "meta ", limits | {"rho": (ABOVE_0, math.inf), "eta": (0, math.inf)})
        if self.eta is not None and self.rho != type(self).rho:
            raise ConfigError(f"meta: got eta {self.eta} and rho {self.rho}, want one of them.")


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """A contrastive term on the features that the head reads, from two views under dropout of each text."""

    kind: Literal["none", "simcse", "swav"] = "none"
    """simcse: a text's two views against all others of the step; swav: each tells the other's cluster."""
    of: Literal["responses", "differences"] = "responses"
    """Samples: each response's features, or each pair's differences of them, both ways round ("-diff")."""
    coefficient: float | None = None
    """Of the term; None: the paper's: simcse 1, swav .1, swav of differences .5."""
    temperature: float | None = None
    """None: that of the terms' own papers, simcse .05, swav .1; the paper that brings them here has none."""
    prototypes: int | None = None
    """Clusters of swav; None: the paper's 50, of differences 20."""
    epsilon: float = 0.05
    """Softness of swav's assignment to clusters."""
    rounds: int = 3
    """Of Sinkhorn's iteration."""

    def __post_init__(self) -> None:
        above = dict.fromkeys(("coefficient", "temperature", "epsilon"), (ABOVE_0, math.inf))
        check_limits(self, "contrast ", above | dict.fromkeys(("prototypes", "rounds"), (1, math.inf)))
        if self.kind != "swav":
            own = {"kind"} | ({"of", "coefficient", "temperature"} if self.kind == "simcse" else set())
            unread = {each.name for each in fields(self)} - own
            check_unread(self, "contrast ", unread, f"with kind {self.kind}.")


LIMITS: Limits = {
    **dict.fromkeys(("batch_pairs", "device_pairs", "patience", "save_every_steps"), (1, math.inf)),
    **dict.fromkeys(("evaluations", "lora_rank", "lora_alpha"), (1, math.inf)),
    **dict.fromkeys(("learning_rate", "weight_decay", "max_grad_norm"), (0, math.inf)),
    "seed": (0, MOST_SEED),
    "epochs": (ABOVE_0, math.inf),
    "warmup_fraction": (0, 1),
    "dropout": (0, 0.99),
    "validation": (0, 0.99),
}


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """What every training on pairs can be told, of a reward model or of a policy."""

    backbone: str = "minilm"
    """A folder, a Hub name, or a bundled model: minilm, smollm2."""
    margin: Spec = "auto"
    """Gap demanded: none, a number, column, rating, rating-log, strength, batch or batch-exponential; auto:
    the column if there is one."""
    flip_rate: Spec = "auto"
    """Chance that a label is wrong: none, a number, column, rating, votes or robust."""
    cap: Spec = "auto"
    """Gap allowed: none, a number, column, length, cosine, learned or random."""
    weight: Spec = "auto"
    """Weight of a pair: none, a number, column, rating or row (a row of K responses weighs as one pair)."""
    batch_pairs: int = 16
    """Pairs (listwise: rows) an optimizer step, over all devices."""
    device_pairs: int | None = None
    """Pairs a device takes at once; smaller ones are accumulated. None: the whole step, cut
    into parts where no loss needs all of it and no model is sharded: more pairs take no more memory."""
    epochs: float = 1.0
    """Passes over the pairs."""
    learning_rate: float | None = None
    """None: 5e-5 for all layers of an encoder, 1e-5 of a causal model, 2e-4 for adapters, 1e-3 for a head."""
    warmup_fraction: float = 0.05
    """Share of the steps over which the learning rate rises."""
    schedule: str = "linear"
    """How the learning rate falls: any of transformers' names (linear, cosine, constant_with_warmup, ...)."""
    weight_decay: float = 0.01
    """AdamW's decay of the weights, biases and norms excepted."""
    max_grad_norm: float = 1.0
    """Gradient norm above which it is scaled down; 0 leaves it."""
    dropout: float = 0.0
    """Rate in every place where the architecture has dropout."""
    gradient_checkpointing: bool = False
    """Compute the activations again in the backward pass: less memory, more time."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """bf16 runs the layers in bfloat16 where the machine has it; head and loss are float32 always."""
    lora_rank: int = 16
    """Rank of the adapters."""
    lora_alpha: int = 32
    """Their scale, divided by the rank."""
    validation: float = 0.05
    """Share of the prompts kept from training to watch it; 0 watches the training pairs alone."""
    evaluations: int = 4
    """Evaluations on the validation part at most, equally spaced; the last one at the end."""
    keep: Literal["last", "best"] = "last"
    """Which weights: the last ones, or those of the best validation log loss (noisy labels choose early)."""
    patience: int | None = None
    """Stop after this many evaluations without a better log loss; then the best weights are kept."""
    save_every_steps: int | None = None
    """Optimizer steps between checkpoints to resume from; None: at each evaluation."""
    stop_on_alarm: bool = False
    """End training at the first alarm instead of naming it and going on."""
    tokens: TokenConfig = field(default_factory=TokenConfig)
    """Length and rendering of the texts."""
    similarity: SimilarityConfig = field(default_factory=SimilarityConfig)
    """What the cosine of a pair is of."""
    seed: int = 0
    """Decides the head's first weights, the order of the pairs and the validation part."""
    trust_remote_code: bool = False
    """Run code that a checkpoint brings along."""
    trainer: dict[str, Any] = field(default_factory=dict)
    """Any further transformers.TrainingArguments: report_to, fsdp, deepspeed, push_to_hub, optim, ..."""

    def __post_init__(self) -> None:
        check_limits(self, "", LIMITS)
        if self.validation == 0 and (self.keep == "best" or self.patience is not None):
            asked = "keep best" if self.patience is None else "patience"
            raise ConfigError(f"{asked}: got validation 0, which leaves nothing to choose by. Raise it.")


def check_adapters(config: Any) -> None:
    """Nothing, if the adapters' options stand beside method lora alone.

    Raises:
        ConfigError: they stand beside another.
    """
    if config.method != "lora":
        unread = f"with method {config.method}, want method lora."
        check_unread(config, "", ("lora_rank", "lora_alpha"), unread)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(FitConfig):
    """A reward model's training."""

    method: Literal["full", "lora", "frozen"] = "full"
    """What is trained: every layer, low-rank adapters and the head, or the head alone, where the head is all
    that the class adds to the backbone."""
    layers: int | None = None
    """Train and keep the first layers of the backbone alone, so many; None: all."""
    objective: Literal["pairs", "listwise"] = "pairs"
    """pairs: the pairwise equation; listwise: Plackett-Luce over the K responses of a row."""
    loss_at: Literal["last", "tokens"] = "last"
    """last: one gap a pair, where the reward is read; tokens: at every token from the first in which the
    responses differ, as PCRM's code has it, of causal models alone."""
    auxiliary: dict[str, float] = field(default_factory=dict)
    """Further terms and their coefficients: centring keeps each pair's rewards near 0 in sum, batch-sum those
    of a step."""
    meta: MetaConfig = field(default_factory=MetaConfig)
    """MetaRM's step."""
    contrast: ContrastConfig = field(default_factory=ContrastConfig)
    """The contrastive term; it needs dropout, which the paper has at 0.05."""
    beside: str | None = None
    """Folder of a plain training on the same pairs: an alarm tells where accuracy falls under its."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "", {"layers": (1, math.inf)})
        check_adapters(self)
        for name, value in self.auxiliary.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
                raise ConfigError(f"auxiliary {name}: got {value!r}, want a number of 0 or more.")
        if self.gradient_checkpointing and self.method == "frozen":
            raise ConfigError("gradient_checkpointing: saves nothing with method frozen. Leave it off.")
