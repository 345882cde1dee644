"""Predictions -> Tables 1-6 beside the report's figures, in metrics/.

Writes everything that can be measured; then, if predictions were missing, says so and exits 1.
"""

import json
import sys
from pathlib import Path

from msabench.evaluation import data_report, tables
from msabench.reporting.markdown import markdown, sections
from stages import run

PAGE = "docs/experiments.md"
PREDICTIONS, METRICS = Path("predictions"), Path("metrics")


def main() -> None:
    plan = json.loads(Path("runs/plan/stages/tables.json").read_text(encoding="utf-8"))
    data = tables.load_data(Path("data/prepared"))
    rows = tables.rows_of(plan, ["text", *data["train"].sequences])
    subsets = tables.ablation_rows(plan, ["text", *data["train"].sequences])
    corrupted = tables.robustness_files(plan, ["text", *data["train"].sequences], PREDICTIONS)
    missing = tables.missing_files(rows | subsets, corrupted, PREDICTIONS)

    classes = tables.label_classes(plan, data)
    measured = {"1": data_report.describe(data, Path("data/features"), classes)}
    measured |= tables.measure_tables(plan, rows, data, PREDICTIONS)
    comparison = tables.compare_models(rows["6"], data["test"], PREDICTIONS)
    ablation = tables.measure_ablation(plan, subsets, data, PREDICTIONS)
    generated = tables.measure_generated_labels(plan, PREDICTIONS)
    robustness = tables.measure_robustness(corrupted, data["test"])
    told = sections(plan, rows, measured, comparison, ablation, generated, robustness)

    METRICS.mkdir(exist_ok=True)
    for number, table in measured.items():
        tables.write_json(METRICS / f"table{number}.json", table)
    tables.write_json(METRICS / "comparison.json", comparison)
    tables.write_json(METRICS / "ablation.json", ablation)
    tables.write_json(METRICS / "generated_labels.json", generated)
    tables.write_json(METRICS / "robustness.json", robustness)
    tables.write_json(METRICS / "summary.json", tables.summary(measured["6"]))
    (METRICS / "tables.md").write_text(markdown(told), encoding="utf-8")
    if missing:
        raise SystemExit(f"tables: {len(missing)} missing, rows left empty: {', '.join(missing)}")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
