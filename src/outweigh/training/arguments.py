"""A training configuration -> transformers.TrainingArguments."""

import math
import os
from pathlib import Path
from typing import Any

import torch
from transformers import TrainingArguments

from outweigh.errors import ConfigError
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.training.config import TrainConfig


def training_arguments(config: TrainConfig, output: Path, items: int, watched: bool) -> TrainingArguments:
    """transformers' arguments for this configuration; a learning rate that it leaves open is to be set.

    Raises:
        ConfigError: batch_pairs is no multiple of device_pairs over all devices, or an argument is unknown.
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
    every = math.ceil(steps / config.evaluations) if config.evaluations else steps
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": config.batch_pairs // (at_once * world),
        "num_train_epochs": config.epochs,
        "learning_rate": config.learning_rate or 0.0,
        "warmup_steps": config.warmup_fraction,
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
    try:
        found = TrainingArguments(**{**settings, **config.trainer})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error} Want fields of transformers.TrainingArguments.") from None
    if found.n_gpu > 1:
        raise ConfigError(
            f"devices: got one process for {found.n_gpu} GPUs, want one each. Start with accelerate launch "
            "-m outweigh, or choose one with CUDA_VISIBLE_DEVICES=0."
        )
    return found
