"""What a change does to lock, metrics, params and figures, by git and DVC.

The change is the work tree as it lies here, committed or not, against the commit where it branched
off a base: what `git diff base...` and a pull request show, so that what others did to the base
since then counts for nothing.
"""

import json
import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any
from urllib.parse import quote

from dvc.repo import Repo

from msabench.errors import DataError
from msabench.evaluation import statistics
from msabench.evaluation.metrics import HEADLINE
from msabench.reporting.review import HERE, SUMMARY, File, Review, Value

SEEDS = "metrics/seeds.json"
FIGURES = ("plots/*.svg", "plots/report.html")


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
            _rows(show(root, commit, SEEDS)),
            _rows(_read(root / SEEDS)),
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
    commit = _git(root, *arguments)
    if commit is None:
        raise DataError(
            f"{name!r} names no commit here; permitted: a branch, tag or commit that git knows "
            "(after `git fetch`, `origin/main`)"
        )
    return commit.decode().strip()


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


def _values(
    changes: Mapping[str, Mapping[str, Any]],
    before: Mapping[str, Mapping[str, Any]],
    after: Mapping[str, Mapping[str, Any]],
) -> dict[str, list[Value]]:
    """Gather by model what DVC says of each `model.metric`, and its change by seed.

    before, after: what each seed of each model measured.
    """

    def value(model: str, metric: str) -> Value:
        means = changes.get(f"{model}.{metric}", {})
        sides = [_by_seed(side.get(model, {}), metric) for side in (before, after)]
        old, new = _number(means.get("old")), _number(means.get("new"))
        return Value(metric, old, new, statistics.change(*sides), max(map(len, sides)))

    models = {name.rpartition(".")[0] for name in changes}
    order = dict.fromkeys((*after, *before))
    listed = [*(model for model in order if model in models), *sorted(models - set(order))]
    return {model: [value(model, metric) for metric in HEADLINE] for model in listed}


def _by_seed(seeds: Mapping[str, Any], metric: str) -> dict[str, float]:
    """Return a metric of each seed, none where it is undefined for one."""
    values = {
        seed: _number(row.get(metric)) for seed, row in seeds.items() if isinstance(row, dict)
    }
    known = {seed: value for seed, value in values.items() if value is not None}
    return known if len(known) == len(seeds) else {}


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
    result = subprocess.run(["git", *arguments], cwd=root, capture_output=True, check=False)
    return result.stdout if result.returncode == 0 else None
