"""The README, followed from top to bottom in a fresh clone: its blocks work as printed.

A block of `sh` is run as it stands; the rows of the output below it must be printed here too.
"""

import json
import re
import subprocess
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from msabench import hashes
from tests import clones
from tests.clones import ROOT, SMALL, environment, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Lines that are not run here, by how they begin, and why.
NOT_HERE = {
    "make bench": "hours, alone on the machine",
    "pip install -r requirements-cluster.txt": "`make test` has done it",
    ".venv/bin/pip install -r requirements-cluster.txt": "`make test` has done it",
    "make repro CLUSTER=": "tests/test_cluster.py",
    "accelerate launch": "tests/test_two_processes.py",
    "dvc commit --force train@ours-1": "what the line before has made",
    "make real MOSEI_LABELS=/absolute/path/label.csv": "an hour, and a file that is not ours",
    "dvc exp run -S dataset=mosei -S text_encoder=bert-base-uncased": "a file of 13.65 GB",
    "dvc exp run -S models.self_mm.preset=repository_mosei": "bert-base from the hub",
}
SEEDS = ("robustness_seeds=[1,2,3]", "robustness_seeds=[1]")  # of the default run, and here
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def sections():
    """Return the README's sections by heading, each with its blocks: kind and content."""
    found = {}
    for part in re.split(r"^#{2,3} ", README, flags=re.MULTILINE)[1:]:
        heading, _, text = part.partition("\n")
        found[heading] = BLOCK.findall(text)
    return found


SECTIONS = {heading: blocks for heading, blocks in sections().items() if blocks}


def lines_of(block):
    """Return the commands of a block; one that goes on after a backslash is one."""
    return re.split(r"(?<!\\)\n", block.rstrip("\n"))


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """This tree as a user has it after `make repro`, with small settings, and no sweep."""
    folder = tmp_path_factory.mktemp("readme") / "msabench"
    clones.clone(folder)
    clones.install(folder)
    run(folder, "dvc", "exp", "run", *clones.options([*SMALL, "sweep_seeds=[]"]), "plan")
    shell(folder, "make repro")
    run(folder, "git", "commit", "--quiet", "--all", "--message", "small")
    return folder


def shell(folder, commands):
    """Run lines in one shell, which ends at the first that fails; return what they print."""
    variables = environment() | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    made = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    output = made.stdout + made.stderr
    assert made.returncode == 0, f"{commands}\n{output[-6000:]}"
    return output


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_blocks_of_a_section_work(clone, heading):
    follow(clone, heading)


def follow(clone, heading):
    """Do what a section says."""
    printed = ""
    for kind, block in SECTIONS[heading]:
        if kind == "sh":
            here = [line for line in lines_of(block) if not line.startswith(tuple(NOT_HERE))]
            printed = shell(clone, "\n".join(here).replace(*SEEDS))
        elif kind == "text":
            missing = first_cells(block) - first_cells(printed)
            assert not missing, f"{missing} of\n{block}\nin\n{printed}"
        elif kind == "yaml":
            set_params(clone, block)
        elif "Model = " in block:
            (clone / "src/msabench/models/mine.py").write_text(block, encoding="utf-8")
        elif "SLURM" not in block:
            (clone / "runs/example.py").write_text(block, encoding="utf-8")
            printed = shell(clone, "python runs/example.py")


def set_params(clone, block):
    """Write what a block says into params.yaml, with the hash and the path that are right here."""
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    for part, entries in yaml.load(block.replace("/absolute/path", str(clone))).items():
        for name, entry in entries.items():
            if "sha256" in entry:
                path = Path(entry["path"])
                entry["sha256"] = hashes.of_data(path) if path.exists() else "0" * 64
            params[part][name] = entry
    yaml.dump(params, clone / "params.yaml")
    shell(clone, "dvc repro plan")


def test_a_fifth_model_stands_beside_the_others(clone):
    """In Table 6, on the page, and among the cards, once its section has been followed."""
    if not (clone / "src/msabench/models/mine.py").exists():
        follow(clone, "Add a model")
    assert json.loads((clone / "metrics/table6.json").read_text())["mine"]["mae"] > 0
    assert "mine" in (clone / "plots/report.html").read_text(encoding="utf-8")
    assert (clone / "runs/cards/mine-1.md").is_file()


def first_cells(text):
    """Return what the lines of tables begin with; numbers differ from run to run, and are left out.

    The cells of a line are two spaces apart.
    """
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {cell for cell, *others in lines if others and not re.search(r"\d", cell)}


def test_what_is_not_run_still_stands_in_the_readme():
    commands = [
        line
        for blocks in SECTIONS.values()
        for kind, block in blocks
        if kind == "sh"
        for line in lines_of(block)
    ]
    for left_out in NOT_HERE:
        assert any(line.startswith(left_out) for line in commands), left_out
