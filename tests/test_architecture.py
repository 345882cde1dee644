"""The graphs are one: imports point down the floors, dvc.yaml names the folders that a stage
imports, and the stages are the runs of params.yaml."""

import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from msabench import plan
from msabench.execution import scratch

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "msabench"

# Low to high: a module imports from lower lines and its own floor, never from higher ones.
FLOORS = [
    ["errors", "arithmetic"],
    ["program", "hashes", "labels"],
    ["params", "utterances"],
    ["corruption"],
    ["predictions", "folds"],
    ["data", "networks"],
    ["execution"],
    ["training"],
    ["models"],
    ["counterparts", "plan", "runs"],
    ["evaluation"],
    ["reporting", "inference", "estimation"],
    ["commands", "dvc"],
    ["__main__"],
]


def _yaml(name):
    return YAML(typ="safe", pure=True).load((ROOT / name).read_text(encoding="utf-8"))


STAGES = _yaml("dvc.yaml")["stages"]


@cache
def _imported(file: Path) -> set[Path]:
    """Return the files of the package that a file imports itself."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    files = set()
    for name in names:
        parts = name.split(".")
        if parts[0] != "msabench":
            continue
        path = PACKAGE.joinpath(*parts[1:])
        files |= {path.with_suffix(".py")} if path.with_suffix(".py").is_file() else set()
        # Importing a.b runs a/__init__.py as well.
        packages = [path, *path.parents] if path.is_dir() else path.parents
        files |= {
            parent / "__init__.py"
            for parent in packages
            if parent.is_relative_to(PACKAGE) and parent.is_dir()
        }
    return files


def _closure(files: set[Path]) -> set[Path]:
    seen: set[Path] = set()
    waiting = set(files)
    while waiting:
        file = waiting.pop()
        seen.add(file)
        waiting |= _imported(file) - seen
    return seen


def _floor(file: Path) -> int:
    name = file.relative_to(PACKAGE).with_suffix("").parts[0]
    return next(i for i, names in enumerate(FLOORS) if name in names)


MODULES = sorted(file for file in PACKAGE.rglob("*.py") if file != PACKAGE / "__init__.py")


@pytest.mark.parametrize("file", MODULES, ids=lambda file: str(file.relative_to(PACKAGE)))
def test_imports_point_down(file):
    """No module imports from a higher floor, and no two modules import each other."""
    for other in _imported(file) - {file, PACKAGE / "__init__.py"}:
        assert _floor(other) <= _floor(file), f"{file.name} imports {other.name}"
        assert file not in _closure({other}) or other.name == "__init__.py"


# What decides no output of a stage: error texts, arguments, hashes, signals, locks, durations.
# Settings are checked by `plan`, whose outputs the other stages read.
NEVER = {"__init__.py", "errors.py", "program.py", "hashes.py", "execution"}
UNDECISIVE = {
    **dict.fromkeys(STAGES, NEVER | {"params.py"}),
    "plan": NEVER,
    "download": NEVER | {"params.py"},
    "prepare": NEVER | {"params.py", "evaluation"},  # a note on stderr about few videos
    "features": NEVER | {"params.py", "labels.py"},
    "robustness": NEVER | {"params.py", "evaluation"},  # but for OF_EVALUATION
    # The code that computes is among the deps of `train`, whose outputs these read.
    "report": NEVER | {"params.py", "networks"},
    "cards": NEVER | {"params.py", "networks"},
}
OF_EVALUATION = {"corrupted_data.py", "robustness.py"}
# What a stage imports by its configuration: import statements do not show it.
TRAINED = ("train", "sweep", "ablation", "tune", "robustness")
BY_NAME = {
    "plan": ["src/msabench/models/ours.py", "src/msabench/data/sources/folder.py"],
    "download": ["src/msabench/data/sources/simulated.py"],
    "prepare": ["src/msabench/data/sources/simulated.py"],
    **{stage: ["src/msabench/models/ours.py"] for stage in TRAINED},
}
# Of it `plan` writes the hash into what these stages depend on: tests/test_plan.py.
BY_HASH = {stage: {PACKAGE / "models" / "ours.py"} for stage in TRAINED}


def _program(stage):
    """Return the name of the program in stages/ that a stage runs."""
    return STAGES[stage]["cmd"].partition("python -m stages.")[2].split()[0]


def _code(stage):
    """Return the code among the deps of a stage."""
    return [ROOT / dep for dep in STAGES[stage]["deps"] if dep.startswith(("src/", "stages/"))]


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_no_shell_stands_between_dvc_and_a_training(stage):
    """What ends with the process that started it takes the place of the shell that DVC starts."""
    program = (ROOT / "stages" / f"{_program(stage)}.py").read_text()
    assert STAGES[stage]["cmd"].startswith("exec ") == ("parent_is_alive" in program)


@pytest.mark.parametrize("stage", sorted(STAGES))
def test_a_stage_depends_on_the_code_that_decides_its_outputs(stage):
    """Each imported file lies in a dep, or is known to decide nothing; each dep is imported."""
    code = _code(stage)
    program = ROOT / "stages" / f"{_program(stage)}.py"
    imported = _closure({program, *(ROOT / name for name in BY_NAME.get(stage, []))})
    missing = {
        file
        for file in imported - {program} - BY_HASH.get(stage, set())
        if not any(file.is_relative_to(dep) for dep in code)
        and file.relative_to(PACKAGE).parts[0] not in UNDECISIVE[stage]
    }
    assert missing == set()
    assert program in code
    unused = [dep for dep in code if not any(file.is_relative_to(dep) for file in imported)]
    assert unused == []
    decided = [
        dep
        for dep in code
        if dep.is_relative_to(PACKAGE)
        and dep.relative_to(PACKAGE).parts[0] in UNDECISIVE[stage]
        and dep.name not in OF_EVALUATION
    ]
    assert decided == []


def test_one_list_says_what_decides_a_training():
    """DVC expands sweep and ablation by other names; the code is that of `train`.

    So is that the plan of a run, with the hash of its model's file, is a dep.
    """
    names = {"ablation": "${item.run}-${item.subset}"}
    for stage in TRAINED[:-1]:
        assert _code(stage) == _code("train")
        assert f"runs/plan/{names.get(stage, '${item.run}')}.json" in STAGES[stage]["deps"]
    assert "runs/${item.run}-${item.seed}" in STAGES["robustness"]["deps"]
    assert scratch.decisive_code() == _code("train")


@pytest.mark.parametrize(
    "file", sorted((PACKAGE / "models").glob("[!_]*.py")), ids=lambda f: f.stem
)
def test_every_model_needs_code_of_the_one_list_alone(file):
    """The deps of `train` are those of every run, whatever its model imports."""
    code = _code("train")
    missing = {
        other
        for other in _closure({ROOT / "stages" / "train.py", file}) - {file}
        if not any(other.is_relative_to(dep) for dep in code)
        and other.relative_to(PACKAGE).parts[0] not in UNDECISIVE["train"]
    }
    assert missing == set()


def test_the_stages_are_the_runs():
    """`dvc stage list` names each run and seed of params.yaml, and nothing else."""
    params = _yaml("params.yaml")
    runs = {f"train@{run}-{seed}" for run in params["compare"] for seed in params["seeds"]}
    runs |= {f"sweep@{run}-{seed}" for run in params["sweep"] for seed in params["sweep_seeds"]}
    runs |= {
        f"ablation@{plan.subset_run(model, subset)}-{seed}"
        for model in params["ablation"]["models"]
        for subset in plan.SUBSETS
        for seed in params["ablation"]["seeds"]
    }
    for seed in params["robustness_seeds"]:
        runs |= {f"robustness@{run}-{seed}" for run in params["compare"]}
    command = [sys.executable, "-m", "dvc", "stage", "list", "--name-only"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name for name in listed.split() if "@" in name} == runs
