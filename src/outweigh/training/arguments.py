"""A training configuration -> transformers.TrainingArguments."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments
from transformers.integrations.integration_utils import get_reporting_integration_callbacks

from outweigh.errors import ConfigError
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.training.config import TrainConfig

OWN = {
    **dict.fromkeys(
        ("per_device_train_batch_size", "gradient_accumulation_steps"), "batch_pairs and device_pairs"
    ),
    **dict.fromkeys(("warmup_steps", "warmup_ratio"), "warmup_fraction"),
    **dict.fromkeys(("eval_strategy", "eval_steps"), "evaluations"),
    **dict.fromkeys(("bf16", "fp16"), "precision"),
    **dict.fromkeys(("seed", "data_seed"), "seed"),
    **dict.fromkeys(("gradient_checkpointing", "activation_checkpointing"), "gradient_checkpointing"),
    **{each: each for each in ("learning_rate", "weight_decay", "max_grad_norm")},
    "num_train_epochs": "epochs",
    "lr_scheduler_type": "schedule",
    "save_steps": "save_every_steps",
    "output_dir": "out",
    "load_best_model_at_end": "keep",
}
"""Arguments of transformers that an option of ours decides, whose meaning they would undo in silence."""


def training_arguments(config: TrainConfig, output: Path, items: int, watched: bool) -> TrainingArguments:
    """transformers' arguments for this configuration; a learning rate that it leaves open is to be set.

    Raises:
        ConfigError: batch_pairs is no multiple of device_pairs over all devices; an argument is unknown, is
            decided by an option of ours, or reports to what is not installed.
    """
    device = default_device()
    world = int(os.environ.get("WORLD_SIZE", "1"))  # as torchrun and accelerate launch set it
    at_once = config.device_pairs or max(1, config.batch_pairs // world)
    if config.batch_pairs % (at_once * world):
        raise ConfigError(
            f"batch_pairs: got {config.batch_pairs}, want a multiple of device_pairs x devices, "
            f"{at_once} x {world}."
        )
    steps = max(1, math.ceil(config.epochs * math.ceil(items / config.batch_pairs)))
    if isinstance(told := config.trainer.get("max_steps"), int) and told > 0:
        steps = told
    every = math.ceil(steps / config.evaluations)
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": config.batch_pairs // (at_once * world),
        "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate or 0.0,
        # the rate of the first of them is 0: of a few steps none is to be lost
        "warmup_steps": int(config.warmup_fraction * steps),
        "lr_scheduler_type": config.schedule,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": autocast_dtype(device, config.precision) is torch.bfloat16,
        "use_cpu": device.type == "cpu",
        "activation_checkpointing": config.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False}
        if config.gradient_checkpointing
        else None,
        "optim": "adamw_torch_fused",
        "seed": config.seed,
        "data_seed": config.seed,
        "eval_strategy": "steps" if watched else "no",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": config.save_every_steps or every,
        "save_total_limit": 2,
        "metric_for_best_model": "log_loss" if watched else None,
        "greater_is_better": False,
        "logging_steps": max(1, steps // 50),
        "logging_nan_inf_filter": False,  # the alarm is to see them
        "report_to": [],
        "disable_tqdm": True,
        "remove_unused_columns": False,
        # looked for after each of a step's forwards, unused weights would be taken for done too early
        "ddp_find_unused_parameters": False if config.contrast.kind == "swav" else None,
        "ddp_broadcast_buffers": False,  # processes run unequal numbers of forwards, and buffers never change
        "dataloader_pin_memory": device.type == "cuda",
    }
    return _with_further(settings, config.trainer)


def check_arguments(config: TrainConfig) -> None:
    """Nothing, if transformers takes what it is told of the configuration; it then has set up this process.

    Raises:
        ConfigError: as `training_arguments`.
    """
    training_arguments(config, Path("unused"), config.batch_pairs, config.validation > 0)


def _with_further(settings: Mapping[str, Any], further: Mapping[str, Any]) -> TrainingArguments:
    """transformers' arguments of our settings and the user's own."""
    for name in OWN.keys() & further.keys():
        raise ConfigError(f"trainer {name}: is decided by {OWN[name]}. Set that instead.")
    try:
        found = TrainingArguments(**{**settings, **further})
        for reporter in get_reporting_integration_callbacks(found.report_to):
            reporter()
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error} Want fields of transformers.TrainingArguments.") from None
    except (ImportError, RuntimeError) as error:
        raise ConfigError(f"trainer report_to: {error}") from None
    if found.n_gpu > 1:
        raise ConfigError(
            f"devices: got one process for {found.n_gpu} GPUs, want one each. Start with accelerate launch "
            "-m outweigh, or choose one with CUDA_VISIBLE_DEVICES=0."
        )
    return found
