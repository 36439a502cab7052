"""Rounds of reinforcement learning on the page: what each gained and how far it went."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from outweigh.report.plots import LIGHT, Drawn, new_figure
from outweigh.report.tables import Results, Table, table
from outweigh.report.texts import DASH, at, estimate, is_number, listed, number, percent

Point = tuple[int, Mapping[str, Any]]


def gains_plot(results: Results) -> Drawn | None:
    """Reward and gold of each round over those of the first policy."""
    lines = {"reward": ("reward_gain", "blue", "o"), "gold": ("gold_gain", "orange", "s")}
    known = [name for name, (key, _, _) in lines.items() if _points(results, key)]
    return _plot(results, lines, "gain over the first policy", f"Gained, by round: {' and '.join(known)}")


def divergence_plot(results: Results) -> Drawn | None:
    """How far each round's policy is from the first one."""
    lines = {"divergence": ("divergence", "green", "^")}
    return _plot(results, lines, "divergence, nats a response", "Divergence from the first policy, by round")


def steps_plot(results: Results) -> Drawn | None:
    """The shaped reward of each optimizer step, the rounds one after the other."""
    logs = [listed(log) for log in results.get("log") or [] if isinstance(log, Sequence)]
    rewards = [entry["reward"] for log in logs for entry in log if is_number(entry.get("reward"))]
    if not rewards or not listed(results.get("rounds")):
        return None
    figure, axes = new_figure()
    axes.plot(range(1, len(rewards) + 1), rewards, color=LIGHT["blue"], linewidth=1)
    for place in range(1, len(logs)):
        end = sum(map(len, logs[:place])) + 0.5
        axes.axvline(end, color=LIGHT["muted"], linestyle=":", linewidth=1)
    axes.set_xlabel("optimizer step (dotted: a round ends)")
    axes.set_ylabel("shaped reward")
    alt = f"Shaped reward of {len(rewards)} steps, from {number(rewards[0])} to {number(rewards[-1])}."
    return Drawn(figure, "Reward that the policy was trained on, by step.", alt)


def rounds_table(results: Results) -> Table | None:
    """A line a round, over the followed prompts; rewards by the first reward model, and by the one that the
    round learned from, where that is another."""
    further = any(each.get("own_gain") for each in listed(results.get("rounds")))
    rows = [
        [
            str(each.get("round") or "start"),
            estimate(each.get("reward_gain"), "+.3f") if each.get("round") else DASH,
            *([estimate(each.get("own_gain"), "+.3f")] if further else []),
            estimate(each.get("gold_gain"), "+.3f") if each.get("round") else DASH,
            estimate(each.get("divergence"), ".2f"),
            estimate(each.get("tokens"), ".0f"),
            percent(each.get("finished")),
            estimate(each.get("diversity"), ".2f"),
            *(percent(at(each, "wins", name)) for name in ("win", "tie", "lose")),
        ]
        for each in listed(results.get("rounds"))
    ]
    gained = ["reward gained", *(["by its own model"] if further else []), "gold gained"]
    head = ["round", *gained, "divergence, nats", "tokens", "ended", "distinct"]
    return table("The rounds, on the followed prompts", [*head, "win", "tie", "lose"], rows)


def round_alarms_table(results: Results) -> Table | None:
    """Each alarm of a round, with cause and remedy."""
    rows = [
        [name, str(at(alarm, "cause")), str(at(alarm, "remedy")), str(each.get("round"))]
        for each in listed(results.get("rounds"))
        for name, alarm in (each.get("alarms") or {}).items()
    ]
    return table("Alarms of the rounds", ["alarm", "cause", "remedy", "round"], rows, words=True)


def rounds_verdict(results: Results) -> str | None:
    """What the rounds came to, in a sentence."""
    rounds = listed(results.get("rounds"))
    if len(rounds) < 2:
        return "The first policy is judged; no round has been run." if rounds else None
    kept = results.get("kept")
    if kept == 0:
        return "No round has more gold than the policy that they began with: keep that one."
    last = next((each for each in rounds if each.get("round") == kept), rounds[-1])
    gain = last.get("gold_gain") or last.get("reward_gain") or {}
    what = "gold" if last.get("gold_gain") else "reward"
    low, high = (gain.get(limit) for limit in ("low", "high"))
    if not is_number(low) or not is_number(high):
        return f"{len(rounds) - 1} rounds were run."
    word = "raised" if low > 0 else "lowered" if high < 0 else "did not clearly move"
    value, low_shown, high_shown = (number(each, "+.2f") for each in (gain.get("value"), low, high))
    return f"The policy of round {last['round']} {word} the {what}: {value} ({low_shown} to {high_shown})."


PLOTS = {"round_gains": gains_plot, "round_divergence": divergence_plot, "round_steps": steps_plot}
TABLES = {"rounds": rounds_table, "round_alarms": round_alarms_table}


def _plot(
    results: Results, lines: Mapping[str, tuple[str, str, str]], label: str, caption: str
) -> Drawn | None:
    found = {name: _points(results, key) for name, (key, _, _) in lines.items()}
    if not any(len(points) > 1 for points in found.values()):
        return None
    figure, axes = new_figure()
    said = []
    for name, points in found.items():
        _, colour, mark = lines[name]
        if points:
            _line(axes, points, LIGHT[colour], mark, name)
            said.append(f"{name} ends at {number(points[-1][1]['value'])}")
    rounds = range(len(listed(results.get("rounds"))))
    axes.set_xticks(rounds, [str(each or "start") for each in rounds])
    axes.axhline(0, color=LIGHT["ink"], linewidth=0.8)
    axes.set_xlabel("round")
    axes.set_ylabel(label)
    if len(said) > 1:
        figure.legend(loc="outside upper left", ncols=2)
    return Drawn(figure, f"{caption}, with 95 % intervals.", f"{caption}: {'; '.join(said)}.")


def _points(results: Results, key: str) -> list[Point]:
    rounds = enumerate(listed(results.get("rounds")))
    return [(number, each[key]) for number, each in rounds if is_number(at(each, key, "value"))]


def _line(axes: Axes, points: Sequence[Point], colour: str, mark: str, name: str) -> None:
    axes.plot([place for place, _ in points], [each["value"] for _, each in points], color=colour,
              marker=mark, label=name)  # fmt: skip
    for place, each in points:
        if is_number(each.get("low")) and is_number(each.get("high")):
            axes.plot([place, place], [each["low"], each["high"]], color=colour, linewidth=1)
