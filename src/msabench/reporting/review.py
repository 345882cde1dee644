"""What a change does to lock, metrics, params and figures, as one markdown comment.

The change is the work tree as it lies here, committed or not, against the commit where it branched
off a base: what `git diff base...` and a pull request show, so that what others did to the base
since then counts for nothing.
"""

import json
import math
import os
import re
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dvc.repo import Repo

from msabench.errors import DataError
from msabench.evaluation.metrics import HEADLINE
from msabench.reporting.markdown import Grid, Section, markdown

SUMMARY, SPREAD = "metrics/summary.json", "metrics/table6.json"
FIGURES = ("plots/*.svg", "plots/report.html")
TITLES = {"mae": "MAE, lower is better", "corr": "Corr", "acc_2": "Acc-2", "f1": "F1"}
LOWER_IS_BETTER = ("mae",)
MOVED = ("better", "worse")
HERE = "in the work tree"
LISTED, LINES, WIDTH = 6, 30, 60  # stages by name, params, characters of a value


@dataclass(frozen=True)
class Value:
    """One metric of one model at the base and now, None where there is none.

    spread: the larger standard deviation over seeds of both, None if one is unknown.
    """

    metric: str
    before: float | None
    after: float | None
    spread: float | None

    @property
    def verdict(self) -> str:
        """Say same, new, gone, spread unknown, noise, better or worse."""
        if self.before == self.after:
            return "same"
        if self.before is None or self.after is None:
            return "new" if self.before is None else "gone"
        if self.spread is None:
            return "spread unknown"
        difference = round(self.after - self.before, 6)  # the metrics have four decimals
        if abs(difference) < self.spread:
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


def compare(root: Path, base: str) -> Review:
    """Compare the work tree at root with the commit where it branched off base."""
    commit, branched = branching_point(root, base)
    with chdir(root), Repo(str(root)) as repo:  # DVC's targets and paths are relative to it
        stale = stale_stages(repo)
        metrics = repo.metrics.diff(a_rev=commit, targets=[SUMMARY], all=True)
        params = repo.params.diff(a_rev=commit).get("diff", {})
        stages = len(repo.index.stages)
    if not stages:
        raise DataError(f"{root}: dvc.yaml has no stage; there is nothing to compare")
    named = [
        (name if file == "params.yaml" else f"{file}: {name}", change["old"], change["new"])
        for file, changes in params.items()
        for name, change in changes.items()
    ]
    return Review(
        base=commit,
        branched=branched,
        stages=stages,
        stale=stale,
        models=_values(
            metrics.get("diff", {}).get(SUMMARY, {}),
            _rows(show(root, commit, SPREAD)),
            _rows(_read(root / SPREAD)),
        ),
        unread=[
            place
            for revision, place in ((commit, "at the base"), ("workspace", HERE))
            if revision in metrics.get("errors", {})
        ],
        params=sorted(named, key=lambda row: row[0]),
        figures=changed_figures(root, commit),
    )


def branching_point(root: Path, base: str) -> tuple[str, bool]:
    """Return the commit where HEAD branched off base, and whether one is known.

    If not, as in a shallow clone, it is base itself.
    """
    tip = commit_of(root, base)
    common = _git(root, "merge-base", "HEAD", tip)
    return (tip, False) if common is None else (common.decode().strip(), True)


def commit_of(root: Path, name: str) -> str:
    """Return the SHA of a branch, tag or commit."""
    arguments = ("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
    found = _git(root, *arguments)
    if found is None:
        raise DataError(
            f"{name!r} names no commit here; permitted: a branch, tag or commit that git knows "
            "(after `git fetch`, `origin/main`)"
        )
    return found.decode().strip()


def stale_stages(repo: Repo) -> list[str]:
    """Name the stages whose code, params, inputs or outputs are not those of dvc.lock.

    The question that `dvc repro --dry --allow-missing` asks of each stage: data that is not at hand
    passes. The command itself gives up at the first stale stage whose inputs are missing.
    """
    graph = repo.index.graph
    with repo.lock:
        return [
            stage.addressing
            for stage in repo.index.stages
            if stage.changed(allow_missing=True, upstream=list(graph.successors(stage)))
        ]


def changed_figures(root: Path, commit: str) -> list[File]:
    """Return the figures that differ between a commit and the work tree."""
    listed = _git(root, "ls-tree", "-z", "--name-only", commit, "plots/") or b""
    then = {Path(name) for name in listed.decode().split("\0") if name}
    now = {path.relative_to(root) for pattern in FIGURES for path in root.glob(pattern)}
    names = now | {path for path in then if any(path.match(pattern) for pattern in FIGURES)}
    files = [
        File(name, show(root, commit, name), _read(root / name))
        for name in sorted(path.as_posix() for path in names)
    ]
    return [file for file in files if file.before != file.after]


def show(root: Path, commit: str, path: str) -> bytes | None:
    """Return a file of a commit, None where it has none; path is relative to root."""
    return _git(root, "show", f"{commit}:./{path}")


def links_on_github(
    files: Sequence[File], repository: str, before: str, after: str
) -> dict[str, tuple[str, str]]:
    """Return links to both versions of each file, in two commits of a repository's address."""

    def link(path: str, commit: str) -> str:
        # GitHub draws an svg, but shows the source of a page, which is to be saved then.
        return f"{repository}/{'blob' if path.endswith('.svg') else 'raw'}/{commit}/{quote(path)}"

    return {file.path: (link(file.path, before), link(file.path, after)) for file in files}


def write_versions(files: Sequence[File], folder: Path, start: Path) -> dict[str, tuple[str, str]]:
    """Write both versions of each file below a folder, and return links to them from start."""
    links = {}
    for file in files:
        name = Path(file.path).name
        versions = {folder / "before" / name: file.before, folder / "after" / name: file.after}
        for path, content in versions.items():
            if content is not None:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
        before, after = (quote(Path(os.path.relpath(path, start)).as_posix()) for path in versions)
        links[file.path] = before, after
    return links


def comment(review: Review, base: str, links: Mapping[str, tuple[str, str]]) -> str:
    """Write the review as markdown; base as the reader calls it, links by figure."""
    text = [_verdict(review)]
    if review.stale:
        text.append(
            f"Stale: {_named(review.stale)}. The metrics may be those of other code; `dvc repro` "
            "makes them again."
        )
    found = (
        "where this branched off" if review.branched else "no common commit is known: the tip of"
    )
    text.append(f"Compared with `{review.base[:7]}`, {found} {_code(base)}.")
    blocks: dict[str, list[str | Grid]] = {
        "Metrics": _metrics_blocks(review.models, review.unread),
        "Params": _params_blocks(review.params, review.base),
    }
    if review.figures:
        blocks["Figures"] = ["\n".join(_linked(f, *links[f.path]) for f in review.figures)]
    sections = [Section(title.lower(), title, below, level=3) for title, below in blocks.items()]
    return "\n\n".join([*text, markdown(sections)])


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


def _metrics_blocks(
    models: Mapping[str, Sequence[Value]], unread: Sequence[str]
) -> list[str | Grid]:
    changed = {name: row for name, row in models.items() if any(v.verdict != "same" for v in row)}
    notes = [f"{len(models) - len(changed)} of {len(models)} models unchanged."]
    if any(value.verdict == "noise" for row in changed.values() for value in row):
        notes.append("noise: less than the spread over seeds, the larger of before and after.")
    notes += [f"`{SUMMARY}` cannot be read {place}." for place in unread]
    rows = [[_model(name, row), *map(_cell, row)] for name, row in changed.items()]
    grid = _words(["model", *(TITLES[metric] for metric in HEADLINE)], rows)
    return [*([grid] if rows else []), " ".join(notes)]


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
    difference = value.after - value.before
    return f"{value.before:z.4f} → {value.after:z.4f}, {difference:+z.4f} {verdict}"


def _params_blocks(params: Sequence[tuple[str, Any, Any]], base: str) -> list[str | Grid]:
    if not params:
        return ["None changed."]
    rows = [[_code(name), _shown(old), _shown(new)] for name, old, new in params[:LINES]]
    more = [f"{len(params) - LINES} more: `dvc params diff {base[:7]}`."]
    return [_words(["param", "before", "after"], rows), *(more if len(params) > LINES else [])]


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


def _words(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Grid:
    return Grid(header, rows, left=range(len(header)))


def _values(
    changes: Mapping[str, Mapping[str, Any]], *tables: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[Value]]:
    """Gather by model what DVC says of each `model.metric`, with the spread of both tables."""

    def value(model: str, metric: str) -> Value:
        change = changes.get(f"{model}.{metric}", {})
        stds = [_number(table.get(model, {}).get(f"{metric}_std")) for table in tables]
        known = [std for std in stds if std is not None]
        spread = max(known) if len(known) == len(tables) else None
        return Value(metric, _number(change.get("old")), _number(change.get("new")), spread)

    models = {name.rpartition(".")[0] for name in changes}
    order = dict.fromkeys(model for table in reversed(tables) for model in table)
    listed = [*(model for model in order if model in models), *sorted(models - set(order))]
    return {model: [value(model, metric) for metric in HEADLINE] for model in listed}


def _rows(content: bytes | None) -> dict[str, dict[str, Any]]:
    """Return the rows of a table; none where there is no table."""
    try:
        table = json.loads(content or b"{}")
    except ValueError:  # then DVC says what is wrong with the stage that made it
        return {}
    rows = table.items() if isinstance(table, dict) else ()
    return {name: row for name, row in rows if isinstance(row, dict)}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and math.isfinite(value) else None


def _read(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def _git(root: Path, *arguments: str) -> bytes | None:
    """Return what git prints, None where it fails."""
    made = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    return made.stdout if made.returncode == 0 else None
