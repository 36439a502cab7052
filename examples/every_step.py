"""Every step on the demo pairs, from Python: python examples/every_step.py FOLDER"""

import sys
from pathlib import Path

import outweigh
from outweigh.steps.demo import PAIRS

folder = Path(sys.argv[1] if len(sys.argv) > 1 else "every-step")
train, held_out = PAIRS / "train.jsonl.gz", PAIRS / "eval.jsonl.gz"

# How strong is each preference, and how many labels are wrong? Two reward models trained on them vote.
config = outweigh.TrainConfig(tokens=outweigh.TokenConfig(max_tokens=160), epochs=2)
votes = outweigh.VoteConfig(method="full", tokens=config.tokens)
audit = outweigh.audit(train, out=folder / "audit", config=outweigh.AuditConfig(votes=votes), training=config)
noise, trust = audit.audit.noise, audit.audit.trust
print(f"{noise.rate:.0%} of the labels are wrong, by this estimate [{noise.low:.0%}, {noise.high:.0%}].")
print(trust.reason if trust else "No flips were planted.")

# The same rows, repaired; TRL, OpenRLHF and ms-swift train on them too.
clean = folder / "pairs.clean.jsonl"
print(outweigh.denoise(train, audit=folder / "audit", out=clean)["actions"])

# A reward model before the repair, and one after it.
for name, pairs in (("plain", train), ("repaired", clean)):
    outweigh.train(pairs, out=folder / name, config=config)

# Which is better, on pairs whose labels are known to be right?
models = {name: folder / name / "model" for name in ("plain", "repaired")}
results = outweigh.evaluate(held_out, models=models, out=folder / "evaluation.json")
for found in results["sets"].values():
    for name, evaluation in found["evaluation"].items():
        print(name, evaluation.accuracy)

# The rewards of any texts.
model = outweigh.RewardModel.load(models["repaired"])
print(model.score(["Write one sentence about tea."] * 2, ["Tea is warm.", "Tea. Is. Warm."]))
