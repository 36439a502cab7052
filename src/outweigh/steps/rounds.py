"""The rounds of `outweigh align rl`, one after the other; what a round's folder has is not done again."""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from outweigh.align.config import RLConfig
from outweigh.align.rl import train_round
from outweigh.align.rounds import Answers, diversity
from outweigh.data.config import LEAST_TOKENS, TokenConfig
from outweigh.data.files import raw_rows
from outweigh.data.pairs import PairSet
from outweigh.data.records import Message, Text
from outweigh.generation.asking import Asking
from outweigh.generation.config import SamplingConfig
from outweigh.integrations.trl import REFERENCE, RewardFunction
from outweigh.metrics.arrays import FloatArray
from outweigh.models.ensemble import load_scorer
from outweigh.models.policy import Policy, load_policy
from outweigh.models.reward import RewardModel, Scorer
from outweigh.steps.generate import generate
from outweigh.steps.record import Stopwatch, write_json
from outweigh.training.config import TrainConfig
from outweigh.training.fit import fit

logger = logging.getLogger(__name__)

Texts = list[tuple[Text, Text]]


class Given(NamedTuple):
    """Rewards of N answers to each of P prompts."""

    reward_PN: FloatArray
    refused: int  # of them a server refused, and they are the mean of the others


class Round(NamedTuple):
    """A finished round, as its folder has it."""

    folder: Path
    answers: Answers
    log: list[dict[str, float]]
    seconds: dict[str, float]
    reward_model: str


@dataclass
class Rounds:
    """What the rounds are made of; `reward` and `pairs` are of MetaRM between them."""

    out: Path
    prompts: Sequence[Text]
    followed: Sequence[Text]
    config: RLConfig
    reward: TrainConfig
    reward_model: str
    first: Scorer
    gold: Scorer | None
    pairs: PairSet | None
    resume: bool

    def run(self) -> Iterator[list[Round]]:
        """The finished rounds, the start among them and at first alone, each time that there is one more."""
        finished = [self._judged(0, self.config.policy, [], Stopwatch())]
        yield finished
        for number in range(1, self.config.rounds + 1):
            folder, clock = self.folder(number), Stopwatch()
            before = None if number == 1 else self.folder(number - 1)
            if before is not None and self.pairs is not None:
                with clock("reward model"):
                    self.reward_model = self._meta(folder, before)
            if not (folder / "log.json").exists():
                with clock("policy"):
                    log = self._trained(number, before)
                write_json(folder / "log.json", {"log": log, "seconds": clock.seconds})
            written = json.loads((folder / "log.json").read_text())
            log, clock.seconds = written["log"], written["seconds"]
            finished.append(self._judged(number, folder / "policy", log, clock))
            yield finished

    def folder(self, number: int) -> Path:
        """Where a round lies; 0 is the start."""
        return self.out / (f"round_{number}" if number else "start")

    def _trained(self, number: int, before: Path | None) -> list[dict[str, float]]:
        is_first = before is None or self.pairs is None  # MetaRM has made others
        scorer = self.first if is_first else load_scorer(self.reward_model)
        level = float(self._rewards(scorer, self._said(0)).reward_PN.mean())
        return train_round(
            self.prompts,
            RewardFunction(scorer, self.config.shaping, level=level),
            self.config,
            self.folder(number),
            number=number,
            columns=self._reference(scorer),
            before=before,
            resume=self.resume,
        )

    def _meta(self, folder: Path, before: Path) -> str:
        """The reward model after MetaRM's steps on the pairs, with what the policy now says as shifted."""
        place, config = folder / "reward", self.config
        if not (place / "model").exists():
            assert self.pairs is not None and isinstance(self.first, RewardModel)
            answers = self._answers(
                folder / "shifted.jsonl", before / "policy", self.prompts, config.meta_responses
            )
            meta = replace(self.reward.meta, data=str(answers), responses=config.meta_responses)
            told = replace(
                self.reward,
                backbone=self.reward_model,
                tokens=self.first.tokens,  # it goes on as it was trained
                meta=meta,
                seed=config.seed,
            )
            fit(self.pairs, told, place, resume=self.resume)
        return str(place / "model")

    def _reference(self, scorer: Scorer) -> dict[str, list[float]]:
        """The reward of one answer of the first policy to each prompt, where rewards are set against it."""
        if self.config.shaping.against != "reference":
            return {}
        answers = self._answers(self.folder(0) / "reference.jsonl", self.config.policy, self.prompts, 1)
        given = self._rewards(scorer, _texts(self.prompts, _rows(answers)), 1)
        return {REFERENCE: given.reward_PN[:, 0].tolist()}

    def _judged(
        self, number: int, policy: str | Path, log: list[dict[str, float]], clock: Stopwatch
    ) -> Round:
        folder = self.folder(number)
        file = folder / "answers.json"
        if not file.exists():
            with clock("following"):
                path = self._answers(folder / "answers.jsonl", policy, self.followed, self.config.eval_n)
                answers = self._measured(_rows(path), number, policy)
            write_json(file, {"answers": answers.to_dict(), "seconds": clock.seconds})
        written = json.loads(file.read_text())
        return Round(folder, Answers.of(written["answers"]), log, written["seconds"], self.reward_model)

    def _measured(self, rows: list[dict[str, Any]], number: int, policy: str | Path) -> Answers:
        """What a round's policy said to the followed prompts, in numbers."""
        texts = _texts(self.followed, rows)
        shape = (len(rows), self.config.eval_n)
        ratio = self._log_ratio(rows, policy) if number else np.zeros(len(texts))
        own = None
        if number > 1 and self.pairs is not None:
            scorer = load_scorer(self.reward_model)
            own = np.stack([self._rewards(scorer, self._said(each)).reward_PN for each in range(number + 1)])
        given = self._rewards(self.first, texts)
        gold = None if self.gold is None else self._rewards(self.gold, texts)
        return Answers(
            reward_PN=given.reward_PN,
            own_RPN=own,
            gold_PN=None if gold is None else gold.reward_PN,
            refused=given.refused + (0 if gold is None else gold.refused),
            log_ratio_PN=ratio.reshape(shape),
            tokens_PN=np.array([row["response_tokens"] for row in rows], dtype=np.float64),
            finished_PN=np.array([row["finished"] for row in rows], dtype=np.float64),
            diversity_P=np.array([diversity(row["responses"]) for row in rows]),
        )

    def _rewards(self, scorer: Scorer, texts: Texts, each: int | None = None) -> Given:
        """Rewards of so many answers to each prompt. One that a served model refuses counts as the mean of
        the others to its prompt, or of all."""
        reward_MN, refused = scorer.score_taken(texts, skip=True)
        reward = np.ma.masked_array(scorer.combined(reward_MN), mask=False)
        if refused:
            first = refused[min(refused)]
            if len(refused) == len(texts):
                raise first
            logger.warning("%d of %d answers have no reward. The first: %s", len(refused), len(texts), first)
            reward[sorted(refused)] = np.ma.masked
        reward_PN = reward.reshape(-1, self.config.eval_n if each is None else each)
        others_P1 = reward_PN.mean(axis=1, keepdims=True).filled(float(reward.mean()))
        return Given(np.where(np.ma.getmaskarray(reward_PN), others_P1, reward_PN.data), len(refused))

    def _log_ratio(self, rows: list[dict[str, Any]], policy: str | Path) -> FloatArray:
        """log p(response) under the policy less that under the first; an end counts where it was drawn."""
        asking = Asking(self.config.policy)
        lead, eos = asking.renderer.lead(), asking.tokenizer.eos_token_id
        end = [] if eos is None else [eos]
        ids, starts = [], []
        for prompt, row in zip(self.followed, rows, strict=True):
            opened = asking.ids(prompt)
            for response, finished in zip(row["responses"], row["finished"], strict=True):
                said = asking.tokenizer(lead + response, add_special_tokens=False)["input_ids"]
                ids.append([*opened, *said, *(end if finished or not said else [])])
                starts.append(len(opened))
        found = []
        tokens = TokenConfig(max_tokens=max(LEAST_TOKENS, *map(len, ids)))
        for name in (policy, self.config.policy):
            loaded = Policy(load_policy(name), asking.tokenizer, tokens, precision=self.config.precision)
            found.append(loaded.score_ids(ids, starts))
        ratio: FloatArray = found[0] - found[1]
        return ratio

    def _said(self, number: int) -> Texts:
        """The followed prompts with the answers of a round's policy."""
        return _texts(self.followed, _rows(self.folder(number) / "answers.jsonl"))

    def _answers(self, path: Path, policy: str | Path, prompts: Sequence[Text], n: int) -> Path:
        if not path.exists():
            sampling = SamplingConfig(
                n=n,
                temperature=self.config.temperature,
                top_p=self.config.top_p,
                max_new_tokens=self.config.max_new_tokens,
                seed=self.config.seed,
                precision=self.config.precision,
            )
            rows = [{"prompt": [message._asdict() for message in prompt]} for prompt in prompts]
            generate(rows, policy=policy, out=path, config=sampling, resume=self.resume)
        return path


def train_config(reward: TrainConfig | None) -> dict[str, Any]:
    """The settings of MetaRM's training that differ from the defaults, by name."""
    told, plain = asdict(reward or TrainConfig()), asdict(TrainConfig())
    return {name: told[name] for name in told if told[name] != plain[name]}


def set_by_rounds(reward: TrainConfig) -> list[str]:
    """Names of settings that the rounds decide, though they were given."""
    told, plain = train_config(reward), asdict(TrainConfig())
    names = [name for name in ("backbone", "tokens", "seed") if name in told]
    meta = told.get("meta", plain["meta"])
    return names + [f"meta.{name}" for name in ("data", "responses") if meta[name] != plain["meta"][name]]


def _rows(path: Path) -> list[dict[str, Any]]:
    return [raw.values for raw in raw_rows(path) if raw.values is not None]


def _texts(prompts: Sequence[Text], rows: list[dict[str, Any]]) -> Texts:
    return [
        (prompt, (Message("assistant", response),))
        for prompt, row in zip(prompts, rows, strict=True)
        for response in row["responses"]
    ]
