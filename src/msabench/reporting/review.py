"""What a change does to lock, metrics, params and figures, as one markdown comment."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from msabench.evaluation import statistics
from msabench.evaluation.metrics import HEADLINE
from msabench.evaluation.statistics import Change
from msabench.reporting import markdown
from msabench.reporting.document import Block, Column, Section, Table, Title, row

SUMMARY = "metrics/summary.json"
TITLES = {"mae": "MAE, lower is better", "corr": "Corr", "acc_2": "Acc-2", "f1": "F1"}
LOWER_IS_BETTER = ("mae",)
MOVED = ("better", "worse")
HERE = "in the work tree"
LEGEND = {
    "noise": "noise: the confidence interval of the change contains 0.",
    "spread unknown": "spread unknown: one seed, a base without `metrics/seeds.json`, or a metric "
    "that is undefined for a seed.",
}
INTERVAL = (
    f"±: half of its {statistics.LEVEL:.0%} confidence interval over seeds, paired by seed. Of "
    "twenty changes without an effect one leaves its interval by chance."
)
LISTED, LINES, WIDTH = 6, 30, 60  # stages by name, params, characters of a value


@dataclass(frozen=True)
class Value:
    """One metric of one model at the base and now, None where there is none.

    change: of the seeds that can be compared; None where their spread is unknown.
    """

    metric: str
    before: float | None
    after: float | None
    change: Change | None
    seeds: int  # of the side that has more

    @property
    def verdict(self) -> str:
        """Say same, new, gone, spread unknown, noise, better or worse."""
        if self.before == self.after:
            return "same"
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        if self.change is None:
            return "spread unknown"
        difference, half = round(self.change.difference, 6), round(self.change.half, 6)
        if abs(difference) <= half:  # the metrics have four decimals
            return "noise"
        return "better" if (difference < 0) == (self.metric in LOWER_IS_BETTER) else "worse"


@dataclass(frozen=True)
class File:
    """What a file holds at the base and now, None where there is none."""

    path: str
    before: bytes | None
    after: bytes | None


@dataclass(frozen=True)
class Review:
    """All that a change does; branched: whether it branched off at base, else that is the tip."""

    base: str
    branched: bool
    stages: int
    stale: list[str]
    models: dict[str, list[Value]]
    unread: list[str]  # where the metrics cannot be read
    params: list[tuple[str, Any, Any]]
    figures: list[File]


def comment(review: Review, base: str, links: Mapping[str, tuple[str, str]]) -> str:
    """Write the review as markdown; base as the reader calls it, links by figure."""
    text = [_verdict(review)]
    if review.stale:
        text.append(
            f"Stale: {_named(review.stale)}. The metrics may be those of other code; `dvc repro` "
            "makes them again."
        )
    relation = "where this branched off"
    if not review.branched:
        relation = "no common commit is known: the tip of"
    text.append(f"Compared with `{review.base[:7]}`, {relation} {_code(base)}.")
    blocks: dict[str, list[Block]] = {
        "Metrics": _metrics_blocks(review.models, review.unread),
        "Params": _params_blocks(review.params, review.base),
    }
    if review.figures:
        blocks["Figures"] = ["\n".join(_linked(f, *links[f.path]) for f in review.figures)]
    for title, below in blocks.items():
        text.append(markdown.section(Section(title.lower(), Title(title), below), level=3))
    return "\n\n".join(text) + "\n"


def _verdict(review: Review) -> str:
    values = [value for row in review.models.values() for value in row]
    count = Counter(value.verdict for value in values)
    moved = sum(count[verdict] for verdict in MOVED)
    text = "`dvc.lock` matches the code"
    if review.stale:
        stale = f"{len(review.stale)} of {review.stages} stages stale"
        text = f"`dvc.lock` does not match the code: {stale}"
    if not values or HERE in review.unread:
        return f"**{text}; no metric was compared.**"
    text += f"; {moved} of {len(values)} metrics moved beyond noise"
    text += f" ({', '.join(f'{count[v]} {v}' for v in MOVED)})" if moved else ""
    if count["spread unknown"]:
        text += f", {count['spread unknown']} of unknown spread"
    return f"**{text}.**"


def _named(stages: Sequence[str]) -> str:
    if len(stages) <= LISTED:
        return ", ".join(map(_code, stages))
    kinds = Counter(stage.partition("@")[0] for stage in stages)
    return ", ".join(_code(kind) + (f" ({n})" if n > 1 else "") for kind, n in kinds.items())


def _metrics_blocks(models: Mapping[str, Sequence[Value]], unread: Sequence[str]) -> list[Block]:
    changed = {name: row for name, row in models.items() if any(v.verdict != "same" for v in row)}
    notes = [f"{len(models) - len(changed)} of {len(models)} models unchanged."]
    verdicts = {value.verdict for row in changed.values() for value in row}
    notes += [note for verdict, note in LEGEND.items() if verdict in verdicts]
    if verdicts & {"noise", *MOVED}:
        notes.append(INTERVAL)
    notes += [f"`{SUMMARY}` cannot be read {place}." for place in unread]
    rows = [[_model(name, values), *map(_cell, values)] for name, values in changed.items()]
    table = _table(["model", *(TITLES[metric] for metric in HEADLINE)], rows)
    return [*([table] if rows else []), " ".join(notes)]


def _model(name: str, row: Sequence[Value]) -> str:
    if all(value.before is None for value in row):
        return f"{_code(name)} (added)"
    return _code(name) + (" (removed)" if all(value.after is None for value in row) else "")


def _cell(value: Value) -> str:
    if value.before is None or value.after is None:
        known = value.after if value.before is None else value.before
        return "-" if known is None else f"{known:z.4f} {value.verdict}"
    if value.verdict == "same":
        return f"{value.after:z.4f} same"
    verdict = f"**{value.verdict}**" if value.verdict in MOVED else value.verdict
    before, after, half, seeds = value.before, value.after, "", ""
    if value.change is not None:
        half, paired = f" ± {value.change.half:.4f}", value.change.paired
        if 0 < len(paired) < value.seeds:
            before, after, seeds = *value.change[:2], f", of seeds {', '.join(paired)}"
    return f"{before:z.4f} → {after:z.4f}, {after - before:+z.4f}{half} {verdict}{seeds}"


def _params_blocks(params: Sequence[tuple[str, Any, Any]], base: str) -> list[Block]:
    if not params:
        return ["None changed."]
    rows = [[_code(name), _shown(old), _shown(new)] for name, old, new in params[:LINES]]
    more = [f"{len(params) - LINES} more: `dvc params diff {base[:7]}`."]
    return [_table(["param", "before", "after"], rows), *(more if len(params) > LINES else [])]


def _linked(file: File, before: str, after: str) -> str:
    if file.before is None:
        return f"- {_code(file.path)}: [added]({after})"
    if file.after is None:
        return f"- {_code(file.path)}: [removed]({before})"
    return f"- {_code(file.path)}: [before]({before}), [after]({after})"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    text = json.dumps(value, ensure_ascii=False, default=str)
    return _code(text if len(text) <= WIDTH else text[: WIDTH - 1] + "…")


def _code(text: str) -> str:
    """Quote text so that nothing in it is markdown, nor the end of a table's cell."""
    text = " ".join(text.split())
    runs = re.findall("`+", text)
    fence = "`" * (max(map(len, runs), default=0) + 1)
    space = " " if runs else ""
    return f"{fence}{space}{text}{space}{fence}".replace("|", "\\|")


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    return Table([Column(name, "markdown") for name in names], [row(*cells) for cells in rows])
