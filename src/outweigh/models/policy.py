"""A policy: a causal model, and the log-probabilities that it gives to responses."""

from collections.abc import Sequence
from contextlib import nullcontext
from inspect import signature
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from outweigh.data.config import TokenConfig
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.errors import ModelError
from outweigh.models.batches import forwards, on_device, order_back, token_budget
from outweigh.models.loading import explained, load_tokenizer, quiet, resolve, set_dropout
from outweigh.models.packing import takes_packs
from outweigh.models.precision import autocast_dtype, default_device
from outweigh.models.reward import Scorer, encoded_chunks

COMMON_VOCABULARY = 32_768
"""Tokens; with more of them fewer texts share a forward."""


def load_policy(name: str | Path, *, dropout: float = 0.0, trust_remote_code: bool = False) -> Any:
    """A causal model in float32; `dropout` is set wherever the architecture has any.

    Raises:
        ModelError: nothing to load, weights in another format than safetensors, or no causal model.
    """
    return _loaded(name, dropout, trust_remote_code)


def check_causal(name: str | Path, *, trust_remote_code: bool = False) -> None:
    """Nothing, if it is a causal model; its weights are not read.

    Raises:
        ModelError: as `load_policy`.
    """
    _loaded(name, 0.0, trust_remote_code, device_map="meta")


def _loaded(name: str | Path, dropout: float, trust_remote_code: bool, **further: Any) -> Any:
    with explained(name), quiet():
        where = resolve(name)
        config = AutoConfig.from_pretrained(where, trust_remote_code=trust_remote_code)
        set_dropout(config, dropout)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            where,
            config=config,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=trust_remote_code,
            output_loading_info=True,
            **further,
        )
    model, info = loaded
    if info["missing_keys"]:  # an encoder, or a reward model: its head would be drawn anew
        raise ModelError(
            f"{name}: no causal model, its checkpoint lacks {', '.join(sorted(info['missing_keys']))}. Want "
            "one that generates: smollm2, or a chat model."
        )
    return model


def log_probabilities(
    model: nn.Module, ids: Sequence[Sequence[int]], starts: Sequence[int], **how: Any
) -> Tensor:
    """log p(response | prompt) of each text, float32 (N,) in nats: the sum over all tokens from `starts` on,
    what closes the text among them. `how` is what `forwards` takes; gradients flow where they are enabled.

    Where only prompts stand no logits are computed, if the architecture lets them be left out.
    """
    chooses = _chooses_logits(model)
    found, order = [], []
    for each in forwards(ids, **how):
        begins = [max(1, starts[place]) for place in each.places]
        parts = list(zip(each.rows, each.columns, begins, each.places, strict=True))
        sizes = [len(columns) - begin for _, columns, begin, _ in parts]
        # A token is read off where the one before it stands
        column_T = np.concatenate([columns[begin - 1 : -1] for _, columns, begin, _ in parts])
        next_T = np.concatenate([ids[place][begin:] for _, _, begin, place in parts])
        kept_K, at_T = np.unique(column_T, return_inverse=True)
        kept = on_device(kept_K, how["device"])
        if chooses:
            logits_RKV = model(**each.inputs, logits_to_keep=kept).logits
        else:
            logits_RKV = model(**each.inputs).logits[:, kept]
        logits_TV = logits_RKV[np.repeat(each.rows, sizes), at_T].float()
        next_token_T = on_device(next_T, logits_TV.device)
        said_T = logits_TV.gather(1, next_token_T[:, None])[:, 0] - logits_TV.logsumexp(1)
        found.append(torch.stack([part.sum() for part in said_T.split(sizes)]))
        order.append(each.places)
    return torch.cat(found)[order_back(order, found[0].device)]


def _chooses_logits(model: nn.Module) -> bool:
    """True where the causal model, whatever is wrapped round it, takes the places to compute logits at."""
    own = next((each for each in model.modules() if isinstance(each, PreTrainedModel)), None)
    return own is not None and "logits_to_keep" in signature(own.forward).parameters


def policy_tokens(device: torch.device, vocabulary: int) -> int:
    """Padded tokens that one forward of a policy takes: fewer than a reward model's, as each has a logit for
    every token of a large vocabulary."""
    return max(256, token_budget(device) * COMMON_VOCABULARY // max(vocabulary, COMMON_VOCABULARY))


class Policy(Scorer):
    """A causal model with its tokenizer, as something that scores: log p(response | prompt), in nats."""

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        tokens: TokenConfig | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = "auto",
    ) -> None:
        self.device = torch.device(device) if device else default_device()
        self.model = model.to(self.device).eval()
        self.tokenizer = tokenizer
        self.tokens = tokens or TokenConfig()
        self.renderer = Renderer(tokenizer, self.tokens.template)
        self.precision = precision
        layer, dtype = self.model.get_output_embeddings(), autocast_dtype(self.device, precision)
        self.packs = takes_packs(self.model, layer, self.tokens.max_tokens, dtype)

    @classmethod
    def load(
        cls,
        path: str | Path,
        tokens: TokenConfig | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = "auto",
        trust_remote_code: bool = False,
    ) -> Self:
        """The policy saved in a folder or on the Hub; a plain checkpoint, it keeps no `tokens` of its own.

        Raises:
            ModelError: it can't be loaded, or is no causal model.
        """
        tokenizer = load_tokenizer(path, own_pad=False, trust_remote_code=trust_remote_code)
        model = load_policy(path, trust_remote_code=trust_remote_code)
        return cls(model, tokenizer, tokens, device=device, precision=precision)

    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """log p(response | prompt) of each text, float64 (N,). Texts that are too long are cut."""
        chunks = encoded_chunks(texts, self.renderer, self.tokens.max_tokens)
        found = (
            self.score_ids([text.ids for text in each], [text.start for text in each]) for each in chunks
        )
        return np.concatenate([np.empty(0), *found])

    @torch.no_grad()  # in whose place inference_mode would have weights cast in each forward
    def score_ids(self, ids: Sequence[Sequence[int]], starts: Sequence[int]) -> np.ndarray:
        """The same of texts given as token ids, responses from `starts` on, float64 (N,)."""
        dtype = autocast_dtype(self.device, self.precision)
        with torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext():
            found = log_probabilities(
                self.model,
                ids,
                starts,
                pad_token=filler(self.tokenizer),
                device=self.device,
                max_tokens=policy_tokens(self.device, self.model.config.vocab_size),
                packs=self.packs,
            )
        return found.double().cpu().numpy()

    def save(self, folder: str | Path) -> None:
        """Nothing; writes a plain causal checkpoint: safetensors, and the tokenizer with its template."""
        with quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)


def filler(tokenizer: Any) -> int:
    """A token to pad with. Its content is never read: lengths are known."""
    return int(tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0)
