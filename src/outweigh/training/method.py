"""What of a model is trained: every layer, adapters and what is beside the backbone, or that alone."""

from collections.abc import Sequence
from typing import Any

import peft

from outweigh.models.loading import HEADS, head_name
from outweigh.training.config import TrainConfig
from outweigh.training.contrast import PROTOTYPES


def trainable(model: Any, config: TrainConfig) -> Any:
    """The model, with gradients where the method wants them; with `lora`, wrapped by peft."""
    if config.method == "frozen":
        model.requires_grad_(False)
        for name in beside_backbone(model):
            model.get_submodule(name).requires_grad_(True)
    if config.method != "lora":
        return model
    saved = beside_backbone(model)  # a head lost on saving is the peers' most reported fault
    adapters = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=linear_layers(model, saved),
        modules_to_save=saved or None,
        bias="none",
    )
    return peft.get_peft_model(model, adapters)


def beside_backbone(model: Any) -> list[str]:
    """Names of the modules with weights that are not the backbone's: the head, what else its class adds to
    the backbone, and prototypes. A policy has none."""
    if model.base_model is model:  # code of its own that does not say what its backbone is
        return [name for name, _ in model.named_children() if name in (*HEADS, PROTOTYPES)]
    return [
        name
        for name, module in model.named_children()
        if module not in (model.base_model, model.get_output_embeddings())
        and any(True for _ in module.parameters())
    ]


def linear_layers(model: Any, without: Sequence[str]) -> list[str]:
    """Names of the linear layers, but for those of the named children and the one that gives tokens."""
    return [
        name
        for name, module in model.named_modules()
        if type(module).__name__ in ("Linear", "Conv1D")
        and name.partition(".")[0] not in without
        and module is not model.get_output_embeddings()
    ]


def learning_rate(model: Any, config: TrainConfig) -> float:
    """The configured rate, else one that fits what is trained.

    Encoders at 5e-5 are what docs/measurements.md was measured with; the others are customary, not tuned.
    """
    if config.learning_rate is not None:
        return config.learning_rate
    if config.method == "lora":
        return 2e-4
    if config.method == "frozen":
        return 1e-3
    return 1e-5 if head_name(model) == "score" else 5e-5


def merged(model: Any) -> Any:
    """The plain model again, adapters added into its weights."""
    return model.merge_and_unload() if isinstance(model, peft.PeftModel) else model
