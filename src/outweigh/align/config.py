"""What a policy's training can be told. Imports nothing heavy."""

from dataclasses import dataclass, fields
from typing import Literal

from outweigh.errors import ConfigError
from outweigh.training.config import FitConfig, TrainConfig


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
    """None: 1e-6 for all layers, 1e-5 for adapters, as TRL has it."""
    beta: float = 0.1
    """Nats of reward a nat of log-ratio: the smaller, the further the policy may move."""
    loss: Literal["logistic", "squared"] = "logistic"
    """logistic: the pairwise equation with every source; squared: IPO, which takes a weight alone."""
    average: bool | None = None
    """Log-ratios as means over the response's tokens; None: sums for logistic, means for squared, as TRL."""

    def __post_init__(self) -> None:
        if not self.beta > 0:
            raise ConfigError(f"beta: got {self.beta}, want more than 0.")
        for name, known in (("method", ("full", "lora")), ("loss", ("logistic", "squared"))):
            if getattr(self, name) not in known:
                raise ConfigError(f"{name}: got {getattr(self, name)!r}, want {' or '.join(known)}.")
        for name in ("margin", "flip_rate", "cap"):
            if self.loss == "squared" and getattr(self, name) not in ("auto", "none", None):
                raise ConfigError(f"loss squared: takes no {name}, want none; or loss logistic.")

    @property
    def averaged(self) -> bool:
        """Whether log-ratios are means over tokens."""
        return self.loss == "squared" if self.average is None else self.average

    @property
    def training(self) -> TrainConfig:
        """What the trainer of reward models has of this."""
        shared = {each.name: getattr(self, each.name) for each in fields(FitConfig)}
        if self.loss == "squared":
            shared |= {"margin": "none", "flip_rate": "none", "cap": "none"}
        return TrainConfig(**shared, method=self.method)
