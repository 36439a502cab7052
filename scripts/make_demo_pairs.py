"""Writes the demo pairs of src/outweigh/data/demo; with `--check` only judges the written ones again.

    python scripts/make_demo_pairs.py
    python scripts/make_demo_pairs.py --splits eval
    python scripts/make_demo_pairs.py --check

A small language model answers two contrary instructions about one topic, several times each. A rule judges
every answer, so it is known which of two is right; pairs are chosen so that their lengths give nothing away.
A fifth of the training labels is then turned round, and marked.
"""

import argparse
import gzip
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from demo_constraints import (
    EVAL_TOPICS,
    EXAMPLES,
    HELD_OUT_KIND,
    KINDS,
    OPENERS,
    TOPICS,
    Side,
    Task,
    on_topic,
    tasks,
    written,
)

DEMO = Path(__file__).parents[1] / "src" / "outweigh" / "data" / "demo"
SEED = 20240404
ROWS = {"train": 1600, "eval": 1200}
HELD_OUT_ROWS = 120
TASKS = 130  # of each kind: some give no pair
FLIPPED = 0.2
SAMPLES = 3  # answers to each instruction
BATCH_TASKS = 24
MAX_NEW_TOKENS = 60
TEMPERATURE, TOP_K = 0.8, 30
ABOUT_ITSELF = ("sentence", "tense", "slang", "first person", "third person", "<|", "[")
RUDE = ("shit", "fuck", "bitch", "bastard")  # slang invites them; a demo needs none
LENGTH_RULE = (0.40, 0.60)  # "the longer one is right" may be right this often, and no more or less
SLACK = 4  # pairs of one sign that a kind may be ahead, lest the scarcer sign decide how many there are
MAX_BYTES = 1_000_000

Row = dict[str, Any]


def of_split(split: str) -> list[Task]:
    """The tasks of one split. A fifth of the topics, and more of its own, are for evaluation, and one kind
    stands only there."""
    train = split == "train"
    count: Counter[str] = Counter()
    kept = []
    for task in every_task():
        for_training = task.topic in TOPICS and TOPICS.index(task.topic) % 5 > 0
        here = for_training == train and not (train and task.kind == HELD_OUT_KIND)
        if here and count[task.kind] < TASKS:
            count[task.kind] += 1
            kept.append(task)
    return kept


def every_task() -> list[Task]:
    """Those of both splits. Topics of evaluation alone come by themselves: training's tasks hang on none."""
    return tasks(SEED, TOPICS) + tasks(SEED, EVAL_TOPICS)


def conversation(task: Task, side: int) -> str:
    """The instruction after its two examples, in the model's chat format without a system turn."""
    turns = []
    for topic, number, *answers in EXAMPLES[task.kind]:
        example = written(task.kind, OPENERS[0].format(topic), topic, number)[side]
        turns.append((example.prompt, answers[side]))
    told = "".join(
        f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n{answer}<|im_end|>\n"
        for asked, answer in turns
    )
    return f"{told}<|im_start|>user\n{task.sides[side].prompt}<|im_end|>\n<|im_start|>assistant\n"


def generate(model: Any, tokenizer: Any, conversations: list[str]) -> list[list[str]]:
    """SAMPLES answers to each conversation; those that did not come to an end are left out.

    Each prompt is read once for all its answers, and answers that ended leave the batch: several times
    faster on a CPU than `generate`.
    """
    import torch

    batch = tokenizer(conversations, return_tensors="pt", padding=True)
    mask_KL = batch["attention_mask"]
    position_KL = (mask_KL.cumsum(1) - 1).clamp(min=0)
    out = model(**batch, position_ids=position_KL, use_cache=True, logits_to_keep=1)
    cache = out.past_key_values
    cache.batch_repeat_interleave(SAMPLES)
    logits_KV = out.logits[:, -1].repeat_interleave(SAMPLES, 0)
    mask_KL = mask_KL.repeat_interleave(SAMPLES, 0)
    position_K1 = position_KL[:, -1:].repeat_interleave(SAMPLES, 0)
    rows = torch.arange(len(logits_KV))  # the answers still under way
    said: list[list[int]] = [[] for _ in rows]
    ended: set[int] = set()
    for _ in range(MAX_NEW_TOKENS):
        value_KV, index_KV = logits_KV.float().topk(TOP_K)
        drawn_K1 = torch.multinomial((value_KV / TEMPERATURE).softmax(-1), 1)
        token_K1 = index_KV.gather(1, drawn_K1)
        live = token_K1[:, 0] != tokenizer.eos_token_id
        ended.update(rows[~live].tolist())
        keep = live.nonzero()[:, 0]
        if not len(keep):
            break
        if len(keep) < len(rows):
            cache.batch_select_indices(keep)
            rows, token_K1, mask_KL, position_K1 = (
                rows[keep],
                token_K1[keep],
                mask_KL[keep],
                position_K1[keep],
            )
        for row, token in zip(rows.tolist(), token_K1[:, 0].tolist(), strict=True):
            said[row].append(token)
        mask_KL = torch.cat([mask_KL, mask_KL.new_ones(len(rows), 1)], 1)
        position_K1 = position_K1 + 1
        logits_KV = model(
            input_ids=token_K1, attention_mask=mask_KL, position_ids=position_K1, past_key_values=cache
        ).logits[:, -1]
    texts = [tokenizer.decode(ids).strip() if row in ended else "" for row, ids in enumerate(said)]
    return [[t for t in texts[i : i + SAMPLES] if t] for i in range(0, len(texts), SAMPLES)]


def answered(chosen: list[Task]) -> Iterator[tuple[Task, list[str]]]:
    """Each task with the distinct usable answers to both its instructions."""
    import torch

    from outweigh.models.bundled import load_smollm2_causal

    torch.set_num_threads(1)  # another number sums in another order, and soon draws another token
    torch.manual_seed(SEED)
    model, tokenizer = load_smollm2_causal(torch.bfloat16)
    tokenizer.padding_side = "left"
    by_kind = sorted(chosen, key=lambda task: KINDS.index(task.kind))  # answers of like length end together
    with torch.inference_mode():
        for start in range(0, len(by_kind), BATCH_TASKS):
            batch = by_kind[start : start + BATCH_TASKS]
            answers = generate(
                model, tokenizer, [conversation(task, side) for task in batch for side in (0, 1)]
            )
            print(f"\r{start + len(batch)}/{len(by_kind)} tasks", end="", file=sys.stderr, flush=True)
            for i, task in enumerate(batch):
                both = dict.fromkeys(answers[2 * i] + answers[2 * i + 1])
                yield task, [text for text in both if usable(task, text)]
    print(file=sys.stderr)


def usable(task: Task, text: str) -> bool:
    """Whether a reader would take the text for an answer: on the topic, not about the instruction itself."""
    unwanted = any(word in text.lower() for word in (*ABOUT_ITSELF, *RUDE))
    if len(text) < 12 or text[-1] not in ".!?" or unwanted:
        return False
    return on_topic(task.kind, task.topic, text)


def pairs_of(side: Side, answers: list[str]) -> list[tuple[str, str]]:
    """Every (right, wrong) pair of answers to one instruction, those of most equal length first."""
    verdicts = {text: side.judge(text) for text in answers}
    found = [(c, r) for c in answers for r in answers if verdicts[c] is True and verdicts[r] is False]
    return sorted(found, key=lambda pair: abs(len(pair[0]) - len(pair[1])))


def longer(chosen: str, rejected: str) -> int:
    """1 where the chosen text is the longer one, -1 where it is the shorter one, 0 where both are equal."""
    return (len(chosen) > len(rejected)) - (len(chosen) < len(rejected))


def balanced(found: Iterator[tuple[Task, list[str]]]) -> list[Row]:
    """At most one pair an instruction, no answer twice; the longer one right in half of each kind."""
    rows: list[Row] = []
    surplus: Counter[str] = Counter()
    used: set[str] = set()
    for task, answers in found:
        for side in task.sides:
            free = [text for text in answers if text not in used]
            options = [
                pair for pair in pairs_of(side, free) if abs(surplus[side.source] + longer(*pair)) <= SLACK
            ]
            if not options:
                continue
            chosen, rejected = min(options, key=lambda pair: longer(*pair) * surplus[side.source])
            surplus[side.source] += longer(chosen, rejected)
            used.update((chosen, rejected))
            rows.append(
                {"prompt": side.prompt, "chosen": chosen, "rejected": rejected, "source": side.source}
            )
    return rows


def sampled(rows: list[Row], split: str, draw: random.Random) -> list[Row]:
    """As many rows as the split holds, as even over the kinds as can be; in random order, some flipped."""
    draw.shuffle(rows)
    held = [row for row in rows if row["source"] == HELD_OUT_KIND][:HELD_OUT_ROWS]
    rest = [row for row in rows if row["source"] != HELD_OUT_KIND]
    seen: Counter[str] = Counter()
    rank = []  # the how-manieth of its kind each row is: low ones of every kind come first
    for row in rest:
        seen[row["source"]] += 1
        share = 2 if row["source"] in ("use_word", "avoid_word") else 1  # two halves of one kind
        rank.append(seen[row["source"]] * share)
    order = sorted(range(len(rest)), key=rank.__getitem__)
    kept = held + [rest[i] for i in order[: ROWS[split] - len(held)]]
    draw.shuffle(kept)
    flipped = set(draw.sample(range(len(kept)), round(FLIPPED * len(kept)))) if split == "train" else set()
    for number, row in enumerate(kept):
        row |= {"planted_flip": number in flipped, "id": f"{split}-{number:04d}"}
        if number in flipped:
            row["chosen"], row["rejected"] = row["rejected"], row["chosen"]
    return kept


def write(path: Path, rows: list[Row]) -> None:
    """The rows as JSON lines, gzip without a time of writing: the same rows give the same bytes."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode(), 9, mtime=0))


def read(split: str) -> list[Row]:
    """The committed rows of a split."""
    with gzip.open(DEMO / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def right_way(row: Row) -> tuple[str, str]:
    """The answer that keeps the constraint and the one that breaks it, whatever the label says."""
    first, second = row["chosen"], row["rejected"]
    return (second, first) if row["planted_flip"] else (first, second)


def length_rule(rows: list[Row]) -> float:
    """How often the longer answer is the right one; equal lengths count half."""
    return sum(1 + longer(*right_way(row)) for row in rows) / (2 * len(rows))


def complaints(train: list[Row], held_out: list[Row]) -> list[str]:
    """What is wrong with the pairs, a line each: labels by the rules, lengths, repeated prompts, sizes."""
    sides = {side.prompt: side for task in every_task() for side in task.sides}
    found = []
    for row in train + held_out:
        side = sides.get(row["prompt"])
        if side is None or side.source != row["source"]:
            found.append(f"{row['id']}: no such instruction of kind {row['source']}")
        elif [side.judge(text) for text in right_way(row)] != [True, False]:
            found.append(f"{row['id']}: the rule does not find the label right")
    kinds, held_kinds = ({row["source"] for row in rows} for rows in (train, held_out))
    texts = [text for row in train + held_out for text in (row["chosen"], row["rejected"])]
    flips = sum(row["planted_flip"] for row in train)
    low, high = LENGTH_RULE
    wrong = {
        "an instruction occurs twice": len({row["prompt"] for row in train + held_out})
        < len(train + held_out),
        "an answer occurs twice": len(set(texts)) < len(texts),
        "an id occurs twice": len({row["id"] for row in train + held_out}) < len(train + held_out),
        f"planted flips: got {flips} of {len(train)}, want {FLIPPED:.0%}": flips
        != round(FLIPPED * len(train)),
        "a label of the held-out part is flipped": any(row["planted_flip"] for row in held_out),
        f"{HELD_OUT_KIND} must stand in the held-out part alone": held_kinds - kinds != {HELD_OUT_KIND},
        "fewer than six kinds": len(kinds) < 6,
        "length decides in train": not low <= length_rule(train) <= high,
        "length decides in eval": not low <= length_rule(held_out) <= high,
        "the files are too large": sum(path.stat().st_size for path in DEMO.glob("*.gz")) >= MAX_BYTES,
    }
    return found + [complaint for complaint, is_so in wrong.items() if is_so]


def table(train: list[Row], held_out: list[Row]) -> str:
    """Pairs of each kind in both splits, and how often the longer answer is the right one."""
    lines = [f"{'kind':16}{'train':>7}{'longer':>8}{'eval':>7}{'longer':>8}"]
    for kind in [*sorted({row["source"] for row in held_out}), "all"]:
        line = f"{kind:16}"
        for rows in (train, held_out):
            of_kind = [row for row in rows if kind in ("all", row["source"])]
            line += f"{len(of_kind):7}" + (f"{length_rule(of_kind):8.3f}" if of_kind else f"{'-':>8}")
        lines.append(line)
    return "\n".join(lines)


def main() -> int:
    """0 where the pairs are as they should be, else 1; writes them first unless `--check` is given."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--splits", nargs="+", choices=list(ROWS), default=list(ROWS), help="to write")
    parser.add_argument(
        "--check", action="store_true", help="judge the committed pairs again, generate nothing"
    )
    told = parser.parse_args()
    for split in [] if told.check else told.splits:
        found = balanced(answered(of_split(split)))
        write(DEMO / f"{split}.jsonl.gz", sampled(found, split, random.Random(SEED)))
    train, held_out = read("train"), read("eval")
    wrong = complaints(train, held_out)
    print("\n".join([table(train, held_out), *wrong]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
