"""Sampling from a policy in memory: each prompt is read once, its cache shared by its n responses."""

from collections.abc import Generator, Iterable, Sequence
from inspect import signature
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import DynamicCache, GenerationConfig, LogitsProcessor, LogitsProcessorList

from outweigh.data.records import Text
from outweigh.generation.asking import Asking
from outweigh.generation.config import SamplingConfig
from outweigh.generation.samples import Sample, Sampler
from outweigh.models.loading import quiet
from outweigh.models.policy import filler, load_policy
from outweigh.models.precision import autocast_dtype, default_device

BATCH_RESPONSES = {"cuda": 256}
"""Responses drawn at once, by kind of device."""
FEWEST = 32  # on any other


class LocalPolicy(Sampler):
    """A causal model that answers. Temperature and top_p are all that shapes what it says: a top_k or a
    penalty that its generation_config.json asks for is not applied.

    Raises:
        ModelError: it can't be loaded, or is no causal model.
    """

    def __init__(self, name: str | Path, config: SamplingConfig) -> None:
        self.config = config
        self.device = default_device()
        self.asking = Asking(name)
        self.tokenizer = self.asking.tokenizer
        model = load_policy(name).eval()
        self.model = model.to(self.device, autocast_dtype(self.device, config.precision) or torch.float32)
        self.batch = config.batch_responses or BATCH_RESPONSES.get(self.device.type, FEWEST)
        self.batch_prompts = max(1, self.batch // config.n)
        self.generation = self._generation()

    def refusal(self, prompt: Text) -> str:
        """Why this prompt can't be answered; empty where it can."""
        return self.asking.refusal(prompt, self.config.max_new_tokens)

    def samples(self, prompts: Iterable[Text], first: int) -> Generator[Sequence[Sample], None, None]:
        """The n responses to each prompt; batches begin at `first`, so that a job can go on at one."""
        prompts = iter(prompts)
        while batch := list(islice(prompts, self.batch_prompts)):
            ids = [self.asking.ids(prompt) for prompt in batch]
            found: list[list[Sample]] = [[] for _ in batch]
            while (drawn := len(found[0])) < self.config.n:
                seed = int(np.random.SeedSequence([self.config.seed, first, drawn]).generate_state(1)[0])
                copies = min(self.batch, self.config.n - drawn)
                for place, sample in enumerate(self._batch(ids, copies, seed)):
                    found[place // copies].append(sample)
            yield from found
            first += len(batch)

    @torch.inference_mode()
    def _batch(self, ids: Sequence[Sequence[int]], copies: int, seed: int) -> list[Sample]:
        """So many responses to each prompt, those to one prompt side by side."""
        longest = max(map(len, ids))
        input_PL = torch.full((len(ids), longest), filler(self.tokenizer))
        mask_PL = torch.zeros((len(ids), longest), dtype=torch.long)
        for row, each in enumerate(ids):
            input_PL[row, longest - len(each) :] = torch.tensor(each)
            mask_PL[row, longest - len(each) :] = 1
        input_PL, mask_PL = input_PL.to(self.device), mask_PL.to(self.device)
        cache = self._read(input_PL, mask_PL, copies) if min(map(len, ids)) > 1 else None
        recorder = _Recorder()
        with torch.random.fork_rng(), quiet():
            torch.manual_seed(seed)
            said_RL: Tensor = self.model.generate(
                input_PL.repeat_interleave(copies, 0),
                attention_mask=mask_PL.repeat_interleave(copies, 0),
                past_key_values=cache,
                generation_config=self.generation,
                logits_processor=LogitsProcessorList([recorder]),
            )
        logprob_RT = recorder.finished(said_RL)
        said_RT = said_RL[:, longest:].cpu()
        return [self._sample(*each) for each in zip(said_RT, logprob_RT, strict=True)]

    def _read(self, input_PL: Tensor, mask_PL: Tensor, copies: int) -> DynamicCache:
        """The cache of all tokens of the prompts but the last, repeated: a prompt is read once for all."""
        cache = DynamicCache(config=self.model.config)
        own = signature(self.model.forward).parameters
        places = (
            {"position_ids": (mask_PL[:, :-1].cumsum(1) - 1).clamp(min=0)} if "position_ids" in own else {}
        )
        kept = {"logits_to_keep": 1} if "logits_to_keep" in own else {}
        self.model(
            input_ids=input_PL[:, :-1],
            attention_mask=mask_PL[:, :-1],
            past_key_values=cache,
            use_cache=True,
            **places,
            **kept,
        )
        cache.batch_repeat_interleave(copies)
        return cache

    def _sample(self, said_T: Tensor, logprob_T: Tensor) -> Sample:
        ends = torch.isin(said_T, self.ends).nonzero()
        finished = len(ends) > 0
        tokens = int(ends[0]) + 1 if finished else len(said_T)
        text = self.tokenizer.decode(said_T[:tokens], skip_special_tokens=True)
        return Sample(text.removeprefix(self.lead), tokens, finished, float(logprob_T[:tokens].sum()))

    def _generation(self) -> GenerationConfig:
        told = self.model.generation_config.eos_token_id
        told = told if isinstance(told, list) else [told]
        ends = {*told, self.tokenizer.eos_token_id} - {None}
        self.ends = torch.tensor(sorted(ends), dtype=torch.long)
        self.lead = self.asking.renderer.lead()
        # What is left unset below, generate() would take from there: penalties, a min_p
        self.model.generation_config = GenerationConfig()
        warm = {"temperature": self.config.temperature, "top_p": self.config.top_p, "top_k": 0}
        return GenerationConfig(
            max_new_tokens=self.config.max_new_tokens,
            eos_token_id=sorted(ends) or None,
            pad_token_id=filler(self.tokenizer),
            do_sample=self.config.temperature > 0,
            **(warm if self.config.temperature > 0 else {}),
        )


class _Recorder(LogitsProcessor):
    """Notes the log-probability of each token drawn; it stands before temperature and top_p."""

    def __init__(self) -> None:
        self.before_RV: Tensor | None = None
        self.logprobs: list[Tensor] = []

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        self._note(input_ids)
        self.before_RV = scores.float().log_softmax(-1)
        return scores

    def finished(self, said_RL: Tensor) -> Tensor:
        """log p of each token drawn, (R, T)."""
        self._note(said_RL)
        return torch.stack(self.logprobs, dim=1).cpu()

    def _note(self, said_RL: Tensor) -> None:
        if self.before_RV is not None:
            self.logprobs.append(self.before_RV.gather(1, said_RL[:, -1:])[:, 0])
