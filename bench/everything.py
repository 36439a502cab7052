"""All measurements of speed beside others: one JSON file, one picture.

    make bench
    python bench/everything.py --only batches scoring --repeats 3
    python bench/everything.py --quick

Each part is a bench of this folder in a process of its own, whose ways take turns; one part runs at a time,
and what is done is on disk, with its machine and versions, before the next begins. `--only` leaves the
other parts of the file as they were. Parts: reward training beside TRL's defaults and its best
settings by pairs a step, by tokens of prompt : response, and of SmolLM2; DPO; scoring by responses a
prompt; voting beside M plain trainings; ten times as many pairs; where a step's time goes. All of it takes
hours on two cores. `--quick` has sizes so small that their figures mean nothing, and files of its own: it
shows that all of it runs.
"""

import argparse
import json
import os
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib
from gpu import printed
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from outweigh.report.plots import LIGHT
from outweigh.steps.record import headed

DATA = Path(os.environ.get("OUTWEIGH_DATA", "../shared/data"))
DEMO = Path(__file__).parents[1] / "src/outweigh/data/demo/train.jsonl.gz"
RATIOS = ("256/64", "214/106", "160/160", "106/214", "64/256")  # 4:1 to 1:4
TRAINING = ("batches", "ratios", "smollm2", "dpo")  # parts
Line = dict[str, Any]
Parts = dict[str, list[Line]]


def full(repeats: int) -> dict[str, list[list[str]]]:
    """Each part and its commands."""
    often = ["--repeats", str(repeats)]
    training = ["peers.py", "--data", str(DATA / "hh_harmless.train.jsonl.gz"), *often]
    sense = DATA / "sense.train.jsonl.gz"
    steps = 8  # of a training, so that its warming up weighs as much whatever the batch
    return {
        "batches": [[*training, f"--batch={size}", f"--pairs={steps * size}"] for size in (4, 8, 16, 32)],
        "ratios": [[*training, "--pairs=64", f"--shape={shape}"] for shape in RATIOS],
        "smollm2": [[*training, "--backbone=smollm2", "--pairs=96"]],
        "dpo": [[*training, "--work=dpo", "--pairs=32"]],
        "scoring": [["scoring.py", f"--responses={count}", *often] for count in (2, 16, 64)],
        "voting": [["voting.py", f"--data={sense}", "--backbones", "minilm", "smollm2", "--depth=0.4"]],
        "growth": [["growth.py"]],
        "profile": [["step_profile.py", f"--data={DATA / 'hh_harmless.train.jsonl.gz'}"]],
    }


def quick() -> dict[str, list[list[str]]]:
    """The same, as small as may be, of what the package brings."""
    model = ["--hidden=64", "--layers=1"]
    training = ["peers.py", f"--data={DEMO}", "--repeats=1", "--batch=2", "--pairs=4", *model]
    scoring = ["scoring.py", "--repeats=1", "--prompts=1", "--responses=2", "--shapes=16/8", *model]
    return {
        "batches": [[*training, "--max-tokens=64"]],
        "ratios": [[*training, "--shape=16/8"]],
        "smollm2": [],
        "dpo": [[*training, "--max-tokens=64", "--work=dpo"]],
        "scoring": [scoring],
        "voting": [["voting.py", f"--data={DEMO}", "--pairs=24", "--voters=2", "--seeds=0"]],
        "growth": [["growth.py", "--pairs", "20", "200"]],
        "profile": [["step_profile.py", f"--data={DEMO}", "--pairs=2", "--max-tokens=64", *model]],
    }


def bars(axes: Axes, found: Sequence[tuple[str, dict[str, float]]]) -> None:
    """How many times as fast ours is, a group of bars for each named case, one a peer."""
    for place, (_, times) in enumerate(found):
        for bar, (way, value) in enumerate(times.items()):
            colour = LIGHT[("blue", "orange", "green", "purple")[bar % 4]]
            first = way not in axes.get_legend_handles_labels()[1]
            axes.barh(place + 0.2 * bar, value, 0.18, color=colour, label=way if first else None)
    axes.set_yticks([place + 0.1 for place in range(len(found))], [name for name, _ in found])
    axes.axvline(1, color=LIGHT["ink"], linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("times as fast as")
    axes.legend(fontsize="small")


def beside_trl(lines: Sequence[Line]) -> list[tuple[str, dict[str, float]]]:
    """Of each case how many times as fast ours is."""
    found: dict[str, dict[str, float]] = {}
    for line in lines:
        if line["way"] != "outweigh":
            name = f"{line['work']}, {line['data'].partition('.')[0]}, {line['batch']} pairs"
            name += f", {line['model']}" if "model" in line else ""
            found.setdefault(name, {})[line["way"]] = line["times_ours_is_faster"]
    return list(found.items())


def training(axes: Axes, parts: Parts) -> None:
    """How many times as fast our training is."""
    bars(axes, beside_trl([line for name in TRAINING for line in parts.get(name, [])]))


def scoring(axes: Axes, parts: Parts) -> None:
    """How many times as fast our scoring is."""
    others = ("padded", "pipeline", "TRL")
    found = {
        f"N {line['responses']}, {line['shape']}": {way: line["times_ours_is_faster"][way] for way in others}
        for line in parts["scoring"]
    }
    bars(axes, list(found.items()))


def voting(axes: Axes, parts: Parts) -> None:
    """What each way of voting finds, and costs."""
    for line in parts["voting"]:
        axes.plot(line["cost"], line["auroc"], "o", color=LIGHT["blue"])
        axes.annotate(line["way"], (line["cost"], line["auroc"]), fontsize="x-small")
    axes.set(xlabel="cost, plain trainings", ylabel="AUROC")


def growth(axes: Axes, parts: Parts) -> None:
    """Seconds and memory by pairs."""
    sizes = [line["pairs"] for line in parts["growth"]]
    for name, colour in (("train", "blue"), ("score", "orange"), ("peak_gib", "green")):
        label = "peak memory, GiB" if name == "peak_gib" else f"{name}, s"
        axes.plot(sizes, [line[name] for line in parts["growth"]], "o-", color=LIGHT[colour], label=label)
    axes.set(xlabel="pairs", xscale="log", yscale="log")
    axes.legend(fontsize="small")


PANELS: dict[str, tuple[tuple[str, ...], Callable[[Axes, Parts], None]]] = {
    "Training": (TRAINING, training),
    "Scoring": (("scoring",), scoring),
    "Finding planted flips": (("voting",), voting),
    "Growth": (("growth",), growth),
}


def picture(parts: Parts) -> Figure:
    """Training, scoring, voting and growth, those that were run."""
    drawn = {title: draw for title, (needs, draw) in PANELS.items() if any(parts.get(name) for name in needs)}
    columns = min(2, max(1, len(drawn)))
    rows = max(1, -(-len(drawn) // columns))
    figure = Figure(figsize=(7 * columns, 4.6 * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, (title, draw) in zip(places, drawn.items(), strict=False):
        axes.set_title(title)
        draw(axes, parts)
    for axes in places[len(drawn) :]:
        axes.set_axis_off()
    return figure


def main() -> None:
    """Writes what each part prints as soon as it is done, and the picture."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=Path("bench/output"))
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=list(quick()), default=list(quick()))
    parser.add_argument("--quick", action="store_true", help="tiny sizes, minutes")
    told = parser.parse_args()
    if not told.quick and not DATA.is_dir():
        parser.error(f"{DATA}: no such folder. Name the one of the data in OUTWEIGH_DATA, or try --quick.")
    matplotlib.use("Agg")
    told.out.mkdir(parents=True, exist_ok=True)
    file = told.out / ("quick.json" if told.quick else "everything.json")
    parts: dict[str, Line] = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    head = {"trl": version("trl"), "threads": os.environ.get("OMP_NUM_THREADS")}
    for part, commands in (quick() if told.quick else full(told.repeats)).items():
        lines: list[Line] = []
        for script, *rest in commands if part in told.only else ():
            print(" ".join([part + ":", script, *rest]), flush=True)
            lines += printed(script, *rest)
            parts[part] = headed("bench", 0) | head | {"lines": lines}
            file.write_text(json.dumps(parts, indent=1), encoding="utf-8")
    picture({part: found["lines"] for part, found in parts.items()}).savefig(
        file.with_suffix(".png"), dpi=120
    )
    print(f"Written: {file} and {file.with_suffix('.png')}.")


if __name__ == "__main__":
    main()
