"""Pairs -> a trained reward model on disk, checked, with what happened on the way."""

import hashlib
import json
import logging
import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
from transformers import PrinterCallback, TrainerCallback, set_seed

from outweigh.data.cache import appearing_whole
from outweigh.data.files import content_hash
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.data.tokens import TokenCounts, tokenise
from outweigh.errors import TrainingError
from outweigh.limits import check_unread
from outweigh.models.features import checkpoint_identity
from outweigh.models.guard import check_reload
from outweigh.models.loading import check_positions, load_classifier, load_tokenizer, reward_layer
from outweigh.models.reward import Origin, RewardModel
from outweigh.models.vocabulary import training_rows
from outweigh.training.alarms import AlarmCallback, plain_course
from outweigh.training.arguments import training_arguments
from outweigh.training.bar import StepBar
from outweigh.training.card import REWARD_MODEL, write_card
from outweigh.training.checkpoints import (
    check_begun,
    check_same_training,
    full_disk_named,
    identify,
    newest_whole,
    read_record,
    write_record,
)
from outweigh.training.config import TrainConfig
from outweigh.training.contrast import add_prototypes, check_contrast, contrast_of, without_prototypes
from outweigh.training.derived import prepared
from outweigh.training.items import Data, Items, check_fits, check_steps, items_of, objective_of
from outweigh.training.meta import check_responses, check_whole, meta_step
from outweigh.training.method import learning_rate, merged, trainable
from outweigh.training.objective import Objective
from outweigh.training.patience import Patience
from outweigh.training.tokenwise import check_tokens
from outweigh.training.trainer import PairTrainer

logger = logging.getLogger(__name__)

GUARDED = 16  # texts whose rewards are compared after a reload
LEVELLED = 64  # pairs whose mean reward is kept as the model's level


class Trained(NamedTuple):
    """The reward model, and what training it was like, ready for results.json."""

    model: RewardModel
    results: dict[str, Any]


def fit(
    data: Data,
    config: TrainConfig,
    output: Path,
    *,
    resume: bool = False,
    guarded: bool = True,
    callbacks: Sequence[TrainerCallback] = (),
) -> Trained:
    """Trains on the data and saves `output/model`; checkpoints lie in `output/checkpoints`, and what training
    was like in `output/training.json`.

    The model is watched on a validation part of the prompts, of which `config.keep` may take the best
    weights. With `resume`, training goes on from the newest whole checkpoint as if uninterrupted, and a
    finished one is taken as it is. If `guarded`, what is saved is reloaded in a fresh process to see that it
    says the same. Callbacks may have the model read the data's texts, not others: it may not know their
    tokens.

    Raises:
        ConfigError: the configuration does not fit itself, the data, or the model, as loss_at tokens an
            encoder; before one is loaded, where its configuration tells.
        TrainingError: the output has a model or checkpoints already, with `resume` of another training; or
            training ended without a finite loss.
        ModelError: the saved model does not give the trained model's rewards.
    """
    check_begun(output, resume)
    items, objective = checked(data, config)
    set_seed(config.seed)
    tokenizer = load_tokenizer(config.backbone, trust_remote_code=config.trust_remote_code)
    base = checkpoint_identity(config.backbone)
    own = identity(items, config, base)
    check_same_training(output, own, "model")
    if (output / "model").exists():
        return _finished(output, config)
    started = time.monotonic()
    renderer = Renderer(tokenizer, config.tokens.template)
    rows = token_rows(items, config, renderer)
    seconds = {"tokens": time.monotonic() - started}
    check_steps(objective, config, len(rows.train))
    plain = plain_course(config, items.key)
    meta = meta_step(config, renderer)
    args = training_arguments(config, output / "checkpoints", len(rows.train), rows.watch is not None)
    started = time.monotonic()
    items, objective, caps = prepared(objective, items, rows.train, config)  # by an encoder, where asked
    seconds["preparing columns"] = time.monotonic() - started
    model, args.learning_rate = _model(config, tokenizer)
    alarms = AlarmCallback(tokenizer, stop=config.stop_on_alarm, plain=plain)
    trainer = PairTrainer(
        model=model,
        args=args,
        objective=objective,
        pad_token=tokenizer.pad_token_id,
        columns=items.columns,
        keeps_best=config.keep == "best" or config.patience is not None,
        meta=meta,
        contrast=contrast_of(model, config),
        layer=reward_layer(model),
        max_tokens=config.tokens.max_tokens,
        at_tokens=config.loss_at == "tokens",
        train_dataset=rows.train,
        eval_dataset=rows.watch,
        processing_class=tokenizer,
        callbacks=[alarms, StepBar(), *callbacks],
    )
    identify(output, own)
    read = [rows.whole] if meta is None else [rows.whole, meta.shifted]
    started = time.monotonic()
    with training_rows(model, [] if trainer.is_sharded else read):
        run_training(trainer, config, resume)
    seconds |= {"training": time.monotonic() - started, "first pass": trainer.first_pass_seconds}
    results = course(trainer, rows, alarms) | {"caps": caps, "seconds": seconds}
    results |= {"config": asdict(config), "data_sha256": items.key}
    return _saved(trainer, tokenizer, config, base, items, output, results, guarded)


def checked(data: Data, config: TrainConfig) -> tuple[Items, Objective]:
    """What would be trained on and by what, once both fit each other, before anything is loaded.

    Raises:
        ConfigError, DataError: as `fit`.
    """
    items = items_of(data)
    check_fits(data, config)
    objective = check_training(config, items.columns)
    plain_course(config, items.key)
    if config.meta.data is not None:
        check_responses(config.meta)
    return items, objective


def check_training(config: TrainConfig, columns: Collection[str]) -> Objective:
    """The configured loss, bound to the data's columns, once the configuration fits itself.

    Raises:
        ConfigError: it does not, or a column is missing.
    """
    if config.meta.data is None:
        options = [each.name for each in fields(config.meta)]
        check_unread(config.meta, "meta ", options, "without meta.data, a file of responses.")
    check_whole(config)
    check_contrast(config)
    check_tokens(config)
    return objective_of(config, columns)


def identity(items: Items, config: TrainConfig, base: str) -> str:
    """A hash of all that decides a training: the texts, the columns that the loss reads, the configuration,
    the content of the shifted data that it names, and `base`, the identity of its backbone.
    """
    reads = objective_of(config, items.columns).reads
    columns = {name: items.columns[name].tolist() for name in reads if name in items.columns}
    shifted = content_hash(config.meta.data) if config.meta.data else None
    told = json.dumps([items.key, columns, asdict(config), shifted, base], default=str)
    return hashlib.sha256(told.encode()).hexdigest()


def _finished(output: Path, config: TrainConfig) -> Trained:
    """The model that was trained in the output, and what training it was like."""
    model = RewardModel.load(
        output / "model", precision=config.precision, trust_remote_code=config.trust_remote_code
    )
    return Trained(model, read_record(output))


def _model(config: TrainConfig, tokenizer: Any) -> tuple[Any, float]:
    """A model that is ready to be trained, and its learning rate."""
    model = load_classifier(
        config.backbone,
        tokenizer,
        dropout=config.dropout,
        layers=config.layers,
        trust_remote_code=config.trust_remote_code,
    )
    check_positions(model, config.tokens.max_tokens)
    add_prototypes(model, config)
    rate = learning_rate(model, config)
    return trainable(model, config), rate


class Rows(NamedTuple):
    """Token ids to train on and to watch (None without any), both together, where the watched come from, and
    the counts."""

    train: datasets.Dataset
    watch: datasets.Dataset | None
    whole: datasets.Dataset
    validation: dict[str, Any]
    counts: TokenCounts


def token_rows(items: Items, config: TrainConfig, renderer: Renderer) -> Rows:
    """The items' token ids, part of them held out to watch training by."""
    dataset, counts = tokenise(items.read(), renderer, config.tokens, key=items.key)
    unwatched = Rows(dataset, None, dataset, {"pairs": 0, "unit": "none"}, counts)
    if config.validation == 0:
        return unwatched
    _, held_out, unit = items.split(config.validation, config.seed)
    is_held = np.isin(np.array(dataset["item"]), held_out)
    if not is_held.any() or is_held.all():
        logger.warning(
            "Too few prompts for a validation part of %g: training is not watched.", config.validation
        )
        return unwatched
    train, watched = (dataset.select(np.flatnonzero(mask)) for mask in (~is_held, is_held))
    return Rows(train, watched, dataset, {"pairs": len(watched), "unit": unit}, counts)


def course(trainer: PairTrainer, rows: Rows, alarms: AlarmCallback) -> dict[str, Any]:
    """What was trained on, and how training went, step by step."""
    return {
        "pairs": len(rows.train),
        "validation": rows.validation,
        "tokens": asdict(rows.counts),
        "alarms": alarms.fired,
        "learning_rate": trainer.args.learning_rate,
        "steps": trainer.state.global_step,
        "best_step": trainer.state.best_global_step if trainer.keeps_best else None,
        "log": trainer.state.log_history,
    }


def run_training(trainer: PairTrainer, config: TrainConfig, resume: bool) -> None:
    """Trains, from the newest whole checkpoint where there is one to resume, and takes the best weights."""
    trainer.remove_callback(PrinterCallback)
    if config.patience is not None and trainer.eval_dataset is not None:
        trainer.add_callback(Patience(config.patience))
    checkpoint = newest_whole(Path(str(trainer.args.output_dir))) if resume else None
    if checkpoint:
        logger.warning("Resuming from %s.", checkpoint)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if trainer.keeps_best and trainer.state.best_model_checkpoint:
        trainer._load_best_model()


def check_finite(results: Mapping[str, Any]) -> None:
    """Nothing, once training has ended with a finite loss.

    Raises:
        TrainingError: it has not.
    """
    final = [each for each in results["log"] if "train_loss" in each]
    if not final or not math.isfinite(final[-1]["train_loss"]):
        raise TrainingError(
            "training: the loss is not finite. Lower learning_rate, or set precision to fp32."
        )


def _saved(
    trainer: PairTrainer,
    tokenizer: Any,
    config: TrainConfig,
    base: str,
    items: Items,
    output: Path,
    results: dict[str, Any],
    guarded: bool,
) -> Trained:
    """The trained model, saved, and if guarded reloaded in a fresh process to see that it says the same."""
    check_finite(results)
    # without accelerate's autocast around forward, which would hide the float32 rewards
    model = trainer.accelerator.unwrap_model(trainer.model, keep_fp32_wrapper=False)
    made = partial(RewardModel, tokenizer=tokenizer, tokens=config.tokens, device=trainer.args.device)
    texts: list[tuple[Text, Text]] = [
        (item.prompt, response) for item in islice(items.read(), LEVELLED) for response in item.responses
    ]
    rewards = made(model, precision="fp32").score_texts(texts)
    origin = Origin(base + (f" {config.layers} layers" if config.layers else ""), float(rewards.mean()))
    reward_model = made(without_prototypes(merged(model)), precision=config.precision, origin=origin)
    if trainer.is_world_process_zero():
        with full_disk_named(output), appearing_whole(output / "model") as folder:
            reward_model.save(folder)
            if guarded:
                results["reload_deviation"] = check_reload(
                    folder, texts[:GUARDED], rewards[:GUARDED], trust_remote_code=config.trust_remote_code
                )
            write_card(folder, REWARD_MODEL, config.backbone, results)
            write_record(output, results)
    trainer.accelerator.wait_for_everyone()
    return Trained(reward_model, results)
