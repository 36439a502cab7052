"""`outweigh align rl`: rounds in which a policy learns from the reward model, and it from the policy."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from outweigh.align.config import RLConfig
from outweigh.align.rl import train_round
from outweigh.align.rounds import Answers, RoundFacts, diversity, round_facts
from outweigh.data.files import raw_rows
from outweigh.data.pairs import Data, OnBadRows, parsed, read_pairs
from outweigh.data.records import Message, Text
from outweigh.data.rows import row_prompt
from outweigh.errors import ConfigError, DataError
from outweigh.generation.asking import Asking
from outweigh.generation.config import SamplingConfig
from outweigh.integrations.trl import REFERENCE, RewardFunction
from outweigh.models.ensemble import load_scorer
from outweigh.models.policy import Policy
from outweigh.models.reward import Scorer
from outweigh.optional import need
from outweigh.report.rounds import draw_rounds
from outweigh.steps.generate import generate
from outweigh.steps.record import Stopwatch, headed, peak_memory, write_json, write_run
from outweigh.training.config import MetaConfig, TrainConfig
from outweigh.training.fit import fit


class Round(NamedTuple):
    """A finished round, as its folder has it."""

    folder: Path
    answers: Answers
    log: list[dict[str, float]]
    seconds: dict[str, float]
    reward_model: str


def align_rl(
    data: Data,
    *,
    reward_model: str | Path,
    out: str | Path,
    config: RLConfig | None = None,
    reward: TrainConfig | None = None,
    gold_model: str | Path | None = None,
    pairs: Data | None = None,
    eval: Data | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """The rounds in figures, as in `out/results.json`; `out/policy` is the policy of most gold, else the
    last.

    `data` has prompts, of which equal ones count once. Each round trains the policy on them, by TRL, and
    judges it on the prompts of `eval`, or on some kept from training. With `pairs`, between two rounds the
    policy answers the training prompts and MetaRM trains the reward model further, as `reward` says, on the
    pairs, with the answers as shifted responses. `gold_model` judges and is never trained on. With `resume`
    what is finished is taken as it is, also within a round.

    Raises:
        DataError, ConfigError, ModelError, TrainingError, MissingExtra: with what to do.
    """
    config, out = config or RLConfig(), Path(out)
    need("trl", extra="trl", feature="align rl")
    prompts, followed, bad = _parted(data, eval, config, on_bad_rows)
    about = {"prompts": len(prompts), "followed": len(followed), "bad_rows": bad}
    names = {"reward_model": str(reward_model), "gold_model": gold_model and str(gold_model)}
    settings = asdict(config) | names | {"pairs": None if pairs is None else str(pairs)}
    _same_run(out, settings, [prompts, followed], resume)
    write_run(out, "align rl", settings, about)
    runner = _Rounds(out, prompts, followed, config, reward or TrainConfig(), str(reward_model), resume)
    runner.gold = None if gold_model is None else load_scorer(gold_model)
    runner.pairs = pairs
    results = headed("align rl", config.seed) | {"data": about, "config": settings}
    for finished in runner.run():
        answers = [each.answers for each in finished]
        facts = [
            round_facts(answers[: place + 1], finished[place].log, seed=config.seed)
            for place in range(len(finished))
        ]
        results |= {
            "rounds": facts,
            "log": [each.log for each in finished[1:]],
            "seconds": {each.folder.name: each.seconds for each in finished},
            "reward_models": [each.reward_model for each in finished[1:]],
            "peak_memory_bytes": peak_memory(),
        }
        write_json(out / "results.json", results)
        draw_rounds(facts, results["log"], out / "rounds.png")
        if config.stop and "over-optimisation" in facts[-1].alarms:
            results["stopped"] = facts[-1].round
            break
    results["kept"] = _keep(out, results["rounds"])
    write_json(out / "results.json", results)
    return results


def planned_rl(
    data: Data,
    *,
    out: str | Path,
    config: RLConfig,
    eval: Data | None = None,
    on_bad_rows: OnBadRows = "error",
) -> dict[str, Any]:
    """What the rounds would draw and train on; MetaRM's answers between rounds are not counted.

    Raises:
        DataError, ConfigError, ModelError: as `align_rl`.
    """
    prompts, followed, bad = _parted(data, eval, config, on_bad_rows)
    steps = int(len(prompts) // config.batch_prompts * config.epochs)
    responses = config.rounds * steps * config.batch_prompts * config.n
    responses += (config.rounds + 1) * len(followed) * config.eval_n
    return {
        "rounds": config.rounds,
        "steps": steps,
        "prompts": len(prompts),
        "followed": len(followed),
        "bad_rows": bad,
        "responses": responses,
        "tokens": responses * config.max_new_tokens,
        "writes": [f"{out}/policy", f"{out}/results.json", f"{out}/rounds.png"],
    }


class _Rounds:
    """The rounds, one after the other; what a round's folder has is not done again."""

    gold: Scorer | None = None
    pairs: Data | None = None

    def __init__(
        self,
        out: Path,
        prompts: Sequence[Text],
        followed: Sequence[Text],
        config: RLConfig,
        reward: TrainConfig,
        reward_model: str,
        resume: bool,
    ) -> None:
        self.out, self.prompts, self.followed = out, prompts, followed
        self.config, self.reward, self.reward_model, self.resume = config, reward, reward_model, resume
        self.first = load_scorer(reward_model)

    def run(self) -> Any:
        """The finished rounds, the start among them, each time that there is one more."""
        finished = [self._judged(0, self.config.policy, [], Stopwatch())]
        columns = self._reference()
        for number in range(1, self.config.rounds + 1):
            folder, clock = self._folder(number), Stopwatch()
            before = None if number == 1 else self._folder(number - 1)
            if before is not None and self.pairs is not None:
                with clock("reward model"):
                    self.reward_model = self._meta(folder, before)
            log_file = folder / "log.json"
            if not log_file.exists():
                with clock("policy"):
                    scorer = self.first if before is None else load_scorer(self.reward_model)
                    log = train_round(
                        self.prompts,
                        RewardFunction(scorer, self.config.shaping),
                        self.config,
                        folder,
                        number=number,
                        columns=columns,
                        before=before,
                        resume=self.resume,
                    )
                write_json(log_file, {"log": log})
            log = json.loads(log_file.read_text())["log"]
            finished.append(self._judged(number, folder / "policy", log, clock))
            yield finished

    def _folder(self, number: int) -> Path:
        return self.out / (f"round_{number}" if number else "start")

    def _meta(self, folder: Path, before: Path) -> str:
        """The reward model after MetaRM's steps on the pairs, with what the policy now says as shifted."""
        place = folder / "reward"
        if not (place / "model").exists():
            config = self.config
            answers = self._answers(
                folder / "shifted.jsonl", before / "policy", self.prompts, config.meta_responses
            )
            assert self.pairs is not None
            meta = MetaConfig(
                **asdict(self.reward.meta) | {"data": str(answers), "responses": config.meta_responses}
            )
            told = {"backbone": self.reward_model, "meta": meta, "seed": config.seed}
            fit(read_pairs(self.pairs), TrainConfig(**_fields(self.reward) | told), place, resume=self.resume)
        return str(place / "model")

    def _reference(self) -> dict[str, list[float]]:
        """The reward of a first answer to each prompt, where rewards are set against it."""
        if self.config.shaping.against != "reference":
            return {}
        answers = self._answers(self._folder(0) / "reference.jsonl", self.config.policy, self.prompts, 1)
        said = [raw.values["responses"][0] for raw in raw_rows(answers) if raw.values is not None]
        return {REFERENCE: self.first.score([_messages(each) for each in self.prompts], said).tolist()}

    def _judged(
        self, number: int, policy: str | Path, log: list[dict[str, float]], clock: Stopwatch
    ) -> Round:
        folder = self._folder(number)
        file = folder / "answers.json"
        if not file.exists():
            with clock("following"):
                answers = self._measured(folder, policy)
            write_json(file, {"answers": answers.to_dict(), "seconds": clock.seconds})
        written = json.loads(file.read_text())
        return Round(folder, Answers.of(written["answers"]), log, written["seconds"], self.reward_model)

    def _measured(self, folder: Path, policy: str | Path) -> Answers:
        """What the policy says to the followed prompts, in numbers."""
        path = self._answers(folder / "answers.jsonl", policy, self.followed, self.config.eval_n)
        rows = [raw.values for raw in raw_rows(path) if raw.values is not None]
        texts = [
            (prompt, (Message("assistant", response),))
            for prompt, row in zip(self.followed, rows, strict=True)
            for response in row["responses"]
        ]
        shape = (len(rows), self.config.eval_n)
        ratio = np.zeros(len(texts))
        if str(policy) != self.config.policy:
            ratio = Policy.load(policy).score_texts(texts) - Policy.load(self.config.policy).score_texts(
                texts
            )
        gold = None if self.gold is None else self.gold.score_texts(texts).reshape(shape)
        return Answers(
            reward_PN=self.first.score_texts(texts).reshape(shape),
            gold_PN=gold,
            log_ratio_PN=ratio.reshape(shape),
            tokens_PN=np.array([row["response_tokens"] for row in rows], dtype=np.float64),
            finished_PN=np.array([row["finished"] for row in rows], dtype=np.float64),
            diversity_P=np.array([diversity(row["responses"]) for row in rows]),
        )

    def _answers(self, path: Path, policy: str | Path, prompts: Sequence[Text], n: int) -> Path:
        if not path.exists():
            sampling = SamplingConfig(
                n=n,
                temperature=self.config.temperature,
                top_p=self.config.top_p,
                max_new_tokens=self.config.max_new_tokens,
                seed=self.config.seed,
            )
            rows = [{"prompt": _messages(prompt)} for prompt in prompts]
            generate(rows, policy=policy, out=path, config=sampling, resume=self.resume)
        return path


def _prompts(
    data: Data, asking: Asking, config: RLConfig, on_bad_rows: OnBadRows
) -> tuple[list[Text], list[str]]:
    """The distinct prompts, and what is wrong with the rows left out."""
    found: dict[Text, None] = {}
    bad = []
    for raw in raw_rows(data):
        try:
            prompt = parsed(raw, row_prompt)[0]
            if refusal := asking.refusal(prompt, config.max_new_tokens):
                raise DataError(f"{raw.origin}: {refusal}")
        except DataError as error:
            if on_bad_rows == "error":
                raise
            bad.append(str(error))
        else:
            found[prompt] = None
    return list(found), bad


def _parted(
    data: Data, eval: Data | None, config: RLConfig, on_bad_rows: OnBadRows
) -> tuple[list[Text], list[Text], list[str]]:
    """The prompts to train on, those to follow the rounds on, and what is wrong with rows left out."""
    asking = Asking(config.policy)
    prompts, bad = _prompts(data, asking, config, on_bad_rows)
    if eval is None:
        followed = _kept_apart(prompts, config)
    else:
        followed, further = _prompts(eval, asking, config, on_bad_rows)
        bad += further
    prompts = [prompt for prompt in prompts if prompt not in set(followed)]
    if len(prompts) < config.batch_prompts:
        raise DataError(
            f"align rl: got {len(prompts)} prompts to train on, want a batch of {config.batch_prompts} or "
            "more. Give more, or lower batch_prompts or eval_prompts."
        )
    return prompts, followed, bad


def _kept_apart(prompts: Sequence[Text], config: RLConfig) -> list[Text]:
    """Prompts to follow the rounds on, drawn at random."""
    if len(prompts) <= config.eval_prompts:
        raise DataError(
            f"align rl: got {len(prompts)} distinct prompts, want more than the {config.eval_prompts} "
            "that are "
            "kept to follow the rounds. Give more, lower eval_prompts, or name a file with eval."
        )
    places = np.random.default_rng(config.seed).permutation(len(prompts))[: config.eval_prompts]
    return [prompts[place] for place in sorted(places.tolist())]


def _messages(prompt: Text) -> list[dict[str, str]]:
    return [message._asdict() for message in prompt]


def _fields(config: TrainConfig) -> dict[str, Any]:
    return {name: getattr(config, name) for name in config.__dataclass_fields__}


def _same_run(out: Path, settings: dict[str, Any], prompts: Sequence[Any], resume: bool) -> None:
    """Nothing, if the folder is new, or `resume` goes on with the same settings; more rounds may be asked
    for."""
    asked = {name: value for name, value in settings.items() if name != "rounds"}
    identity = hashlib.sha256(json.dumps([asked, prompts], default=str).encode()).hexdigest()
    file = out / "identity"
    if file.exists() and not resume:
        raise ConfigError(f"{out}: holds a run. Go on with --resume, or choose another folder.")
    if file.exists() and file.read_text() != identity:
        raise ConfigError(f"{out}: holds a run of other prompts or settings. Give those, or another folder.")
    out.mkdir(parents=True, exist_ok=True)
    file.write_text(identity)


def _keep(out: Path, rounds: Sequence[RoundFacts]) -> int:
    """The round whose policy is copied to `out/policy`: that of most gold, without gold the last."""
    golds = [each.gold.value or 0.0 for each in rounds[1:] if each.gold is not None]
    number = 1 + int(np.argmax(golds)) if golds else rounds[-1].round
    shutil.rmtree(out / "policy", ignore_errors=True)
    shutil.copytree(out / f"round_{number}" / "policy", out / "policy")
    return number
