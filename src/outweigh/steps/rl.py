"""`outweigh align rl`: rounds in which a policy learns from the reward model, and it from the policy."""

import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from outweigh.align.config import RLConfig
from outweigh.align.rounds import RoundFacts, round_facts
from outweigh.data.cache import appearing_whole
from outweigh.data.pairs import Data, OnBadRows, PairSet, read_pairs
from outweigh.data.records import Text
from outweigh.data.writing import replaced_whole
from outweigh.errors import ConfigError, DataError
from outweigh.generation.asking import Asking
from outweigh.integrations import verl
from outweigh.models.ensemble import load_scorer, members_of
from outweigh.models.features import checkpoint_identity
from outweigh.models.policy import check_causal
from outweigh.optional import need
from outweigh.servers.config import ServerConfig, is_server, masked
from outweigh.steps.generate import Asked, asked_rows
from outweigh.steps.lock import alone
from outweigh.steps.record import as_json, check_owner, headed, peak_memory, sources, write_json, write_run
from outweigh.steps.rounds import Round, Rounds, set_by_rounds, train_config
from outweigh.training.checkpoints import full_disk_named
from outweigh.training.config import TrainConfig
from outweigh.training.fit import check_training
from outweigh.training.items import asked_columns, check_fits


@alone
def align_rl(
    data: Data,
    *,
    reward_model: str | Path,
    out: str | Path,
    config: RLConfig | None = None,
    reward: TrainConfig | None = None,
    gold_model: str | Path | None = None,
    server: ServerConfig | None = None,
    pairs: Data | None = None,
    eval: Data | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """The rounds in figures, as in `out/results.json`; `out/policy` is the last, or with gold the best one.

    `data` has prompts, of which equal ones count once. Each round trains the policy on them, by TRL, and
    judges it on the prompts of `eval`, or on some kept from training. `out/prompts.parquet` and
    `out/followed.parquet` have either as other trainers read them. With `pairs`, between two rounds the
    policy answers the training prompts and MetaRM trains the reward model further, as `reward` says, on the
    pairs, with the answers as shifted responses. `gold_model` judges and is never trained on; where no round
    has more gold than the policy that they began with, none is kept. `server` says how served ones are asked.
    With `resume` what is finished is taken as it is, also within a round; more rounds may be asked for, or no
    stop. Bad rows of the pairs that are skipped are listed in `out/bad_rows.jsonl`.

    Raises:
        DataError, ConfigError, ModelError, TrainingError, MissingExtra: with what to do.
    """
    config, out = config or RLConfig(), Path(out)
    _check_can_begin(config, Path(out))
    _check_meta(config, reward, pairs, str(reward_model))
    learned = None if pairs is None else _learned(pairs, reward or TrainConfig(), reward_model, on_bad_rows)
    first = load_scorer(reward_model, server)
    prompts, followed, bad = _parted(data, eval, config, on_bad_rows)
    about = {"prompts": len(prompts), "followed": len(followed), "bad_rows": bad, "files": sources(data)}
    settings = asdict(config) | {
        "weights": _weights(config.policy, reward_model, gold_model),
        "reward_model": masked(reward_model),
        "gold_model": None if gold_model is None else masked(gold_model),
        "pairs": None if pairs is None else sources(pairs),
        "reward": train_config(reward),
    }
    _same_run(out, settings, [prompts, followed], resume)
    write_run(out, "align rl", settings, about)
    _write_inputs(out, learned, prompts=prompts, followed=followed)
    rounds = Rounds(
        out=out,
        prompts=prompts,
        followed=followed,
        config=config,
        reward=reward or TrainConfig(),
        reward_model=str(reward_model),
        first=first,
        gold=None if gold_model is None else load_scorer(gold_model, server),
        pairs=learned,
        resume=resume,
    )
    results = headed("align rl", config.seed) | {"data": about, "config": settings}
    for finished in rounds.run():
        facts = _facts(finished, config.seed)
        results |= {
            "rounds": facts,
            "log": [each.log for each in finished[1:]],
            "seconds": {each.folder.name: each.seconds for each in finished},
            "reward_models": [masked(each.reward_model) for each in finished[1:]],
            "peak_memory_bytes": peak_memory(),
        }
        _report(results, out)
        if config.stop and "over-optimisation" in facts[-1].alarms:
            results["stopped"] = facts[-1].round
            break
    results["kept"] = _keep(rounds, results["rounds"])
    _report(results, out)
    return results


def _write_inputs(out: Path, pairs: PairSet | None, **prompts: Sequence[Text]) -> None:
    """Nothing; writes what was skipped of the pairs, and the prompts by their names as verl reads them, and
    OpenRLHF and TRL their `prompt`."""
    if pairs is not None and pairs.counts.bad_rows:
        pairs.write_bad_rows(out / "bad_rows.jsonl")
    for name, each in prompts.items():
        with replaced_whole(out / f"{name}.parquet") as file:
            pq.write_table(pa.Table.from_pylist(verl.rows(each, split=name)), file)


def _report(results: dict[str, Any], out: Path) -> None:
    """Nothing; writes the results and their page."""
    from outweigh.report import write_report  # late: matplotlib is slow to load

    write_json(out / "results.json", results)
    shown = json.loads(as_json(results)) | {"command": f"outweigh align rl ... --out {out}  # {out}/run.yaml"}
    shown["data"] = {name: value for name, value in shown["data"].items() if isinstance(value, int)}
    shown["seconds"] = {
        f"{folder}, {part}": value
        for folder, each in shown["seconds"].items()
        for part, value in each.items()
    }
    write_report(shown, [], out)


def _facts(finished: Sequence[Round], seed: int) -> list[RoundFacts]:
    answers = [each.answers for each in finished]
    return [round_facts(answers[: place + 1], each.log, seed=seed) for place, each in enumerate(finished)]


def _check_can_begin(config: RLConfig, out: Path) -> None:
    """Nothing, if TRL is there, the policy is one that can be trained, and the folder is no other's."""
    check_owner(out, "align rl")
    if (processes := int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise ConfigError(f"align rl: runs in one process, got {processes}. Start it without torchrun.")
    if config.rounds:
        need("trl", extra="trl", feature="align rl")
    if is_server(config.policy):
        raise ConfigError(f"policy: {masked(config.policy)} is served. Name one that can be trained.")
    check_causal(config.policy)


def _check_meta(config: RLConfig, reward: TrainConfig | None, pairs: Data | None, name: str) -> None:
    """Nothing, if what is told of MetaRM between rounds will be done."""
    told = train_config(reward)
    if pairs is None and told:
        raise ConfigError(f"reward: got {', '.join(told)}, but no pairs to train the reward model on.")
    if pairs is None:
        return
    if config.rounds < 2:
        raise ConfigError(
            f"pairs: got rounds {config.rounds}, and the reward model is trained between two. Want rounds 2."
        )
    if is_server(name):
        raise ConfigError(
            f"pairs: the reward model {masked(name)} is served, and MetaRM needs its weights. Name its "
            "folder or Hub name as the reward model, or leave pairs out: the rounds then keep it as it is."
        )
    if members_of(name).combine is not None:
        raise ConfigError("pairs: several reward models as one can't be trained further. Name a single one.")
    if reward is not None and (taken := set_by_rounds(reward)):
        raise ConfigError(
            f"reward: got {', '.join(taken)}, which the rounds decide: backbone and tokens are the reward "
            "model's, the shifted responses the policy's, as many as meta_responses."
        )


def _learned(pairs: Data, reward: TrainConfig, reward_model: str | Path, on_bad_rows: OnBadRows) -> PairSet:
    """The pairs that MetaRM trains on, once its training can take them."""
    found = read_pairs(pairs, on_bad_rows=on_bad_rows, keep=asked_columns(reward))
    by_rounds = replace(reward.meta, data="what the policy says")
    check_fits(found, reward)
    check_training(replace(reward, backbone=str(reward_model), meta=by_rounds), found.columns)
    return found


def planned_rl(
    data: Data,
    *,
    reward_model: str | Path,
    out: str | Path,
    config: RLConfig,
    reward: TrainConfig | None = None,
    gold_model: str | Path | None = None,
    pairs: Data | None = None,
    eval: Data | None = None,
    on_bad_rows: OnBadRows = "error",
    resume: bool = False,
) -> dict[str, Any]:
    """What the rounds would draw and train on; MetaRM's answers between rounds are not counted.

    Raises:
        DataError, ConfigError, ModelError: as `align_rl`.
    """
    _check_can_begin(config, Path(out))
    _check_free(Path(out), resume)
    _check_meta(config, reward, pairs, str(reward_model))
    if pairs is not None:
        _learned(pairs, reward or TrainConfig(), reward_model, on_bad_rows)
    _weights(config.policy, reward_model, gold_model)
    prompts, followed, bad = _parted(data, eval, config, on_bad_rows)
    steps = int(len(prompts) // config.batch_prompts * config.epochs) if config.rounds else 0
    names = ("results.json", "report.html", "prompts.parquet", "followed.parquet")
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
        "writes": [f"{out}/{name}" for name in (("policy", *names) if config.rounds else names)],
    }


def _parted(
    data: Data, eval: Data | None, config: RLConfig, on_bad_rows: OnBadRows
) -> tuple[list[Text], list[Text], list[str]]:
    """The prompts to train on, those to follow the rounds on, and what is wrong with rows left out."""
    refusal = partial(Asking(config.policy).refusal, max_new_tokens=config.max_new_tokens)
    asked, bad = asked_rows(data, refusal, on_bad_rows)
    prompts = _distinct(asked)
    if eval is None:
        followed = _kept_apart(prompts, config)
    else:
        others, further = asked_rows(eval, refusal, on_bad_rows)
        followed, bad = _distinct(others), bad + further
    apart = set(followed)
    prompts = [prompt for prompt in prompts if prompt not in apart]
    if config.rounds and len(prompts) < config.batch_prompts:
        raise DataError(
            f"got {len(prompts)} prompts to train on, want a batch of {config.batch_prompts} or "
            "more. Give more, or lower batch_prompts or eval_prompts."
        )
    return prompts, followed, bad


def _distinct(asked: Sequence[Asked]) -> list[Text]:
    return list(dict.fromkeys(each.prompt for each in asked))


def _kept_apart(prompts: Sequence[Text], config: RLConfig) -> list[Text]:
    """Prompts to follow the rounds on, drawn at random."""
    if len(prompts) <= config.eval_prompts:
        raise DataError(
            f"got {len(prompts)} distinct prompts, want more than the {config.eval_prompts} that are kept to "
            "follow the rounds. Give more, lower eval_prompts, or name a file with eval."
        )
    places = np.random.default_rng(config.seed).permutation(len(prompts))[: config.eval_prompts]
    return [prompts[place] for place in sorted(places.tolist())]


def _weights(*models: str | Path | None) -> list[str]:
    """What tells other weights by the same names; of a served model those are all that is known."""
    names = [name for model in models if model is not None for name in members_of(model).names]
    return [checkpoint_identity(name) for name in names if not is_server(name)]


def _same_run(out: Path, settings: dict[str, Any], prompts: Sequence[Any], resume: bool) -> None:
    """Nothing, if the folder is new, or `resume` goes on with the same settings (but more rounds, or another
    stop)."""
    asked = {name: value for name, value in settings.items() if name not in ("rounds", "stop")}
    identity = hashlib.sha256(json.dumps([asked, prompts], default=str).encode()).hexdigest()
    file = out / "identity"
    _check_free(out, resume)
    if file.exists() and file.read_text() != identity:
        raise ConfigError(f"{out}: holds a run of other prompts or settings. Give those, or another folder.")
    if (out / f"round_{settings['rounds'] + 1}" / "policy").exists():
        raise ConfigError(f"{out}: holds more than {settings['rounds']} rounds. Want as many, or more.")
    with replaced_whole(file) as written:
        written.write(identity.encode())


def _check_free(out: Path, resume: bool) -> None:
    """Nothing, if a run may begin in the folder, or go on in it.

    Raises:
        ConfigError: there is a run and no `resume`, or what another command made.
    """
    begun = (out / "identity").exists()
    if begun and not resume:
        raise ConfigError(f"{out}: holds a run. Go on with --resume, or choose another folder.")
    if not begun and ((out / "policy").exists() or (out / "results.json").exists()):
        raise ConfigError(f"{out}: holds what another command made. Choose another folder.")


def _keep(rounds: Rounds, facts: Sequence[RoundFacts]) -> int:
    """The round whose policy is copied to `out/policy`: the last, or with gold the best; 0: none is."""
    golds = [each.gold.value or 0.0 for each in facts if each.gold is not None]
    number = int(np.argmax(golds)) if golds else facts[-1].round
    policy = rounds.out / "policy"
    shutil.rmtree(policy, ignore_errors=True)
    if number:
        with full_disk_named(rounds.out), appearing_whole(policy) as unfinished:
            for file in (rounds.folder(number) / "policy").iterdir():
                shutil.copy2(file, unfinished)
    return number
