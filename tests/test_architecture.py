"""The three graphs are one: imports point down, dvc.yaml names what a stage imports, and the
stages are the runs of params.yaml."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "msabench"

# Low to high: a module imports from lower lines and its own, never from higher ones.
LAYERS = [
    ["errors", "arithmetic"],
    ["program", "hashes", "labels"],
    ["params", "utterances"],
    ["predictions"],
    ["data", "networks"],
    ["training"],
    ["models"],
    ["plan", "runs"],
    ["evaluation"],
    ["reporting", "inference"],
    ["commands", "dvc"],
    ["__main__"],
]


def _yaml(name):
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))


def _imported(file: Path) -> set[Path]:
    """Return the files of the package that a file imports itself."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    found = set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "msabench":
            continue
        path = PACKAGE.joinpath(*parts[1:])
        found |= {path.with_suffix(".py")} if path.with_suffix(".py").is_file() else set()
        # Importing a.b runs a/__init__.py as well.
        packages = [path, *path.parents] if path.is_dir() else path.parents
        found |= {
            parent / "__init__.py"
            for parent in packages
            if parent.is_relative_to(PACKAGE) and parent.is_dir()
        }
    return found


def _closure(files: set[Path]) -> set[Path]:
    seen: set[Path] = set()
    waiting = set(files)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= _imported(file) - seen
    return seen


def _relative(files: set[Path]) -> set[str]:
    return {str(file.relative_to(ROOT)) for file in files}


def _layer(file: Path) -> int:
    name = file.relative_to(PACKAGE).with_suffix("").parts[0]
    return next(i for i, names in enumerate(LAYERS) if name in names)


MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file):
    """No module imports from a higher layer, and no two modules import each other."""
    for other in _imported(file) - {file, PACKAGE / "__init__.py"}:
        assert _layer(other) <= _layer(file), f"{file.name} imports {other.name}"
        assert file not in _closure({other}) or other.name == "__init__.py"


# What a stage imports by its configuration or reads as data: import statements do not show it.
BY_NAME = {
    "plan": {"src/msabench/data/corpora.json", "src/msabench/models", "src/msabench/data/sources"},
    "download": {"src/msabench/data/sources"},
    "prepare": {"src/msabench/data/sources"},
    "train": {"src/msabench/models/${item.run}.py"},
    "sweep": {"src/msabench/models/ours.py"},
    "ablation": {"src/msabench/models/${item.run}.py"},
    "modalities": {"src/msabench/models/svm.py"},
    "robustness": {"src/msabench/models/${item.run}.py"},
    "tables": {"src/msabench/evaluation/published.json"},
    "report": {"src/msabench/evaluation/published.json", "src/msabench/reporting/page.html"},
    "cards": {"src/msabench/evaluation/published.json"},
}

EACH_MODEL = ("train", "ablation", "robustness")


def _program(definition):
    """Return the name of the program in stages/ that a stage runs."""
    return definition["cmd"].partition("python -m stages.")[2].split()[0]


@pytest.mark.parametrize("stage", sorted(_yaml("dvc.yaml")["stages"]))
def test_no_shell_stands_between_dvc_and_a_training(stage):
    """What ends with the process that started it takes the place of the shell that DVC starts."""
    definition = _yaml("dvc.yaml")["stages"][stage]
    program = (ROOT / "stages" / f"{_program(definition)}.py").read_text()
    assert definition["cmd"].startswith("exec ") == ("PARENT" in program)


@pytest.mark.parametrize("stage", sorted(_yaml("dvc.yaml")["stages"]))
def test_a_stage_depends_on_the_code_it_imports(stage):
    """The code among a stage's deps is the closure of its imports, no more and no less."""
    definition = _yaml("dvc.yaml")["stages"][stage]
    program = _program(definition)
    listed = {dep for dep in definition["deps"] if dep.startswith(("src/", "stages/"))}
    by_name = BY_NAME.get(stage, set())
    files = {ROOT / "stages" / f"{program}.py", ROOT / "stages" / "__init__.py"}
    for name in by_name:
        named = ROOT / name.replace("${item.run}", "ours")
        files |= set(named.glob("*.py")) if named.is_dir() else {named}
    files = {file for file in files if file.suffix == ".py"}
    folders = {name for name in by_name if (ROOT / name).is_dir()}
    imported = _relative(_closure(files) - {PACKAGE / "__init__.py"})
    expected = {name for name in imported if str(Path(name).parent) not in folders}
    expected -= {"src/msabench/models/ours.py"} if stage in EACH_MODEL else set()
    assert listed == expected | by_name


def test_every_model_needs_the_same_code():
    """train@<run> names one list of code for all models, so that none may need more."""
    closures = {
        file.stem: _relative(_closure({ROOT / "stages" / "train.py", file}) - {file})
        for file in (PACKAGE / "models").glob("[!_]*.py")
    }
    assert len({frozenset(closure) for closure in closures.values()}) == 1, closures


def test_the_stages_are_the_runs():
    """`dvc stage list` names each run and seed of params.yaml, and nothing else."""
    params = _yaml("params.yaml")
    runs = {f"train@{run}-{seed}" for run in params["models"] for seed in params["seeds"]}
    runs |= {f"sweep@{run}-{seed}" for run in params["sweep"] for seed in params["sweep_seeds"]}
    runs |= {f"ablation@{run}" for run in params["models"]}
    for seed in params["robustness_seeds"]:
        runs |= {f"robustness@{run}-{seed}" for run in params["models"]}
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name for name in listed.split() if "@" in name} == runs
