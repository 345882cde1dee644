"""What trainings wrote, predictions and tables -> runs/cards/: a card of each run, one of the data.

A run that failed has no card.
"""

import json
import shutil
import sys
from pathlib import Path

from msabench.evaluation import tables
from msabench.evaluation.results import Results
from msabench.reporting import cards
from msabench.utterances import MODALITIES
from stages import run

PAGE = "docs/cards.md"
PLAN, PREDICTIONS, METRICS = Path("runs/plan/stages"), Path("predictions"), Path("metrics")
OUT = Path("runs/cards")


def main() -> None:
    plan, facts = (json.loads((PLAN / f"{name}.json").read_text()) for name in ("tables", "cards"))
    results = Results.read(METRICS, plan=plan, rows=tables.rows_of(plan, MODALITIES))
    data = cards.Data(results, facts)
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    (OUT / "data.md").write_text(cards.data_card(data), encoding="utf-8")
    for name, row in rows_by_run(results).items():
        run_json = PREDICTIONS / name / "run.json"
        if run_json.exists():
            trained = json.loads(run_json.read_text(encoding="utf-8"))
            card = cards.model_card(
                trained,
                results.seeds[trained["run"]][str(trained["seed"])],
                row,
                results.comparison["mae"]["models"].get(trained["run"]),
                data,
            )
            (OUT / f"{name}.md").write_text(card, encoding="utf-8")


def rows_by_run(results: Results) -> dict[str, tables.Row]:
    """Return the means over seeds that the tables show of each run and seed, first of Table 6."""
    rows = [
        (folders, results.tables[number][row])
        for number in sorted(results.rows, reverse=True)
        for row, folders in results.rows[number].items()
    ]
    subsets = tables.subset_rows(results.plan, MODALITIES)
    rows += [
        (subsets[model][subset], row)
        for model, part in results.ablation.items()
        for subset, row in part["rows"].items()
    ]
    by_run: dict[str, tables.Row] = {}
    for folders, row in rows:
        for folder in folders:
            by_run.setdefault(folder, row)
    return by_run


if __name__ == "__main__":
    run(main, *sys.argv[1:])
