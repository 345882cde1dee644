"""Predictions -> Tables 1-6 beside the report's figures, in metrics/.

Writes everything that can be measured; then, if predictions were missing, says so and exits 1.
"""

import json
import sys
from pathlib import Path

from msabench import folds
from msabench.evaluation import cautions, data_report, fits, missing_data, probe, tables
from msabench.evaluation.results import Results
from msabench.reporting import content, latex, markdown
from msabench.utterances import load_prepared
from stages import run

PAGE = "docs/experiments.md"
PREPARED, FEATURES = Path("data/prepared"), Path("data/features")
PREDICTIONS, METRICS = Path("predictions"), Path("metrics")


def main() -> None:
    plan = json.loads(Path("runs/plan/stages/tables.json").read_text(encoding="utf-8"))
    parts = load_prepared(PREPARED)
    data = folds.held_out(parts)
    modalities = next(iter(parts.values())).modalities
    rows = tables.rows_of(plan, modalities)
    subsets = tables.ablation_rows(plan, modalities)
    corrupted = tables.robustness_files(plan, modalities, PREDICTIONS)
    missing = tables.missing_files(rows | subsets, corrupted, PREDICTIONS)

    classes = tables.label_classes(plan, parts)
    probed = probe.measure(plan, parts, FEATURES)
    named = json.loads((PREPARED / "columns.json").read_text(encoding="utf-8"))
    split = json.loads((PREPARED / "split.json").read_text(encoding="utf-8"))
    runs = tables.measure_runs(plan, rows | subsets, data, PREDICTIONS)
    measured = {"1": data_report.describe(parts, FEATURES, classes)}
    measured |= tables.measure_tables(plan, rows, runs, parts, probed[probe.ALL])
    results = Results(
        plan=plan,
        rows=rows,
        tables=measured,
        split=split,
        columns=data_report.columns(parts, named),
        probe=probed,
        seeds=tables.by_seed(runs),
        fits=tables.by_seed(fits.measure(runs, PREDICTIONS)),
        comparison=tables.compare(plan, rows["6"], data["test"], PREDICTIONS),
        constants=tables.compare_with_constants(rows["6"], parts, PREDICTIONS),
        ablation=tables.measure_ablation(plan, subsets, runs, data["test"], PREDICTIONS),
        generated_labels=tables.measure_generated_labels(plan, PREDICTIONS),
        robustness=tables.measure_robustness(corrupted, data["test"]),
        missing=missing_data.measure(plan, corrupted, data["test"]),
    )

    METRICS.mkdir(exist_ok=True)
    for file in filter(Path.is_file, METRICS.iterdir()):  # DVC keeps the folder: see dvc.yaml
        file.unlink()
    results.write(METRICS)
    document = content.document(results)
    (METRICS / "tables.md").write_text(markdown.render(document), encoding="utf-8")
    (METRICS / "tables.tex").write_text(latex.render(document), encoding="utf-8")
    for sentence in (*cautions.of_data(results), *cautions.of_models(results)):
        print(f"note: {sentence}", file=sys.stderr)
    for number in rows:
        for sentence in cautions.of_epochs(results, number):
            print(f"note: Table {number}: {sentence}", file=sys.stderr)
    if missing:
        raise SystemExit(f"tables: {len(missing)} missing, rows left empty: {', '.join(missing)}")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
