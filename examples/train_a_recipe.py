"""A paper's recipe from Python: made small, trained, cut, gone on with, and its loss drawn.

Needs the extras lab and lightning; with matplotlib it draws. Run it a second time and it finds its
run, in runs/example, ended.
"""

import json
from pathlib import Path

from halflife.lab.recipes import recipe
from halflife.lab.recipes.building import changed, small
from halflife.lab.recipes.options import Options
from halflife.lab.recipes.running import train
from halflife.lab.recipes.runs import departures

published = recipe("004/resnet20-nobn-cifar10/adamw")
# The digits come with scikit-learn; crops of the recipe would leave little of their 8 x 8 pixels.
chosen = changed(small(published), data="digits", epochs=1, batch_size=32, augment="")
print("not as published:", ", ".join(departures(chosen)))

folder = Path("runs/example")
# With resume=True a run begins, or goes on from its last checkpoint.
train(chosen, folder, Options(accelerator="cpu", until=10), resume=True)
result = train(chosen, folder, Options(accelerator="cpu"), resume=True)
print(f"step {result['step']}: test error {result['test_error']:.1f} %")

lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines()]
losses = {line["step"]: line["loss"] for line in lines if "loss" in line}
for step in (1, len(losses)):
    print(f"loss of step {step}: {losses[step]:.2f}")

try:
    import matplotlib
except ImportError:
    print("pip install matplotlib draws it")
else:
    matplotlib.use("agg")
    from matplotlib import pyplot

    pyplot.plot(list(losses), list(losses.values()))
    pyplot.xlabel("step")
    pyplot.ylabel("loss")
    pyplot.title(f"{published.name} on {chosen.data}")
    pyplot.savefig(folder / "loss.png")
    print("drawn:", (folder / "loss.png").as_posix())
