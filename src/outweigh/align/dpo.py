"""Pairs -> a policy that prefers what they prefer, checked, on disk."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import TrainerCallback, TrainingArguments, set_seed

from outweigh.align.config import DPOConfig
from outweigh.align.reference import reference_log_probabilities
from outweigh.align.trainer import PolicyTrainer
from outweigh.data.cache import appearing_whole
from outweigh.data.pairs import PairSet
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.models.features import checkpoint_identity
from outweigh.models.guard import check_reload
from outweigh.models.loading import load_tokenizer
from outweigh.models.policy import Policy, filler, load_policy
from outweigh.objectives.pairwise import squared_loss
from outweigh.training.alarms import AlarmCallback
from outweigh.training.arguments import training_arguments
from outweigh.training.bar import StepBar
from outweigh.training.card import POLICY, write_card
from outweigh.training.checkpoints import (
    check_begun,
    check_same_training,
    full_disk_named,
    identify,
    read_record,
    write_record,
)
from outweigh.training.derived import prepared
from outweigh.training.fit import (
    GUARDED,
    Rows,
    check_finite,
    check_training,
    course,
    identity,
    run_training,
    token_rows,
)
from outweigh.training.items import Items, check_steps, items_of
from outweigh.training.method import merged, trainable
from outweigh.training.objective import Objective

logger = logging.getLogger(__name__)


class Aligned(NamedTuple):
    """The policy, and what training it was like, ready for results.json."""

    policy: Policy
    results: dict[str, Any]


def fit_policy(
    data: PairSet,
    config: DPOConfig,
    output: Path,
    *,
    resume: bool = False,
    callbacks: Sequence[TrainerCallback] = (),
) -> Aligned:
    """Trains a policy on the pairs and saves `output/policy`, a plain causal checkpoint.

    Raises:
        ConfigError: the configuration does not fit itself or the data. Before a model is loaded.
        TrainingError: the output has a policy or checkpoints already, with `resume` of another training; or
            training ended without a finite loss.
        ModelError: the backbone is no causal model, or the saved policy gives other log-probabilities.
    Source: Rafailov et al. 2023, arXiv:2305.18290, equation 7, on the one pairwise equation; with a cap
        PCDPO, Zhou et al. 2024, arXiv:2404.00978.
    """
    check_begun(output, resume, "policy")
    training, items = config.training, items_of(data)
    objective = check_training(training, items.columns)
    if config.loss == "squared":
        unread = [name for name in ("margin", "flip_rate", "cap") if np.any(items.columns.get(name, 0))]
        if unread:
            logger.warning("loss squared reads no %s: those columns have no effect.", " and ".join(unread))
        objective = objective._replace(function=partial(squared_loss, beta=config.beta))
    set_seed(config.seed)
    tokenizer = load_tokenizer(config.backbone, own_pad=False, trust_remote_code=config.trust_remote_code)
    weights = [checkpoint_identity(name) for name in (config.backbone, config.reference) if name]
    rewarded = [config.reference is None, config.beta, config.loss, config.averaged]
    own = identity(items, training, f"{weights} {rewarded}")
    check_same_training(output, own, "policy")
    if (output / "policy").exists():
        return _finished(output, config)
    started = time.monotonic()
    rows = token_rows(items, training, Renderer(tokenizer, config.tokens.template))
    seconds = {"tokens": time.monotonic() - started}
    check_steps(objective, training, len(rows.train))
    args = training_arguments(training, output / "checkpoints", len(rows.train), rows.watch is not None)
    args.learning_rate = config.rate
    items, objective, caps = prepared(objective, items, rows.train, training)  # by an encoder, where asked
    trainer, alarms, reference_seconds = _trainer(config, args, items, objective, rows, tokenizer, callbacks)
    identify(output, own)
    started = time.monotonic()
    run_training(trainer, training, resume)
    seconds |= {"reference": reference_seconds, "training": time.monotonic() - started}
    seconds |= {"first pass": trainer.first_pass_seconds}
    results = course(trainer, rows, alarms) | {
        "caps": caps,
        "seconds": seconds,
        "config": asdict(config),
        "data_sha256": items.key,
    }
    return _saved(trainer, tokenizer, config, items, output, results)


def _finished(output: Path, config: DPOConfig) -> Aligned:
    """The policy that was trained in the output, and what training it was like."""
    policy = Policy.load(
        output / "policy",
        config.tokens,
        precision=config.precision,
        trust_remote_code=config.trust_remote_code,
    )
    return Aligned(policy, read_record(output))


def _trainer(
    config: DPOConfig,
    args: TrainingArguments,
    items: Items,
    objective: Objective,
    rows: Rows,
    tokenizer: Any,
    callbacks: Sequence[TrainerCallback],
) -> tuple[PolicyTrainer, AlarmCallback, float]:
    """The trainer, its alarms, and the seconds that the reference has taken."""
    started = time.monotonic()
    with args.main_process_first(desc="reference"):  # it has its device by now; the others find it cached
        reference = reference_log_probabilities(
            rows.whole, 1 + max(rows.whole["item"]), tokenizer, config, key=items.key
        )
    seconds = time.monotonic() - started
    model = load_policy(config.backbone, dropout=config.dropout, trust_remote_code=config.trust_remote_code)
    alarms = AlarmCallback(tokenizer, stop=config.stop_on_alarm, silent=("padding",))
    trainer = PolicyTrainer(
        model=trainable(model, config.training),
        args=args,
        objective=objective,
        beta=config.beta,
        average=config.averaged,
        vocabulary=model.config.vocab_size,
        reference=reference,
        pad_token=filler(tokenizer),
        layer=model.get_output_embeddings(),
        max_tokens=config.tokens.max_tokens,
        columns=items.columns,
        keeps_best=config.keep == "best" or config.patience is not None,
        train_dataset=rows.train,
        eval_dataset=rows.watch,
        processing_class=tokenizer,
        callbacks=[alarms, StepBar(), *callbacks],
    )
    return trainer, alarms, seconds


def _saved(
    trainer: PolicyTrainer,
    tokenizer: Any,
    config: DPOConfig,
    items: Items,
    output: Path,
    results: dict[str, Any],
) -> Aligned:
    """The trained policy, saved, and reloaded in a fresh process to see that it says the same."""
    check_finite(results)
    model = merged(trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False))
    texts: list[tuple[Text, Text]] = [
        (item.prompt, response) for item in islice(items.read(), GUARDED // 2) for response in item.responses
    ]
    expected = Policy(model, tokenizer, config.tokens, precision="fp32").score_texts(texts)
    policy = Policy(model, tokenizer, config.tokens, precision=config.precision)
    if trainer.is_world_process_zero():
        with full_disk_named(output), appearing_whole(output / "policy") as folder:
            policy.save(folder)
            results["reload_deviation"] = check_reload(
                folder, texts, expected, policy=config.tokens, trust_remote_code=config.trust_remote_code
            )
            write_card(folder, POLICY, config.backbone, results)
            write_record(output, results)
    trainer.accelerator.wait_for_everyone()
    return Aligned(policy, results)
