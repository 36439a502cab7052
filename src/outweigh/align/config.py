"""What a policy's training can be told. Imports nothing heavy."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Literal

from outweigh.align.shaping import ShapingConfig
from outweigh.errors import ConfigError
from outweigh.limits import ABOVE_0, MOST_SEED, check_limits
from outweigh.objectives.spec import Spec
from outweigh.training.config import FitConfig, TrainConfig, check_adapters

RATES = {"full": 1e-6, "lora": 1e-5}
"""Learning rates where none is given: TRL's default, and ten times it for adapters; not tuned."""


@dataclass(frozen=True, kw_only=True)
class DPOConfig(FitConfig):
    """Direct preference optimisation, where a response's reward is beta log(policy / reference)."""

    backbone: str = "smollm2"
    """The policy to train: a folder, a Hub name, or the bundled smollm2."""
    reference: str | None = None
    """The policy that rewards are relative to; None: the one that training starts from."""
    method: Literal["full", "lora"] = "full"
    """What is trained: every layer, or low-rank adapters."""
    learning_rate: float | None = None
    """None: 1e-6 for all layers, as TRL has it, and 1e-5 for adapters."""
    beta: float = 0.1
    """Nats of reward a nat of log-ratio: the smaller, the further the policy may move."""
    loss: Literal["logistic", "squared"] = "logistic"
    """logistic: the pairwise equation with every source; squared: IPO, which takes a weight alone."""
    average: bool | None = None
    """Log-ratios as means over the response's tokens; None: sums for logistic, means for squared, as TRL."""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_limits(self, "", {"beta": (ABOVE_0, math.inf)})
        check_adapters(self)
        for name in ("margin", "flip_rate", "cap"):
            if self.loss == "squared" and getattr(self, name) not in ("auto", "none", None):
                raise ConfigError(f"loss squared: takes no {name}, want none; or loss logistic.")

    @property
    def averaged(self) -> bool:
        """Whether log-ratios are means over tokens."""
        return self.loss == "squared" if self.average is None else self.average

    @property
    def rate(self) -> float:
        """The learning rate."""
        return RATES[self.method] if self.learning_rate is None else self.learning_rate

    @property
    def training(self) -> TrainConfig:
        """What the trainer of reward models has of this."""
        shared = {each.name: getattr(self, each.name) for each in fields(FitConfig)}
        shared["cap"] = _for_policies(self.cap)
        if self.loss == "squared":
            shared |= {"margin": "none", "flip_rate": "none", "cap": "none"}
        return TrainConfig(**shared, method=self.method)


def _for_policies(cap: Spec) -> Spec:
    """PCDPO's preset for a cap by length or cosine that names none, and its form of the cosine where the beta
    is told; those of reward models are others."""
    options = {"source": cap} if isinstance(cap, str) else cap
    if not isinstance(options, Mapping) or options.get("source") not in ("length", "cosine"):
        return cap
    if "preset" in options:
        return cap
    if "beta" not in options:
        return {**options, "preset": "dialogue-dpo"}
    return {"form": "raw", **options} if options["source"] == "cosine" else cap


@dataclass(frozen=True, kw_only=True)
class RLConfig:
    """Rounds in which a policy learns to raise a reward, through TRL."""

    policy: str = "smollm2"
    """The policy to start from: a folder, a Hub name, or the bundled smollm2."""
    algorithm: Literal["rloo", "grpo"] = "rloo"
    """rloo: a response's advantage is its reward less the mean of its siblings'; grpo: over their std,
    too."""
    rounds: int = 1
    """Rounds; between them the reward model learns from `pairs`, where they are given. 0: what the first
    policy says is judged, and the prompts are written for PPO elsewhere."""
    method: Literal["full", "lora"] = "lora"
    """What is trained: every layer, or low-rank adapters."""
    lora_rank: int = 16
    """Rank of the adapters."""
    lora_alpha: int = 32
    """Their scale, divided by the rank."""
    learning_rate: float | None = None
    """None: 1e-6 for all layers, 1e-5 for adapters."""
    epochs: float = 1.0
    """Passes over the prompts, each round."""
    batch_prompts: int = 8
    """Prompts an optimizer step."""
    n: int = 4
    """Responses to each prompt, two or more."""
    device_responses: int = 8
    """Responses a device takes at once; smaller ones are accumulated."""
    kl: float = 0.05
    """Weight of the divergence from the first policy: with rloo, nats of reward a nat of it; with grpo, of a
    term of the loss beside advantages that are over their deviation."""
    temperature: float = 1.0
    """Responses are drawn at it."""
    top_p: float = 1.0
    """And from the likeliest tokens that together have this probability."""
    max_new_tokens: int = 128
    """A response is cut after so many tokens."""
    shaping: ShapingConfig = field(default_factory=ShapingConfig)
    """What is done to rewards first."""
    eval_prompts: int = 32
    """Prompts kept from training to follow the rounds on, where no file of them is given."""
    eval_n: int = 4
    """Responses to each of those."""
    meta_responses: int = 5
    """Responses of the current policy to each prompt, for MetaRM between rounds."""
    stop: bool = True
    """End the rounds where gold falls while the reward rises."""
    seed: int = 0
    """Decides adapters, order and what is drawn."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """auto: bf16 where the device has it."""

    def __post_init__(self) -> None:
        ones = ("batch_prompts", "device_responses", "max_new_tokens", "eval_n", "lora_rank", "lora_alpha")
        above = ("learning_rate", "temperature", "epochs")
        limits = dict.fromkeys(ones, (1, math.inf)) | dict.fromkeys(above, (ABOVE_0, math.inf))
        limits |= dict.fromkeys(("n", "eval_prompts", "meta_responses"), (2, math.inf))
        limits |= dict.fromkeys(("rounds", "kl"), (0, math.inf))
        limits |= {"seed": (0, MOST_SEED), "top_p": (ABOVE_0, 1)}
        check_limits(self, "", limits)
        check_adapters(self)
        if (self.batch_prompts * self.n) % self.device_responses:
            raise ConfigError(
                f"device_responses: got {self.device_responses}, want a divisor of batch_prompts x n, "
                f"{self.batch_prompts} x {self.n}."
            )

    @property
    def rate(self) -> float:
        """The learning rate."""
        return RATES[self.method] if self.learning_rate is None else self.learning_rate
