"""Rounds as a table for a terminal."""

from collections.abc import Sequence

from rich.table import Table

from outweigh.align.rounds import RoundFacts
from outweigh.evaluation.tables import NONE, shown


def rounds_table(rounds: Sequence[RoundFacts]) -> Table:
    """A line a round: reward and gold over those of the first policy, how far it went, and what it says."""
    table = Table(title="Rounds, judged on the followed prompts", title_justify="left")
    judge = "gold" if rounds[-1].gold_gain is not None else "reward"
    heads = (
        "round",
        "reward gained",
        "gold gained",
        "KL, nats",
        "tokens",
        "ended",
        "diversity",
        f"wins by {judge}",
    )
    for name in heads:
        table.add_column(name, justify="right")
    for facts in rounds:
        table.add_row(
            str(facts.round or "start"),
            shown(facts.reward_gain, signed=True) if facts.round else NONE,
            shown(facts.gold_gain, signed=True) if facts.round and facts.gold_gain is not None else NONE,
            f"{facts.divergence.value:.2f}",
            f"{facts.tokens.value:.0f}",
            f"{facts.finished:.0%}",
            f"{facts.diversity.value:.2f}",
            "/".join(f"{share:.0%}" for share in facts.wins.values()) if facts.wins else NONE,
        )
    return table
