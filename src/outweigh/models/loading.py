"""A name -> a tokenizer and a model with a scalar head, ready to train or to score."""

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import nn
from transformers import AutoConfig, AutoModelForSequenceClassification, AutoTokenizer

from outweigh.data.fields import near
from outweigh.errors import ConfigError, ModelError
from outweigh.models.bundled import BUNDLED, checkpoint_folder
from outweigh.models.packing import FAILURES
from outweigh.models.precision import keep_head_in_float32

PAD_TOKEN = "<|pad|>"
MADE = ("model", "policy")
"""What a run leaves its checkpoint in."""
WITH_PORT = re.compile(r"[\w.-]+:\d+(/|$)")
HEADS = ("score", "classifier", "classification_head")
"""What architectures call the module that turns features into a reward."""
POSITIONS = ("position_embeddings", "wpe", "embed_positions")
"""And one that holds a vector for each position."""


def resolve(name: str | Path) -> str:
    """What transformers loads under this name: a bundled checkpoint's folder, a folder, or a Hub name.

    Raises:
        ModelError: a path that does not exist, or a folder without a config.json.
    """
    if str(name) in BUNDLED:
        return str(checkpoint_folder(str(name)))
    if WITH_PORT.match(str(name)) and not Path(name).exists():
        raise ModelError(f"{name}: no such model. Did you mean http://{name}?")
    path = Path(name)
    if path.is_dir():
        if not (path / "config.json").exists():
            inner = next((each for each in MADE if (path / each / "config.json").exists()), None)
            hint = "Want a transformers checkpoint." if inner is None else f"Did you mean {path / inner}?"
            raise ModelError(f"{path}: no config.json in this folder. {hint}")
        return str(path)
    if path.is_absolute() or str(name).startswith(".") or str(name).count("/") > 1:
        raise ModelError(
            f"{name}: no such folder, and not a Hub name (owner/model). {_meant(path)}Bundled: "
            f"{', '.join(BUNDLED)}."
        )
    return str(name)


def load_tokenizer(name: str | Path, *, own_pad: bool = True, trust_remote_code: bool = False) -> Any:
    """The tokenizer, with a pad token of its own.

    A pad token that equals EOS would hide the end of a text: transformers reads the reward at the last token
    that is not padding, so it would read the one before EOS. A policy needs none of its own, and would learn
    to say it: with `own_pad` off the vocabulary stays as it is.

    Raises:
        ModelError: nothing to load under this name, or a tokenizer without a vocabulary.
    """
    with explained(name), quiet():  # the bundled SmolLM2 is unpacked the first time
        tokenizer = AutoTokenizer.from_pretrained(resolve(name), trust_remote_code=trust_remote_code)
    # Where its files are missing, transformers makes a tokenizer of special tokens alone
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ModelError(f"{name}: its tokenizer has no vocabulary. Add tokenizer.json beside the weights.")
    if own_pad and (tokenizer.pad_token is None or tokenizer.pad_token == tokenizer.eos_token):
        tokenizer.add_special_tokens({"pad_token": PAD_TOKEN})
    tokenizer.padding_side = "right"
    return tokenizer


def load_classifier(
    name: str | Path,
    tokenizer: Any,
    *,
    dropout: float = 0.0,
    layers: int | None = None,
    trained: bool = False,
    trust_remote_code: bool = False,
) -> Any:
    """A model in float32 whose `logits` (B, 1) are rewards, its pad token the tokenizer's.

    A new head is drawn from torch's random state, so seed it first. With `trained`, the checkpoint must
    already be a reward model. `dropout` is set wherever the architecture has any. Of its layers the first
    `layers` are kept.

    Raises:
        ModelError: nothing to load, weights in another format than safetensors, a quantised model, too few
            layers, or, with `trained`, a checkpoint without a head or with more than one label.
    """
    with explained(name), quiet():
        where = resolve(name)
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code)
        if trained and config.num_labels != 1:
            raise ModelError(
                f"{name}: is no reward model: got {config.num_labels} labels, want 1. "
                "Train one from it with: outweigh train DATA --backbone NAME"
            )
        config.num_labels = 1
        set_dropout(config, dropout)
        keep_layers(config, layers, name)
        model, info = AutoModelForSequenceClassification.from_pretrained(
            where,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
        )
    if trained and info["missing_keys"]:
        raise ModelError(
            f"{name}: not a reward model, its checkpoint lacks {', '.join(sorted(info['missing_keys']))}. "
            "Train one from it with: outweigh train DATA --backbone NAME"
        )
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    model.config.pad_token_id = tokenizer.pad_token_id
    # Of the checkpoint's own pad token, often its EOS, the embedding would get no gradient
    model.get_input_embeddings().padding_idx = tokenizer.pad_token_id
    keep_head_in_float32(head_of(model))
    return model


def head_name(model: nn.Module) -> str:
    """Name of the module that turns features into a reward.

    Raises:
        ModelError: the architecture keeps its head elsewhere.
    """
    for name in HEADS:
        if isinstance(getattr(model, name, None), nn.Module):
            return name
    raise ModelError(
        f"{type(model).__name__}: has no head called score or classifier. Choose another backbone."
    )


def head_of(model: nn.Module) -> nn.Module:
    """The module that turns features into a reward."""
    head: nn.Module = getattr(model, head_name(model))
    return head


def reward_layer(model: nn.Module) -> nn.Linear:
    """The last linear layer of the head, whose one output is the reward and whose input are the features."""
    return [each for each in head_of(model).modules() if isinstance(each, nn.Linear)][-1]


def reads_every_token(name: str | Path, *, trust_remote_code: bool = False) -> bool:
    """Whether the reward's layer reads each token of a text, as in causal models, not a text as a whole; told
    from the configuration, without weights. True of architectures that can't be run so, as DeBERTa.

    Raises:
        ModelError: nothing to load.
    """
    seen: list[torch.Tensor] = []
    with explained(name), quiet():
        config = AutoConfig.from_pretrained(resolve(name), trust_remote_code=trust_remote_code)
    config.num_labels = 1
    with torch.device("meta"), torch.no_grad(), contextlib.suppress(*FAILURES):
        model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=trust_remote_code)
        reward_layer(model).register_forward_hook(lambda _, inputs, output: seen.append(output))
        model(input_ids=torch.ones(1, 2, dtype=torch.long))
    return not seen or seen[-1].dim() == 3


def set_dropout(config: Any, rate: float) -> None:
    """Nothing; every dropout rate that the architecture's configuration has, or one within it, becomes
    `rate`."""
    for key, value in config.to_dict().items():
        if "drop" in key and (isinstance(value, int | float) or key == "classifier_dropout"):
            setattr(config, key, rate)
        elif isinstance(
            inner := getattr(config, key, None), transformers.PreTrainedConfig
        ):  # of text, beside images
            set_dropout(inner, rate)


def keep_layers(config: Any, layers: int | None, name: str | Path) -> None:
    """Nothing; a model of this configuration has the first `layers` of its layers, all with None.

    Raises:
        ModelError: it has fewer, or names their number otherwise.
    """
    if layers is None:
        return
    there = getattr(config, "num_hidden_layers", None)
    if there is None:
        raise ModelError(
            f"{name}: does not say how many layers it has. Choose another backbone, or no layers."
        )
    if not 1 <= layers <= there:
        raise ModelError(f"{name}: has {there} layers, got layers {layers}, want from 1 to {there}.")
    config.num_hidden_layers = layers
    if getattr(config, "layer_types", None):  # one a layer, where layers differ in their attention
        config.layer_types = config.layer_types[:layers]


@contextlib.contextmanager
def explained(name: str | Path) -> Iterator[None]:
    """A block whose failures to load `name` become a ModelError that says what can be loaded."""
    try:
        yield
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ModelError(
            f"{name}: can't be loaded ({reason}). {_meant(Path(name))}Give a folder with safetensors "
            f"weights, a Hub name that this machine can reach, or one of {', '.join(BUNDLED)}."
        ) from error


def _meant(path: Path) -> str:
    """A folder, or a bundled model, whose name is like that of the path, which is neither, as a question."""
    if path.exists():
        return ""
    beside = [each.name for each in path.parent.iterdir() if each.is_dir()] if path.parent.is_dir() else []
    hint = near(path.name, beside + (list(BUNDLED) if path.parent == Path() else []))
    return f"Did you mean {str(path.with_name(hint))!r}? " if hint else ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without transformers' bars, nor its report that a causal checkpoint lacks a head: it is meant to."""
    logs = transformers.utils.logging
    level, bars = logs.get_verbosity(), logs.is_progress_bar_enabled()
    logs.set_verbosity_error()
    logs.disable_progress_bar()
    try:
        yield
    finally:
        logs.set_verbosity(level)
        if bars:
            logs.enable_progress_bar()


def check_positions(model: nn.Module, max_tokens: int) -> None:
    """Nothing, if the model has a position for each of so many tokens, or learnt none.

    Raises:
        ConfigError: it has fewer.
    """
    for name, module in model.named_modules():
        if not isinstance(module, nn.Embedding) or not name.endswith(POSITIONS):
            continue
        first = 0 if module.padding_idx is None else module.padding_idx + 1  # as RoBERTa counts
        known = module.num_embeddings - int(getattr(module, "offset", first))
        if known < max_tokens:
            raise ConfigError(
                f"max_tokens: got {max_tokens}, want {known} or fewer: {type(model).__name__} has learnt no "
                "position beyond."
            )
