"""What a round has made of the policy: reward, gold, divergence, length, diversity; and when to worry."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from outweigh.metrics.arrays import FloatArray
from outweigh.metrics.intervals import Estimate, Unit, bootstrap_mean, fallen

FURTHER = 3.0  # times the divergence of the round before that is a spike
FAR = 10.0  # nats a response, under which no divergence is called one
SPIKE, SPIKES = 1.0, 10.0  # a step's divergence: nats a token, and times the median step of its round
LONGER = 1.5  # times the first policy's length
ENDING = 0.5  # of the share of responses that the first policy ended by itself
ENDED = 0.1  # that share, under which it ended too few for any to be missed
FLAT = 0.5  # share of prompts whose responses all have one reward
SAMER = 0.5  # of the first policy's diversity
STILL = 0.5  # nats a response to either side, under which a policy has hardly moved


class Answers(NamedTuple):
    """n responses of one policy to each of P prompts, as numbers."""

    reward_PN: FloatArray  # by the reward model that the first round began with
    gold_PN: FloatArray | None
    log_ratio_PN: FloatArray  # log p(response) less that of the first policy, nats
    tokens_PN: FloatArray
    finished_PN: FloatArray  # 1 where it ended by itself
    diversity_P: FloatArray
    own_RPN: FloatArray | None = None
    """By the reward model that the round learned from, where MetaRM has made it another: of the answers of
    each round up to this one."""
    refused: int = 0
    """Rewards and gold that a server refused to give, which are the mean of the others to their prompt."""

    def to_dict(self) -> dict[str, Any]:
        """For a file that a resumed run reads."""
        return {
            name: each.tolist() if isinstance(each, np.ndarray) else each
            for name, each in self._asdict().items()
        }

    @classmethod
    def of(cls, written: Mapping[str, Any]) -> "Answers":
        """The answers of such a file."""
        found: dict[str, Any] = {
            key: np.array(each) if isinstance(each, list) else each for key, each in written.items()
        }
        return cls(**found)


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """A round in figures over the followed prompts. Gains are over the first policy, by prompt."""

    round: int  # 0: the policy that the first round began with
    reward: Estimate
    reward_gain: Estimate
    own_gain: Estimate | None
    """The same by the reward model that the round learned from, where that is another than the first."""
    gold: Estimate | None
    gold_gain: Estimate | None
    divergence: Estimate
    """Mean log-ratio to the first policy, nats a response: where responses are drawn at temperature 1 and
    top_p 1 an estimate of the KL divergence."""
    tokens: Estimate
    finished: float
    """Share of responses that ended by themselves."""
    diversity: Estimate
    """Share of distinct pairs of neighbouring words among those of a prompt's responses."""
    wins: Mapping[str, float] | None
    """win, tie, lose: a response against one of the first policy's to the same prompt, by gold, else
    reward."""
    refused: int = 0
    """Rewards and gold that a server refused to give: they are the mean of the others to their prompt."""
    alarms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """For results.json."""
        return asdict(self)


ALARMS = {
    "over-optimisation": (
        "the reward rose while gold fell below that of an earlier round by more than chance",
        "Take that round's policy. Raise kl, train fewer rounds, or repair the reward model (MetaRM, "
        "margins).",
    ),
    "divergence": (
        "the policy moved suddenly far from the first one, in a step or since the round before",
        "Raise kl or lower the learning rate.",
    ),
    "flat reward": (
        "all responses to most prompts had the same reward, so that there was nothing to learn",
        "Raise shaping.clip, the temperature or n.",
    ),
    "length": (
        "responses are half as long again as the first policy's, or half as many of them end by themselves",
        "See whether the reward model prefers length: outweigh evaluate shows it. Raise kl, or "
        "max_new_tokens where most are cut.",
    ),
    "standstill": (
        "the policy is where it began, and its reward is no other by more than chance",
        "Raise learning_rate, or train for more epochs or on more prompts.",
    ),
    "diversity": (
        "responses to one prompt have become alike",
        "Raise kl or the temperature, or train less.",
    ),
}


def diversity(responses: Sequence[str]) -> float:
    """Distinct pairs of neighbouring words over all such pairs in the responses to one prompt, where one of
    a word or none is a pair by itself. 1 of no response."""
    words = [tuple(response.split()) for response in responses]
    pairs = [pair for each in words for pair in (pairwise(each) if len(each) > 1 else [each])]
    return len(set(pairs)) / len(pairs) if pairs else 1.0


def round_facts(
    rounds: Sequence[Answers], log: Sequence[Mapping[str, float]] = (), *, seed: int = 0
) -> RoundFacts:
    """The facts of the last of the rounds, the first of which is the policy that they began with.

    `log` is that of the round's training: each step `kl`, and `flat_prompts`, the share of prompts whose
    responses all have one reward.
    """
    first, last = rounds[0], rounds[-1]

    def mean(value_P: FloatArray) -> Estimate:
        unit = Unit("prompt", np.arange(len(value_P)), len(value_P))
        return bootstrap_mean(value_P, unit, seed=seed)

    gold = None if last.gold_PN is None else last.gold_PN.mean(axis=1)
    gold_gain = None if gold is None or first.gold_PN is None else gold - first.gold_PN.mean(axis=1)
    own = None if last.own_RPN is None else (last.own_RPN[-1] - last.own_RPN[0]).mean(axis=1)
    judge = "reward_PN" if gold_gain is None else "gold_PN"
    return RoundFacts(
        round=len(rounds) - 1,
        reward=mean(last.reward_PN.mean(axis=1)),
        reward_gain=mean(last.reward_PN.mean(axis=1) - first.reward_PN.mean(axis=1)),
        own_gain=None if own is None else mean(own),
        gold=None if gold is None else mean(gold),
        gold_gain=None if gold_gain is None else mean(gold_gain),
        divergence=mean(last.log_ratio_PN.mean(axis=1)),
        tokens=mean(last.tokens_PN.mean(axis=1)),
        finished=float(last.finished_PN.mean()),
        diversity=mean(last.diversity_P),
        wins=_wins(getattr(last, judge), getattr(first, judge)) if len(rounds) > 1 else None,
        refused=last.refused,
        alarms={
            name: dict(zip(("cause", "remedy"), ALARMS[name], strict=True))
            for name in _alarms(rounds, log, seed)
        },
    )


def _wins(new_PN: FloatArray, old_PN: FloatArray) -> dict[str, float]:
    """How often a response of the one policy has more than one of the other's to the same prompt."""
    sign_PNN = np.sign(new_PN[:, :, None] - old_PN[:, None, :])
    return {name: float((sign_PNN == sign).mean()) for name, sign in (("win", 1), ("tie", 0), ("lose", -1))}


def _alarms(rounds: Sequence[Answers], log: Sequence[Mapping[str, float]], seed: int) -> list[str]:
    """Names of the alarms that the last round gives."""
    if len(rounds) < 2:
        return []
    first, before, last = rounds[0], rounds[-2], rounds[-1]
    found = ["over-optimisation"] if _over_optimised(rounds, seed) else []
    far, was = last.log_ratio_PN.mean(), before.log_ratio_PN.mean()
    leapt = len(rounds) > 2 and far > FAR and far > FURTHER * max(was, 0.0)
    if np.mean([entry.get("flat_prompts", 0.0) for entry in log] or [0.0]) > FLAT:
        found.append("flat reward")
    steps = [entry["kl"] for entry in log if "kl" in entry]
    if leapt or (steps and max(steps) > max(SPIKE, SPIKES * float(np.median(steps)))):
        found.append("divergence")
    if last.tokens_PN.mean() > LONGER * first.tokens_PN.mean() or _ends_no_more(first, last, seed):
        found.append("length")
    gain_PN = last.reward_PN - first.reward_PN
    changed = _is_positive(gain_PN, seed) or _is_positive(-gain_PN, seed)
    if np.abs(last.log_ratio_PN).mean() < STILL and not changed:
        found.append("standstill")
    if last.diversity_P.mean() < SAMER * first.diversity_P.mean():
        found.append("diversity")
    return found


def _ends_no_more(first: Answers, last: Answers, seed: int) -> bool:
    """Whether far fewer responses end by themselves, by an interval without 0. Those that are cut are no
    longer than max_new_tokens, so that their length alone may tell nothing."""
    ended = first.finished_PN.mean()
    few = ended > ENDED and last.finished_PN.mean() < ENDING * ended
    return bool(few and _is_positive(first.finished_PN - last.finished_PN, seed))


def _is_positive(change_PN: FloatArray, seed: int) -> bool:
    """Whether it is above 0 by more than chance, by prompt."""
    unit = Unit("prompt", np.arange(len(change_PN)), len(change_PN))
    low = bootstrap_mean(change_PN.mean(axis=1), unit, seed=seed).low
    return low is not None and low > 0


def _over_optimised(rounds: Sequence[Answers], seed: int) -> bool:
    """Whether gold is below that of an earlier round by more than chance, though the reward, as the model
    gives it that the last round learned from, rose since the round of most gold."""
    golds = [each.gold_PN.mean(axis=1) for each in rounds if each.gold_PN is not None]
    if len(golds) < len(rounds):
        return False
    own = rounds[-1].own_RPN
    reward = [each.reward_PN.mean() for each in rounds] if own is None else own.mean(axis=(1, 2))
    gold_PR = np.stack(golds, axis=1)
    unit = Unit("prompt", np.arange(len(gold_PR)), len(gold_PR))
    rose = reward[-1] > reward[int(gold_PR.mean(axis=0).argmax())]
    return bool(rose and fallen(gold_PR, unit, seed=seed)[-1])
