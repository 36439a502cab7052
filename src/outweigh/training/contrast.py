"""The contrastive term of an optimizer step: over all its responses, in whatever batches, on all devices."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from outweigh.errors import ConfigError, TrainingError
from outweigh.models.loading import reward_layer
from outweigh.objectives.contrastive import signed_differences, simcse, swav
from outweigh.training.config import ContrastConfig, TrainConfig

PROTOTYPES = "prototypes"
"""Name of the module that holds swav's clusters while a model is trained; saved in checkpoints only."""


class Setting(NamedTuple):
    """What a contrastive term has by default."""

    coefficient: float
    temperature: float
    prototypes: int = 0


SETTINGS = {
    ("simcse", "responses"): Setting(1.0, 0.05),
    ("simcse", "differences"): Setting(1.0, 0.05),
    ("swav", "responses"): Setting(0.1, 0.1, 50),
    ("swav", "differences"): Setting(0.5, 0.1, 20),
}
"""Coefficient and prototypes of Wang et al. 2024, arXiv:2401.06080, appendix B.2; temperatures of the terms'
own papers."""


class Contrast:
    """Adds `coefficient * mean over the step's samples of the term` to the step's loss.

    Negatives and clusters are those of the whole optimizer step: the features of other batches and devices
    come from a first pass without gradient, under the same dropout, so that each batch's gradient is its
    share of the whole step's. The ranking loss is the mean over both views. `seen` has the last batch's term,
    and its share of the loss.

    Source: Wang et al. 2024, arXiv:2401.06080, section 3.1. That the features are what the reward's layer
        reads is reconstructed; that the ranking loss takes the mean of both views, the first standing for the
        original, is our reading.
    """

    def __init__(self, config: ContrastConfig, prototype_KH: Tensor | None) -> None:
        default = SETTINGS[config.kind, config.of]
        self.config = config
        self.prototype_KH = prototype_KH
        self.coefficient = default.coefficient if config.coefficient is None else config.coefficient
        self.temperature = default.temperature if config.temperature is None else config.temperature
        self.seen: dict[str, Tensor] = {}

    def term(self, own_VRH: Tensor, whole_SVH: Tensor, start: int, *, beside: Tensor) -> Tensor:
        """The batch's share of the term, a scalar, from the features of its responses, with gradient, and the
        whole step's, without. The batch's stand at `start` among them; `beside` is its ranking loss.

        A batch without responses has a share of 0 that still reaches the clusters: DDP waits for the gradient
        of each weight.

        Raises:
            TrainingError: both views are the same: nothing in the model drops out.
        """
        if not own_VRH.shape[1]:
            return own_VRH.sum() if self.prototype_KH is None else own_VRH.sum() + 0 * self.prototype_KH.sum()
        if torch.equal(own_VRH[0], own_VRH[1]):
            raise TrainingError(
                "contrast: both views of every text are the same, so the model has no dropout where it would "
                "matter. Choose another backbone, or contrast none."
            )
        count, end = len(whole_SVH), start + own_VRH.shape[1]
        views = [
            torch.cat([whole_SVH[:start, view], own, whole_SVH[end:, view]])
            for view, own in enumerate(own_VRH)
        ]
        if self.config.of == "differences":
            views = [signed_differences(view) for view in views]
        with torch.autocast(own_VRH.device.type, enabled=False):
            loss_S = self._losses(*views)
        own = loss_S[start:end].sum() / count
        # A text is negative to every other sample: its gradient is of all losses, those of other batches too
        total = loss_S.sum() / count if self.config.kind == "simcse" else own
        share: Tensor = self.coefficient * (total + (own - total).detach())
        self.seen = {"contrast": own.detach() * count / (end - start)}
        self.seen["contrast_share"] = share.detach() / (share.detach() + beside.detach().abs())
        return share

    def _losses(self, view_SH: Tensor, other_SH: Tensor) -> Tensor:
        if self.prototype_KH is None:
            return simcse(view_SH, other_SH, temperature=self.temperature)
        return swav(
            view_SH,
            other_SH,
            self.prototype_KH,
            temperature=self.temperature,
            epsilon=self.config.epsilon,
            rounds=self.config.rounds,
        )


def check_contrast(config: TrainConfig) -> None:
    """Nothing, once the rest of the configuration leaves the term something to do.

    Raises:
        ConfigError: no dropout, untrained layers, rows of K responses, or clusters on sharded weights.
    """
    kind = config.contrast.kind
    if kind == "none":
        return
    if config.dropout == 0:
        raise ConfigError(
            f"contrast {kind}: got dropout 0, which makes both views the same, want 0.05 or so."
        )
    if config.method == "frozen":
        raise ConfigError(
            f"contrast {kind}: got method frozen, whose features never change, want full or lora."
        )
    if config.objective == "listwise":
        raise ConfigError(f"contrast {kind}: got objective listwise, want pairs.")
    sharding = [name for name in ("fsdp", "deepspeed") if config.trainer.get(name)]
    if kind == "swav" and sharding:
        raise ConfigError(
            f"contrast swav: got {sharding[0]}, which would cut the clusters in pieces. Train with DDP, or "
            "with simcse."
        )


def add_prototypes(model: Any, config: TrainConfig) -> None:
    """Nothing; a model that is to be trained with swav has its clusters, (K, H), drawn from torch's state."""
    if config.contrast.kind != "swav":
        return
    count = config.contrast.prototypes or SETTINGS["swav", config.contrast.of].prototypes
    model.add_module(PROTOTYPES, nn.Linear(reward_layer(model).weight.shape[1], count, bias=False))


def contrast_of(model: Any, config: TrainConfig) -> Contrast | None:
    """The configured term on a model that is ready to train; None where there is none."""
    if config.contrast.kind == "none":
        return None
    weights = [
        weight for name, weight in model.named_parameters() if PROTOTYPES in name and weight.requires_grad
    ]
    return Contrast(config.contrast, weights[0] if weights else None)


def without_prototypes(model: Any) -> Any:
    """The model as it is to be saved."""
    if hasattr(model, PROTOTYPES):
        delattr(model, PROTOTYPES)
    return model
