"""What a verb prints: tables and sentences for a person, JSON for a program."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.markup import escape

from outweigh.align.rounds import RoundFacts
from outweigh.align.tables import rounds_table
from outweigh.cli.parse import Common
from outweigh.evaluation.tables import models_table, shown
from outweigh.selection.tables import best_of_n_table
from outweigh.steps.plan import plan_lines
from outweigh.steps.record import as_json


def show(common: Common, results: Mapping[str, Any], said: Iterable[RenderableType]) -> None:
    """Nothing; prints the results as JSON with --json, else what is to be said of them."""
    if common.json:
        print(as_json(results))
        return
    console = Console()
    for each in said:
        console.print(escape(each) if isinstance(each, str) else each, highlight=False, soft_wrap=True)


def show_plan(common: Common, plan: Mapping[str, Any]) -> None:
    """Nothing; prints what --dry-run found."""
    show(common, plan, plan_lines(plan))


def audit_lines(results: Mapping[str, Any]) -> list[str]:
    """An audit in words."""
    found = results["audit"]
    data, noise, trust = results["data"], found["noise_rate"], found["trust"]
    lines = [
        f"{data['pairs']:,} pairs, judged by {found['models']} voters ({found['method']}, {found['vote']}).",
        f"About {_percent(noise)} of the labels are wrong.",
    ]
    for each in found["by_source"]:
        rate = _percent(each["noise_rate"]) if each["noise_rate"] else "too few pairs to tell"
        lines.append(f"  {each['source']}: {rate}")
    if trust:
        verdict = "can be trusted" if trust["recommendation"] == "repair" else "should not be acted on"
        lines.append(f"This audit {verdict}: {trust['reason']}")
    if (unread := data.get("unread_columns")) and (near := {k: v for k, v in unread.items() if v}):
        lines += [f"Column {name!r} is not read. Did you mean {hint!r}?" for name, hint in near.items()]
    return [*lines, f"Recommended: {results['denoise']['policy']}."]


def denoise_lines(counts: Mapping[str, Any]) -> list[str]:
    """A repair in words."""
    actions = ", ".join(f"{name} {count:,}" for name, count in sorted(counts["actions"].items()))
    lines = [f"Policy {counts['policy']}: {actions}."]
    if counts["margins_zeroed"]:
        lines.append(f"{counts['margins_zeroed']:,} flipped rows had a margin of their own, now 0.")
    if counts["ignored_by_peer"]:
        lines.append(f"This trainer ignores {' and '.join(counts['ignored_by_peer'])}.")
    return lines


def training_lines(results: Mapping[str, Any]) -> list[str]:
    """What a reward model was trained on, what of it was left out or cut, and how it does on its own part."""
    trained, told = results["train"]["model"], {**results["data"], **results["train"]["model"]["tokens"]}
    kind = "rows of several responses" if "rankings" in told else "pairs"
    lines = [f"Steps: {trained['steps']:,}, on {trained['pairs']:,} {kind}."]
    for said, names in (
        ("Left out", {"tied": "ties", "empty": "with an empty response", "identical": "of equal responses",
                      "dropped_identical": "equal once cut", "dropped_long": "too long"}),
        ("Cut to fit", {"truncated_prompts": "prompts", "truncated_responses": "responses"}),
        ("Kept", {"contradictory": "that another one contradicts"}),
    ):  # fmt: skip
        counts = [f"{told[name]:,} {words}" for name, words in names.items() if told.get(name)]
        if counts:
            lines.append(f"{said}: {', '.join(counts)}.")
    return lines + _watched(trained["log"], "On")


def policy_lines(aligned: Mapping[str, Any]) -> list[str]:
    """How the implicit reward does on the validation part, where there is one."""
    return _watched(aligned["log"], "Implicit reward on")


def _watched(log: Sequence[Mapping[str, float]], where: str) -> list[str]:
    watched = [each for each in log if "eval_accuracy" in each]
    if not watched:
        return []
    last = watched[-1]
    return [
        f"{where} {int(last['eval_pairs'])} validation pairs: accuracy {last['eval_accuracy']:.3f}, "
        f"log loss {last['eval_log_loss']:.3f} nats, mean gap {last['eval_gap']:.3f}."
    ]


def cap_lines(trained: Mapping[str, Any]) -> list[str]:
    """The caps that a model was trained with, in words; none where there were none."""
    caps = trained["caps"]
    if not caps:
        return []
    parts = {"Caps in nats": caps["cap"]} | {
        name.replace("_", " ").capitalize(): caps[name] for name in ("length_ratio", "cosine") if name in caps
    }
    lines = [
        f"{name}: median {each['0.5']:.3g}, 5 to 95 % of the pairs {each['0.05']:.3g} to {each['0.95']:.3g}."
        for name, each in parts.items()
    ]
    if "saved" in caps:
        saved = caps["saved"]
        lines.append(
            f"Learnt, they save a linear stand-in {saved['value']:+.4f} nats [{saved['low']:+.4f}, "
            f"{saved['high']:+.4f}] of held-out log loss over the best constant, {caps['fixed_cap']:.3g}."
        )
    return lines


def planted_lines(planted: Mapping[str, Any]) -> list[str]:
    """How the audit did on labels that were planted wrong, in words."""
    return [
        f"{planted['planted']:,} labels were planted wrong; the audit holds {planted['flagged']:,} for "
        f"wrong, {planted['found']:,} of them rightly: precision {_shown(planted['precision'])}, recall "
        f"{_shown(planted['recall'])}, AUROC {_shown(planted['auroc'])}."
    ]


def run_lines(results: Mapping[str, Any], out: Path) -> list[RenderableType]:
    """A whole run: the audit, the repair, and the models side by side."""
    lines: list[RenderableType] = [*audit_lines(results), *denoise_lines(results["denoise"])]
    lines.append(models_table(results["evaluation"], title="on the evaluation pairs"))
    alarms = {name: each for part in results["train"].values() for name, each in part["alarms"].items()}
    lines += [f"Alarm {name}: {each['cause']}. {each['remedy']}" for name, each in alarms.items()]
    return [*lines, f"The reward model is in {out / 'model'}.", f"The report is in {out / 'report.html'}."]


def scoring_lines(results: Mapping[str, Any]) -> list[str]:
    """What was scored, in words."""
    if results["already_there"]:
        return [f"{results['out']} is there already, with {results['rows']:,} rows. Remove it to score anew."]
    lines = [f"{results['rows']:,} rows with rewards are in {results['out']}."]
    if results["resumed_at"]:
        lines.append(f"{results['resumed_at']:,} rows of the data stood from the run before.")
    return lines + _left_out(results["bad_rows"])


def _left_out(bad: Sequence[str]) -> list[str]:
    return [f"{len(bad):,} bad rows are left out, the first: {bad[0]}"] if bad else []


def generation_plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """What would be asked, in words."""
    lines = [
        f"{plan['rows']:,} prompts would get {plan['responses']:,} responses, {plan['tokens']:,} tokens at "
        f"most; {len(plan['bad_rows']):,} rows skipped."
    ]
    if "seconds" in plan:
        lines.append(f"At most about {plan['seconds']:,.0f} s on this {plan['device']}.")
    return [*lines, f"Would write {', '.join(plan['writes'])}."]


def generation_lines(results: Mapping[str, Any], out: Path) -> list[str]:
    """What was sampled, in words."""
    if results["already_there"]:
        return [f"{out} is there already, with {results['rows']:,} rows. Remove it to draw anew."]
    lines = [
        f"{results['rows']:,} rows with responses are in {out}: {results['tokens']:,} tokens in "
        f"{results['seconds']:,.1f} s, {results['tokens_per_second']:,.0f} tokens/s."
    ]
    if results["resumed_at"]:
        lines.append(f"{results['resumed_at']:,} of them stood from the run before.")
    return lines + _left_out(results["bad_rows"])


def rl_plan_lines(plan: Mapping[str, Any]) -> list[str]:
    """What the rounds would draw and train on, in words."""
    return [
        f"{plan['rounds']} rounds of {plan['steps']:,} steps over {plan['prompts']:,} prompts, followed on "
        f"{plan['followed']:,} others; {len(plan['bad_rows']):,} rows skipped.",
        f"Up to {plan['responses']:,} responses to draw, {plan['tokens']:,} tokens at most.",
        f"Would write {', '.join(plan['writes'])}.",
    ]


def round_lines(results: Mapping[str, Any], out: Path) -> list[RenderableType]:
    """Rounds of reinforcement learning: the table, the alarms, and which policy was kept."""
    rounds: list[RoundFacts] = results["rounds"]
    lines: list[RenderableType] = [rounds_table(rounds)]
    for facts in rounds:
        if facts.refused:
            lines.append(f"{facts.refused:,} rewards of round {facts.round} were refused: filled with means.")
        lines += [
            f"Alarm {name} in round {facts.round}: {each['cause']}. {each['remedy']}"
            for name, each in facts.alarms.items()
        ]
    if "stopped" in results:
        lines.append(f"Stopped after round {results['stopped']}: more would over-optimise.")
    why = "of most gold" if rounds[-1].gold is not None else "the last one, as nothing tells gold"
    if len(rounds) == 1:
        lines.append(f"The prompts for other trainers are in {out / 'prompts.parquet'}.")
    elif results["kept"]:
        lines.append(f"The policy of round {results['kept']} ({why}) is in {out / 'policy'}.")
    else:
        lines.append("No round has more gold than the policy that they began with: keep that one.")
    return [*lines, f"The report is in {out / 'report.html'}."]


def selection_lines(results: Mapping[str, Any], out: Path) -> list[RenderableType]:
    """What was kept; with gold the curve at powers of two, and whom the model's choice beats."""
    rows, found = results["data"]["rows"], results["best_of_n"]
    lines: list[RenderableType] = [f"{rows:,} rows with the kept response are in {out}."]
    if bad := results["data"]["bad_rows"]:
        lines.append(f"{len(bad):,} bad rows are left out, the first: {bad[0]}")
    if found is None:
        return lines
    if without := results["without_gold"]:
        lines.append(f"{without:,} rows have no gold and count for nothing below.")
    if found.left_out:
        lines.append(f"{found.left_out:,} rows have fewer than {found.candidates} responses: left out below.")
    if found.longer:
        lines.append(
            f"{found.longer:,} rows have more than {found.candidates} responses; a larger --candidates goes "
            "further, and leaves shorter rows out."
        )
    lines.append(best_of_n_table(found))
    for name, gain in found.gains.items():
        lines.append(f"Best of {found.candidates}, gold less that of {name}: {shown(gain, signed=True)}.")
    curve = next(iter(found.curves.values()))
    over = curve.over_optimised_from
    worse = f"n = {over} is the first below a smaller n by more than chance" if over else "none clearly falls"
    return [*lines, f"Most gold at n = {curve.best_n}; {worse}."]


def judge_lines(results: Mapping[str, Any]) -> list[str]:
    """Verdicts in words: the win rate, agreement with people, and what asking took."""
    name = "first" if "first" in results else "chosen"
    found = results[name]
    lines = [
        f"The {name} wins {shown(found.rate)}, ties a half: {found.win:.0%} win, {found.tie:.0%} tie, "
        f"{found.lose:.0%} lose; {found.without_verdict:,} without a verdict."
    ]
    if results.get("unmatched"):
        lines.append(f"{results['unmatched']:,} rows have no row of the same prompt to be judged against.")
    for people in ("label", "votes"):
        if people in results:
            each = results[people]
            lines.append(
                f"It sides with the {people} on {shown(each.accuracy)}; Cohen's kappa {shown(each.kappa)}, "
                f"{each.pairs:,} pairs."
            )
    if "asked" in results:
        asked = results["asked"]
        lines.append(
            f"{asked['requests']:,} answers, {asked['cached']:,} from the cache, {asked['malformed']:,} "
            f"without a verdict, {asked['refused']:,} questions refused; {asked['prompt_tokens']:,} tokens "
            f"read, {asked['completion_tokens']:,} said."
        )
        if asked["chose_the_first_shown"] is not None:
            lines.append(
                f"It chose the answer shown first in {asked['chose_the_first_shown']:.0%}: 50 % is no bias."
            )
    if "cost" in results:
        lines.append(f"Cost {results['cost']:.4f}.")
    return lines + _left_out(results["bad_rows"])


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(noise: Mapping[str, float]) -> str:
    return f"{noise['value']:.0%} [{noise['low']:.0%}, {noise['high']:.0%}]"
