"""Tables and predictions -> the figures in plots/, their data, and all of it on one page."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from msabench.evaluation import tables
from msabench.reporting import exhibits, figures, markdown, page, plot_data, provenance
from stages import run

PAGE = "docs/experiments.md"
STAGES, PREPARED, PREDICTIONS = Path("runs/plan/stages"), Path("data/prepared"), Path("predictions")
METRICS, PLOTS = Path("metrics"), Path("plots")


def main() -> None:
    plan, source = _read(STAGES / "tables.json"), _read(STAGES / "download.json")
    table = {number: _read(METRICS / f"table{number}.json") for number in "123456"}
    names = ("comparison", "ablation", "generated_labels", "robustness")
    comparison, ablation, generated, robustness = (_read(METRICS / f"{n}.json") for n in names)
    runs = {
        model: tables.Runs.read([PREDICTIONS / f"{model}-{seed}" for seed in plan["seeds"]])
        for model in plan["models"]
    }
    shutil.rmtree(PLOTS / "data", ignore_errors=True)
    data = tables.load_data(PREPARED)
    classes = tables.label_classes(plan, data)
    plot_data.write(PLOTS / "data", runs, table["6"], classes)
    drawn = exhibits.draw(plan, runs, table, robustness, classes)
    for name, exhibit in drawn.items():
        figures.save(exhibit.figure, PLOTS / f"{name}.svg")

    modalities = ["text", *data["train"].sequences]
    rows = tables.rows_of(plan, modalities)
    behind = rows | tables.ablation_rows(plan, modalities)
    told = markdown.sections(plan, rows, table, comparison, ablation, generated, robustness)
    told += provenance.sections(plan, behind, source, PREPARED, PREDICTIONS)
    corrupted = tables.robustness_files(plan, modalities, PREDICTIONS)
    missing = tables.missing_files(behind, corrupted, PREDICTIONS)
    text = page.render(plan, told, drawn, comparison, table["1"]["test"], missing)
    (PLOTS / "report.html").write_text(text, encoding="utf-8")


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    run(main, *sys.argv[1:])
