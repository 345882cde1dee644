"""Tables, predictions and histories -> the figures in plots/ and their data in plots/data/."""

import json
import shutil
import sys
from pathlib import Path

from msabench import figures, plot_data
from msabench.metrics import class_names, confusion
from msabench.tables import PUBLISHED, SWEEPS, Runs
from stages import run

PREDICTIONS, PLOTS, DATA = Path("predictions"), Path("plots"), Path("plots/data")


def main() -> None:
    plan = json.loads(Path("runs/plan/stages/tables.json").read_text(encoding="utf-8"))
    table = {n: json.loads(Path(f"metrics/table{n}.json").read_text()) for n in (*SWEEPS, "6")}
    kind, title, facts, on = plan["metrics"], plan["title"], PUBLISHED["tables"], PUBLISHED["data"]
    runs = {
        model: Runs.read([PREDICTIONS / f"{model}-{seed}" for seed in plan["seeds"]])
        for model in plan["models"]
    }
    shutil.rmtree(DATA, ignore_errors=True)
    plot_data.write(DATA, runs, table["6"], kind)

    named = {PUBLISHED["names"].get(model, model): seeds for model, seeds in runs.items()}
    tested = {name: seeds for name, seeds in named.items() if seeds.test}
    histories = {name: seeds.histories for name, seeds in named.items()}
    counts = {name: confusion(*seeds.pooled(), kind) for name, seeds in tested.items()}
    means = {name: seeds.mean() for name, seeds in tested.items()}
    results = {PUBLISHED["names"].get(name, name): row for name, row in table["6"].items()}
    report = {PUBLISHED["names"][name]: row for name, row in facts["6"]["rows"].items()}
    sweeps = {facts[n]["title"]: table[n] for n in SWEEPS}
    published = {facts[n]["title"]: facts[n]["rows"] for n in SWEEPS}
    drawn = {
        "learning": figures.learning_curves(histories, title),
        "generated_labels": figures.generated_labels(histories, title),
        "predictions": figures.predictions_against_labels(means, title, plan["label_range"]),
        "confusion": figures.confusions(counts, title, class_names(kind)),
        "comparison": figures.comparison(results, report, title, on),
        "sweeps": figures.sweeps(sweeps, published, title, on),
    }
    for name, figure in drawn.items():
        figures.save(figure, PLOTS / f"{name}.svg")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
