"""Rounds as a table for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from outweigh.align.rounds import RoundFacts
from outweigh.evaluation.tables import NONE
from outweigh.metrics.intervals import Estimate


def rounds_table(rounds: Sequence[RoundFacts]) -> Table:
    """A line a round: reward and gold over those of the first policy, how far it went, and what it says.

    Rewards are by the first reward model, and, where MetaRM trains it further, by the one that the round
    learned from.
    """
    golden = rounds[-1].gold_gain is not None
    table = Table(title="Rounds, on the followed prompts; gains over the first policy", title_justify="left")
    further = any(facts.own_gain is not None for facts in rounds)
    gained = [
        "reward gained",
        *(["by its own model"] if further else []),
        *(["gold gained"] if golden else []),
    ]
    for name in ("round", *gained, "KL", "tokens"):
        table.add_column(name, justify="right")
    table.add_column(f"win/tie/lose by {'gold' if golden else 'reward'}", justify="right")
    for facts in rounds:
        gains = [_gain(facts.reward_gain), *([_gain(facts.own_gain)] if further else [])]
        gains += [_gain(facts.gold_gain)] if golden else []
        table.add_row(
            str(facts.round or "start"),
            *(gains if facts.round else [NONE] * len(gains)),
            f"{facts.divergence.value:.2f}",
            f"{facts.tokens.value:.0f}",
            "/".join(f"{100 * share:.0f}" for share in facts.wins.values()) + " %" if facts.wins else NONE,
        )
    return table


def _gain(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return NONE
    return f"{estimate.value:+.2f} [{estimate.low:+.2f}, {estimate.high:+.2f}]"
