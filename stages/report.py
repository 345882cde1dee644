"""Tables and predictions -> the figures in plots/, their data, and all of it on one page."""

import json
import shutil
import sys
from pathlib import Path

from msabench.evaluation import tables
from msabench.evaluation.results import Results
from msabench.reporting import content, figures, page, plot_data
from msabench.reporting.content import figures as drawings
from msabench.reporting.content import provenance
from msabench.utterances import load_prepared
from stages import run

PAGE = "docs/experiments.md"
STAGES, PREPARED, PREDICTIONS = Path("runs/plan/stages"), Path("data/prepared"), Path("predictions")
METRICS, PLOTS = Path("metrics"), Path("plots")


def main() -> None:
    plan, source = (
        json.loads((STAGES / f"{name}.json").read_text(encoding="utf-8"))
        for name in ("tables", "download")
    )
    parts = load_prepared(PREPARED)
    modalities = next(iter(parts.values())).modalities
    rows = tables.rows_of(plan, modalities)
    results = Results.read(METRICS, plan=plan, rows=rows)
    runs = {
        model: tables.Runs.read([PREDICTIONS / f"{model}-{seed}" for seed in plan["seeds"]])
        for model in plan["models"]
    }
    classes = tables.label_classes(plan, parts)
    shutil.rmtree(PLOTS / "data", ignore_errors=True)
    plot_data.write(PLOTS / "data", runs, results.tables["6"], classes)
    drawn = drawings.draw(results, runs, classes)
    for name, figure in drawn.items():
        figures.save(figure.drawing, PLOTS / f"{name}.svg")

    behind = rows | tables.ablation_rows(plan, modalities)
    origin = provenance.sections(plan, behind, source, PREPARED, PREDICTIONS)
    corrupted = tables.robustness_files(plan, modalities, PREDICTIONS)
    missing = tables.missing_files(behind, corrupted, PREDICTIONS)
    text = page.render(content.document(results, drawn, origin), missing)
    (PLOTS / "report.html").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
