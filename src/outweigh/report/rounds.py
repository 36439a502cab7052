"""Rounds of reinforcement learning as a figure: reward, gold, divergence and length by round."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from outweigh.align.rounds import RoundFacts
from outweigh.data.writing import replaced_whole
from outweigh.metrics.intervals import Estimate
from outweigh.report.plots import DPI, LIGHT, STYLE, WIDTH

Fact = Callable[[RoundFacts], Estimate | None]

PANELS: dict[str, dict[str, tuple[str, Fact]]] = {
    "over the first policy, nats": {
        "reward": ("blue", lambda facts: facts.reward_gain),
        "gold": ("orange", lambda facts: facts.gold_gain),
    },
    "divergence, nats": {"": ("green", lambda facts: facts.divergence)},
    "tokens": {"": ("purple", lambda facts: facts.tokens)},
}


def draw_rounds(
    rounds: Sequence[RoundFacts], log: Sequence[Sequence[Mapping[str, float]]], path: Path
) -> None:
    """Nothing; the figure goes to `path`, a PNG: rounds with 95 % intervals, and the reward of each step."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(STYLE)
        figure = Figure(figsize=(1.3 * WIDTH, 7.0), layout="constrained")
        *panels, steps = figure.subplots(len(PANELS) + 1, 1, height_ratios=[3, 2, 2, 2])
        for axes, (label, lines) in zip(panels, PANELS.items(), strict=True):
            for name, (colour, fact) in lines.items():
                _line(axes, rounds, fact, LIGHT[colour], name)
            axes.set_ylabel(label)
            axes.set_xticks(range(len(rounds)), ["start", *map(str, range(1, len(rounds)))])
        panels[0].axhline(0, color=LIGHT["ink"], linewidth=0.8)
        panels[-1].set_xlabel("round")
        rewards = [entry["reward"] for each in log for entry in each]
        steps.plot(range(1, len(rewards) + 1), rewards, color=LIGHT["blue"], linewidth=1)
        for end in [sum(map(len, log[:place])) for place in range(1, len(log))]:
            steps.axvline(end + 0.5, color=LIGHT["muted"], linestyle=":", linewidth=1)
        steps.set_ylabel("shaped reward")
        steps.set_xlabel("optimizer step (dotted: a round ends)")
        panels[0].legend(loc="best")
        with replaced_whole(path) as out:
            figure.savefig(out, dpi=DPI, facecolor=LIGHT["paper"], metadata={"Software": None}, format="png")


def _line(axes: Axes, rounds: Sequence[RoundFacts], fact: Fact, colour: str, name: str) -> None:
    points = [(each.round, found) for each in rounds if (found := fact(each)) is not None]
    if not points:
        return
    values = [estimate.value or 0.0 for _, estimate in points]
    axes.plot([number for number, _ in points], values, "o-", color=colour, label=name)
    for number, estimate in points:
        if estimate.low is not None and estimate.high is not None:
            axes.plot([number, number], [estimate.low, estimate.high], color=colour, linewidth=1)
