"""A reward model: texts in, rewards out."""

import json
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch

from outweigh.data.config import TokenConfig
from outweigh.data.pairs import PairSet
from outweigh.data.records import Text
from outweigh.data.rendering import Renderer
from outweigh.data.rows import prompt_text, response_text
from outweigh.data.tokens import Encoded, encode, truncate
from outweigh.errors import ConfigError, DataError, ModelError, ServerRefusal
from outweigh.models.batches import read_texts, token_budget
from outweigh.models.loading import load_classifier, load_tokenizer, quiet, reward_layer
from outweigh.models.packing import takes_packs
from outweigh.models.precision import autocast_dtype, default_device

SETTINGS = "outweigh.json"
CHUNK = 4096  # texts tokenised and sorted by length at once while scoring

Messages = str | Sequence[Mapping[str, str]]


class Origin(NamedTuple):
    """Where a model comes from, so that it may stand beside others."""

    base: str  # hash of the checkpoint that it was trained from
    level: float  # mean reward of the first texts that it was trained on: the shift that a gap leaves free


class Taken(NamedTuple):
    """What M models made of N texts, of which a server may have refused some."""

    reward_MN: np.ndarray  # NaN where there is none
    refused: Mapping[int, ServerRefusal]  # why, by place


class PairsTaken(NamedTuple):
    """What M models made of B pairs, of which a server may have refused some."""

    chosen_MB: np.ndarray  # float64, NaN where there is none
    rejected_MB: np.ndarray
    refused: Mapping[int, ServerRefusal]  # why, by place


class Scorer(ABC):
    """Whatever gives texts rewards: one reward model, or several as one."""

    origin: Origin | None = None

    @abstractmethod
    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response), float64 (N,)."""

    def score_each(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response) by each of the M models that it is made of, float64 (M, N)."""
        return self.score_texts(texts)[None]

    def score_taken(self, texts: Sequence[tuple[Text, Text]], *, skip: bool) -> Taken:
        """The same as `score_each`, but for texts that a server refuses; without `skip` up to the first."""
        return Taken(self.score_each(texts), {})

    def combined(self, reward_MN: np.ndarray) -> np.ndarray:
        """Its own rewards (N,), where its models give these."""
        return np.asarray(reward_MN[0])

    def score(self, prompts: Sequence[Messages | None], responses: Sequence[Messages]) -> np.ndarray:
        """Reward of each response to its prompt, float64 (N,); prompts and responses are strings or messages.

        Raises:
            ConfigError: not one prompt a response.
            DataError: a text is neither a string nor a list of messages.
        """
        return self.score_texts(texts_of(prompts, responses))

    def score_pairs(self, pairs: PairSet) -> tuple[np.ndarray, np.ndarray]:
        """Rewards of the chosen and of the rejected responses, float64 (B,) each."""
        chosen_MB, rejected_MB, _ = self.score_pairs_each(pairs)
        return self.combined(chosen_MB), self.combined(rejected_MB)

    def score_pairs_each(self, pairs: PairSet, *, skip: bool = False) -> PairsTaken:
        """Rewards of both sides of B pairs by each of its models, but for pairs of which a server refuses a
        text; without `skip` one of these is an error.

        A text that several pairs share is scored once.

        Raises:
            DataError: a server refuses a text of a pair.
        """
        reward_MN2, refused = list[np.ndarray](), dict[int, ServerRefusal]()
        for start in range(0, len(pairs), CHUNK):
            part = list(pairs.select(range(start, min(start + CHUNK, len(pairs)))))
            sides = [(pair.prompt, side) for pair in part for side in (pair.chosen, pair.rejected)]
            place_of = {text: place for place, text in enumerate(dict.fromkeys(sides))}
            taken = self.score_taken(list(place_of), skip=skip)
            places = [place_of[text] for text in sides]
            refused |= {
                start + side // 2: taken.refused[place]
                for side, place in enumerate(places)
                if place in taken.refused
            }
            if refused and not skip:
                first = min(refused)
                raise DataError(f"{pairs[first].origin}: {refused[first]} Drop the row, or skip bad rows.")
            reward_MN2.append(taken.reward_MN[:, places].reshape(-1, len(part), 2))
        reward_MB2 = np.concatenate(reward_MN2, axis=1)
        return PairsTaken(reward_MB2[..., 0], reward_MB2[..., 1], refused)


def texts_of(prompts: Sequence[Messages | None], responses: Sequence[Messages]) -> list[tuple[Text, Text]]:
    """Each prompt with its response, from strings or messages.

    Raises:
        ConfigError, DataError: as `Scorer.score`.
    """
    if len(prompts) != len(responses):
        raise ConfigError(f"score: got {len(prompts)} prompts and {len(responses)} responses, want one each.")
    given = [{} if prompt is None else {"prompt": prompt} for prompt in prompts]
    return [
        (prompt_text(row), response_text(response, "response"))
        for row, response in zip(given, responses, strict=True)
    ]


class RewardModel(Scorer):
    """A classifier with one label, its tokenizer, and how texts are rendered and cut for it.

        >>> model = RewardModel.load("run/model")
        >>> model.score(["Name a prime."], ["Seven."])
        array([1.32])

    A reward is a number of nats of log-odds: sigma(r_a - r_b) is the chance that a is preferred to b. Only
    differences between responses to one prompt mean anything.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        tokens: TokenConfig | None = None,
        *,
        device: str | torch.device | None = None,
        precision: str = "auto",
        origin: Origin | None = None,
    ) -> None:
        self.device = torch.device(device) if device else default_device()
        self.model = model.to(self.device).eval()
        self._turn = threading.Lock()  # what a pass reads within the model it hooks into it
        self.tokenizer = tokenizer
        self.tokens = tokens or TokenConfig(max_tokens=_longest(model, tokenizer))
        self.renderer = Renderer(tokenizer, self.tokens.template)
        self.precision = precision
        self.origin = origin
        dtype = autocast_dtype(self.device, precision)
        self.packs = takes_packs(self.model, reward_layer(self.model), self.tokens.max_tokens, dtype)

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device | None = None,
        precision: str = "auto",
        max_tokens: int | None = None,
        trust_remote_code: bool = False,
    ) -> Self:
        """The reward model saved in a folder or on the Hub, by outweigh or by any other trainer.

        Raises:
            ModelError: it can't be loaded, or is no reward model.
        """
        tokenizer = load_tokenizer(path, trust_remote_code=trust_remote_code)
        model = load_classifier(path, tokenizer, trained=True, trust_remote_code=trust_remote_code)
        file = Path(path) / SETTINGS
        try:
            about = json.loads(file.read_text()) if file.exists() else {}
            tokens = TokenConfig(**about["tokens"]) if about else None
            origin = Origin(**about["origin"]) if about.get("origin") else None
        except (ConfigError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise ModelError(f"{file}: can't be read, got {error}. Save the model anew.") from None
        if max_tokens is not None:
            tokens = TokenConfig(**{**asdict(tokens or TokenConfig()), "max_tokens": max_tokens})
        return cls(model, tokenizer, tokens, device=device, precision=precision, origin=origin)

    def score_texts(self, texts: Sequence[tuple[Text, Text]]) -> np.ndarray:
        """Reward of each (prompt, response), float64 (N,). Texts that are too long are cut as in training."""
        chunks = encoded_chunks(texts, self.renderer, self.tokens.max_tokens)
        return np.concatenate(
            [np.empty(0), *(self.score_ids([text.ids for text in each]) for each in chunks)]
        )

    @torch.no_grad()  # in whose place inference_mode would have weights cast in each forward
    def score_ids(self, ids: Sequence[Sequence[int]]) -> np.ndarray:
        """Reward of each text given as token ids, float64 (N,)."""
        dtype = autocast_dtype(self.device, self.precision)
        with self._turn, torch.autocast(self.device.type, dtype=dtype) if dtype else nullcontext():
            found = read_texts(
                self.model,
                reward_layer(self.model),
                ids,
                pad_token=self.tokenizer.pad_token_id,
                device=self.device,
                max_tokens=2 * token_budget(self.device),
                packs=self.packs,
            )
        return found.rewards.double().cpu().numpy()

    def save(self, folder: str | Path) -> None:
        """Nothing; writes safetensors, tokenizer with its chat template, and how texts are cut."""
        folder = Path(folder)
        with quiet():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        about = {"tokens": asdict(self.tokens), "origin": self.origin and self.origin._asdict()}
        (folder / SETTINGS).write_text(json.dumps(about, indent=1))


def encoded_chunks(
    texts: Sequence[tuple[Text, Text]], renderer: Renderer, max_tokens: int
) -> Iterator[list[Encoded]]:
    """The texts as token ids, cut as in training, some thousands at a time."""
    for start in range(0, len(texts), CHUNK):
        yield [truncate(text, max_tokens) for text in encode(texts[start : start + CHUNK], renderer)]


def _longest(model: Any, tokenizer: Any) -> int:
    """Tokens that a model of unknown training takes: the least of what it and its tokenizer name, or 2048."""
    positions = getattr(model.config, "max_position_embeddings", None) or 2048
    return int(min(positions, tokenizer.model_max_length, 2048))
