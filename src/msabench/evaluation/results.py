"""What metrics/ holds: all that was measured, as json files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msabench.evaluation import clusters, probe
from msabench.evaluation.tables import Row, Rows, summary, write_json

TABLES = "123456"
OTHERS = (
    *("split", "columns", "probe", "seeds", "fits", "comparison", "constants"),
    *("ablation", "generated_labels", "robustness"),
)
MISSING = "missing"


@dataclass(frozen=True)
class Results:
    """What was measured, by the names of its files, and the plan of the tables.

    rows: the folders of predictions behind each row, see tables.rows_of. tables: by number.
    split: `drawn` says how the split was drawn, "" where it is that of the data. columns: by
    modality, see data_report.columns. probe: the row of each modality and of all, see
    probe.measure. seeds: each run by its name and seed, see tables.by_seed. fits: so too, see
    fits.measure. comparison: by metric, see statistics.compare. constants: see
    tables.compare_with_constants. missing: see missing_data.measure; where it is empty it has no
    file.
    """

    plan: Mapping[str, Any]
    rows: Mapping[str, Mapping[str, list[str]]]
    tables: Mapping[str, Rows]
    split: Mapping[str, str]
    columns: Mapping[str, Row]
    probe: Mapping[str, Row]
    seeds: Mapping[str, Rows]
    fits: Mapping[str, Rows]
    comparison: Mapping[str, Mapping[str, Rows]]
    constants: Mapping[str, Rows]
    ablation: Mapping[str, Mapping[str, Rows]]
    generated_labels: Mapping[str, Rows]
    robustness: Mapping[str, Mapping[str, Rows]]
    missing: Mapping[str, Any]

    @property
    def tested(self) -> Row:
        """What Table 1 says of what is tested on."""
        return clusters.tested(self.tables["1"])

    @property
    def leaks(self) -> list[str]:
        """What the probe says of the features: see probe.leaks."""
        return probe.leaks(self.probe, self.tables["1"], simulated=self.plan["simulated"])

    @classmethod
    def read(cls, metrics: Path, **plan: Mapping[str, Any]) -> "Results":
        """Read what `write` wrote. plan: the fields plan and rows."""

        def content(name: str) -> Any:
            return json.loads((metrics / f"{name}.json").read_text(encoding="utf-8"))

        tables = {number: content(f"table{number}") for number in TABLES}
        others = {name: content(name) for name in OTHERS}
        missing = content(MISSING) if (metrics / f"{MISSING}.json").exists() else {}
        return cls(tables=tables, **others, missing=missing, **plan)

    def write(self, metrics: Path) -> None:
        """Write each table and measurement, and the summary that `dvc metrics` shows."""
        files: dict[str, Mapping[str, Any]]
        files = {f"table{number}": table for number, table in self.tables.items()}
        files |= {name: getattr(self, name) for name in OTHERS}
        files["summary"] = summary(self.tables["6"])
        if self.missing:
            files[MISSING] = self.missing
        for name, numbers in files.items():
            write_json(metrics / f"{name}.json", numbers)
