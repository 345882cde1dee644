"""What trainings wrote, predictions and tables -> runs/cards/: a card of each run, one of the data.

A run that failed has no card.
"""

import json
import shutil
import sys
from pathlib import Path

from msabench.evaluation.tables import SWEEPS, rows_of
from msabench.reporting import cards
from stages import run

PAGE = "docs/cards.md"
PLAN, PREDICTIONS, METRICS = Path("runs/plan/stages"), Path("predictions"), Path("metrics")
OUT = Path("runs/cards")


def main() -> None:
    plan, facts = (json.loads((PLAN / f"{name}.json").read_text()) for name in ("tables", "cards"))
    numbers = ("1", "6", *SWEEPS)
    tables = {n: json.loads((METRICS / f"table{n}.json").read_text()) for n in numbers}
    intervals = json.loads((METRICS / "comparison.json").read_text())["models"]
    data = cards.Data(plan, facts, tables["1"])
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    (OUT / "data.md").write_text(cards.data_card(data), encoding="utf-8")
    rows = rows_of(plan, [])
    for number in numbers[1:]:
        for row, names in rows[number].items():
            for name in names:
                card, run_json = OUT / f"{name}.md", PREDICTIONS / name / "run.json"
                if card.exists() or not run_json.exists():  # a row may be another's run
                    continue
                text = cards.model_card(
                    json.loads(run_json.read_text(encoding="utf-8")),
                    cards.measure(PREDICTIONS / name, plan),
                    tables[number][row],
                    intervals.get(row) if number == "6" else None,
                    data,
                )
                card.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    run(main, *sys.argv[1:])
