"""Pairs -> a trained reward model on disk, checked, with what happened on the way."""

import logging
import math
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from transformers import EarlyStoppingCallback, PrinterCallback, TrainerCallback, TrainingArguments, set_seed

from outweigh.data.cache import appearing_whole
from outweigh.data.pairs import PairSet
from outweigh.data.records import Ranking, Text
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import Tokenised, tokenise
from outweigh.errors import ConfigError, TrainingError
from outweigh.models.guard import check_reload
from outweigh.models.loading import load_classifier, load_tokenizer
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.models.reward import RewardModel
from outweigh.training.alarms import AlarmCallback
from outweigh.training.bar import StepBar
from outweigh.training.card import write_card
from outweigh.training.checkpoints import newest_whole
from outweigh.training.config import TrainConfig
from outweigh.training.items import Items, check_ranks, items_of, objective_of
from outweigh.training.method import learning_rate, merged, trainable
from outweigh.training.trainer import PairTrainer

logger = logging.getLogger(__name__)

GUARDED = 8  # pairs whose rewards are compared after a reload


class Trained(NamedTuple):
    """The reward model, and what training it was like, ready for results.json."""

    model: RewardModel
    results: dict[str, Any]


def fit(
    data: PairSet | Sequence[Ranking],
    config: TrainConfig,
    output: Path,
    *,
    eval_data: PairSet | Sequence[Ranking] | None = None,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Trains on the data and saves `output/model`; checkpoints lie in `output/checkpoints`.

    The model is watched on `eval_data`, else on a validation part of the prompts; the weights of its best
    log loss are kept. With `resume`, training goes on from the newest whole checkpoint as if uninterrupted.

    Raises:
        ConfigError: the configuration does not fit itself, the data or the model. Before a model is loaded.
        TrainingError: the output has a model already, or training ended without a finite loss.
        ModelError: the saved model does not give the trained model's rewards.
    """
    if (output / "model").exists():
        raise TrainingError(f"{output / 'model'}: exists. Choose another folder, or remove it.")
    items = items_of(data)
    if config.objective == "listwise" and isinstance(data, PairSet):
        raise ConfigError("objective listwise: got pairs, want rows of K ranked or rated responses.")
    if not isinstance(data, PairSet):
        check_ranks(data)
    objective = objective_of(config, items.columns)
    set_seed(config.seed)
    tokenizer = load_tokenizer(config.backbone, trust_remote_code=config.trust_remote_code)
    renderer = Renderer(tokenizer, config.tokens.template)
    started = time.monotonic()
    tokens = tokenise(items.read(), renderer, config.tokens, key=items.key)
    train_rows, eval_rows, validation = _watched(items, tokens, config, eval_data, renderer)
    seconds = {"tokens": time.monotonic() - started}
    model = load_classifier(
        config.backbone, tokenizer, dropout=config.dropout, trust_remote_code=config.trust_remote_code
    )
    rate = learning_rate(model, config)
    alarms = AlarmCallback(tokenizer, stop=config.stop_on_alarm)
    trainer = PairTrainer(
        model=trainable(model, config),
        args=training_arguments(config, output / "checkpoints", rate, len(train_rows), eval_rows is not None),
        objective=objective,
        pad_token=tokenizer.pad_token_id,
        columns=items.columns,
        train_dataset=train_rows,
        eval_dataset=eval_rows,
        processing_class=tokenizer,
        callbacks=[alarms, StepBar(), *callbacks],
    )
    trainer.remove_callback(PrinterCallback)
    if config.patience is not None:
        trainer.add_callback(EarlyStoppingCallback(config.patience))
    started = time.monotonic()
    checkpoint = newest_whole(output / "checkpoints") if resume else None
    if checkpoint:
        logger.warning("Resuming from %s.", checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.state.best_model_checkpoint:
        trainer._load_best_model()
    seconds["training"] = time.monotonic() - started
    results = {
        "pairs": len(train_rows),
        "validation": validation,
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step,
        "learning_rate": rate,
        "tokens": asdict(tokens.counts),
        "log": trainer.state.log_history,
        "alarms": alarms.fired,
        "seconds": seconds,
        "config": asdict(config),
        "data_sha256": items.key,
    }
    return _saved(trainer, tokenizer, config, items, output, results)


def _watched(
    items: Items, tokens: Tokenised, config: TrainConfig, eval_data: Any, renderer: Renderer
) -> tuple[Any, Any, dict[str, Any]]:
    """Training rows, rows to watch (None without any), and where these come from."""
    dataset = tokens.dataset
    if eval_data is not None:
        held = items_of(eval_data)
        rows = tokenise(held.read(), renderer, config.tokens, key=held.key).dataset
        return dataset, rows, {"pairs": len(rows), "unit": "given"}
    if config.validation == 0:
        return dataset, None, {"pairs": 0, "unit": "none"}
    _, held_out, unit = items.split(config.validation, config.seed)
    is_held = np.isin(np.array(dataset["item"]), held_out)
    if not is_held.any() or is_held.all():
        logger.warning(
            "Too few prompts for a validation part of %g: training goes unwatched.", config.validation
        )
        return dataset, None, {"pairs": 0, "unit": "none"}
    rows = dataset.select(np.flatnonzero(is_held))
    return dataset.select(np.flatnonzero(~is_held)), rows, {"pairs": len(rows), "unit": unit}


def training_arguments(
    config: TrainConfig, output: Path, rate: float, items: int, watched: bool
) -> TrainingArguments:
    """transformers' arguments for this configuration.

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
    every = max(1, steps // config.evaluations) if config.evaluations else steps
    settings: dict[str, Any] = {
        "output_dir": str(output),
        "per_device_train_batch_size": at_once,
        "gradient_accumulation_steps": config.batch_pairs // (at_once * world),
        "num_train_epochs": config.epochs,
        "learning_rate": rate,
        "warmup_steps": config.warmup_fraction,
        "lr_scheduler_type": config.schedule,
        "weight_decay": config.weight_decay,
        "max_grad_norm": config.max_grad_norm,
        "bf16": autocast_dtype(device, config.precision) is torch.bfloat16,
        "use_cpu": device.type == "cpu",
        "activation_checkpointing": config.gradient_checkpointing,
        "activation_checkpointing_kwargs": {"use_reentrant": False} if config.gradient_checkpointing else None,
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
        "ddp_broadcast_buffers": False,  # processes run unequal numbers of forwards, and buffers never change
        "dataloader_pin_memory": device.type == "cuda",
    }
    try:
        return TrainingArguments(**{**settings, **config.trainer})
    except (TypeError, ValueError) as error:
        raise ConfigError(f"trainer: {error} Want fields of transformers.TrainingArguments.") from None


def _saved(
    trainer: PairTrainer,
    tokenizer: Any,
    config: TrainConfig,
    items: Items,
    output: Path,
    results: dict[str, Any],
) -> Trained:
    """The trained model, saved, and reloaded in a fresh process to see that it says the same."""
    final = [each for each in results["log"] if "train_loss" in each]
    if not final or not math.isfinite(final[-1]["train_loss"]):
        raise TrainingError(
            "training: the loss is not finite. Lower learning_rate, or set precision to fp32."
        )
    # without accelerate's autocast around forward, which would hide the float32 rewards
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    reward_model = RewardModel(model, tokenizer, config.tokens, device=trainer.args.device, precision="fp32")
    texts: list[tuple[Text, Text]] = [
        (item.prompt, response)
        for item, _ in zip(items.read(), range(GUARDED), strict=False)
        for response in item.responses
    ]
    expected = reward_model.score_texts(texts)
    reward_model.model = merged(model)
    reward_model.precision = config.precision
    if trainer.is_world_process_zero():
        with appearing_whole(output / "model") as folder:
            reward_model.save(folder)
            results["reload_deviation"] = check_reload(folder, texts, expected)
            write_card(folder, config, results)
    trainer.accelerator.wait_for_everyone()
    return Trained(reward_model, results)
