"""One round of reinforcement learning: TRL raises the reward, from the weights that the last round left."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import peft
import torch
from safetensors.torch import load_file
from transformers import PrinterCallback

from outweigh.align.config import RLConfig
from outweigh.data.cache import appearing_whole
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.errors import TrainingError
from outweigh.models.loading import load_tokenizer, quiet
from outweigh.models.policy import load_policy
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.optional import need
from outweigh.training.bar import StepBar
from outweigh.training.checkpoints import WholeCheckpoints, full_disk_named, newest_whole
from outweigh.training.method import linear_layers

ADAPTER = "adapter_model.safetensors"
KEPT = (
    "step",
    "reward",
    "reward_std",
    "flat_prompts",
    "kl",
    "entropy",
    "completions/mean_length",
    "loss",
)
"""What is kept of TRL's log, with what `_counted` adds to it."""
EQUAL = 1e-5  # nats: one text's rewards may differ by as much from batch to batch

Reward = Callable[..., list[float | None]]


def train_round(
    prompts: Sequence[Text],
    reward: Reward,
    config: RLConfig,
    folder: Path,
    *,
    number: int,
    columns: Mapping[str, Sequence[float]],
    before: Path | None = None,
    resume: bool = False,
) -> list[dict[str, float]]:
    """TRL's log of each step; `folder/policy` is then a plain causal checkpoint, with adapters beside it.

    `reward` is called as TRL calls its reward functions, with `columns` (one value a prompt) among the
    arguments. `before` is the folder of the round that this one goes on from. Whatever the round, divergence
    is counted from the policy that the first one began with.

    Raises:
        MissingExtra: TRL is not installed.
        TrainingError: the disk is full, or no reward was finite.
    """
    trainer = _trainer(prompts, reward, config, folder, number, columns)
    if before is not None:
        _go_on_from(trainer.model, before, config)
    checkpoint = newest_whole(folder / "checkpoints") if resume else None
    with full_disk_named(folder), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of names that TRL has yet to change
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        kept = [
            {key: value for key in KEPT if (value := entry.get(key)) is not None}
            for entry in trainer.state.log_history
        ]
        log = [entry for entry in kept if "reward" in entry]  # where none was given there is none
        if not log or not all(math.isfinite(value) for entry in log for value in entry.values()):
            raise TrainingError(f"{folder}: a reward or a loss is not finite. Lower the learning rate.")
        _save(trainer, config, folder)
    return log


def _trainer(
    prompts: Sequence[Text],
    reward: Reward,
    config: RLConfig,
    folder: Path,
    number: int,
    columns: Mapping[str, Sequence[float]],
) -> Any:
    trl = need("trl", extra="trl", feature="reinforcement learning")
    kinds = {"rloo": (trl.RLOOConfig, trl.RLOOTrainer), "grpo": (trl.GRPOConfig, trl.GRPOTrainer)}
    arguments, kind = kinds[config.algorithm]
    tokenizer = load_tokenizer(config.policy, own_pad=False)
    Renderer(tokenizer)  # gives it a chat template where it has none
    device = default_device()
    rows: dict[str, Any] = {"prompt": [[message._asdict() for message in prompt] for prompt in prompts]}
    dtype = autocast_dtype(device, config.precision)
    model = load_policy(config.policy)
    if config.method == "lora" and dtype is not None:
        model = model.to(dtype)  # frozen float32 weights would be cast anew for every token that is drawn
    sealed = type(f"Whole{kind.__name__}", (WholeCheckpoints, kind), {})
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        trainer = sealed(
            model=model,
            reward_funcs=[_counted(reward, config.n)],
            args=arguments(
                output_dir=str(folder / "checkpoints"),
                per_device_train_batch_size=config.device_responses,
                gradient_accumulation_steps=config.batch_prompts * config.n // config.device_responses,
                num_generations=config.n,
                num_train_epochs=config.epochs,
                max_completion_length=config.max_new_tokens,
                temperature=config.temperature,
                top_p=config.top_p,
                beta=config.kl,
                learning_rate=config.rate,
                lr_scheduler_type="constant_with_warmup",
                warmup_steps=0.1,
                disable_dropout=True,
                bf16=dtype is torch.bfloat16,
                use_cpu=device.type == "cpu",
                gradient_checkpointing=False,
                seed=config.seed + number,  # else every round would draw, and leave out, the same
                logging_steps=1,
                save_strategy="steps",
                save_steps=max(1, len(prompts) // config.batch_prompts // 4),
                save_total_limit=2,
                report_to=[],
                disable_tqdm=True,
            ),
            train_dataset=datasets.Dataset.from_dict(rows | dict(columns)),
            processing_class=tokenizer,
            callbacks=[StepBar()],
            peft_config=_adapters(model, config) if config.method == "lora" else None,
        )
    trainer.remove_callback(PrinterCallback)  # the log is kept, and shown as curves
    return trainer


def _counted(reward: Reward, n: int) -> Reward:
    """The reward, which also logs the share of prompts whose n responses all have one.

    With rloo TRL's own share is of rewards less the divergence, which are hardly ever equal.
    """

    @wraps(reward)
    def counted(*, log_metric: Callable[[str, float], None], **told: Any) -> list[float | None]:
        found = reward(**told)
        reward_PN = np.array(found, dtype=np.float64).reshape(-1, n)  # NaN where there is none
        log_metric("flat_prompts", float((np.ptp(reward_PN, axis=1) < EQUAL).mean()))
        return found

    return counted


def _adapters(model: Any, config: RLConfig) -> peft.LoraConfig:
    return peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=linear_layers(model, []),
        bias="none",
        task_type="CAUSAL_LM",
    )


def _go_on_from(model: Any, before: Path, config: RLConfig) -> None:
    """Nothing; the model's weights are those of the round before, while its reference stays the first."""
    if config.method == "lora":
        peft.set_peft_model_state_dict(model, load_file(before / "adapter" / ADAPTER))
    else:
        model.load_state_dict(load_policy(before / "policy").state_dict())


def _save(trainer: Any, config: RLConfig, folder: Path) -> None:
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    if config.method == "lora":
        with appearing_whole(folder / "adapter") as unfinished:
            model.save_pretrained(unfinished)
        # Merged in float32: in bf16 most of what the adapters add would be rounded away
        model = peft.PeftModel.from_pretrained(
            load_policy(config.policy), folder / "adapter"
        ).merge_and_unload()
    with quiet(), appearing_whole(folder / "policy") as unfinished:
        model.save_pretrained(unfinished)
        trainer.processing_class.save_pretrained(unfinished)
