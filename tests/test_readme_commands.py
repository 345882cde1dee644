"""The README, followed from top to bottom in a fresh clone: its blocks work as printed.

A block of `sh` is run as it stands; words of the output printed below it must be printed here too.
"""

import re
import subprocess
import sys

import pytest

from tests import clones
from tests.clones import ROOT, SMALL, environment, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
# Lines that are not run here, by how they begin, and why.
NOT_HERE = {
    "make repro": "the fixture has run it, with small settings",
    "make test": "it runs this test",
    "make soak KILLS=20": "a quarter of an hour",
    "make bench": "hours, alone on the machine",
    "make real MOSEI_LABELS=/absolute/path/label.csv": "an hour, and a file that is not ours",
    "dvc exp run -S dataset=mosei -S text_encoder=bert-base-uncased": "a file of 13.65 GB",
    "dvc exp run -S models.self_mm.preset=repository_mosei": "bert-base from the hub",
}
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
    (folder / ".venv").symlink_to(sys.prefix)
    (folder / ".venv/installed").touch()
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
        timeout=600,
        check=False,
    )
    output = made.stdout + made.stderr
    assert made.returncode == 0, f"{commands}\n{output[-6000:]}"
    return output


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_blocks_of_a_section_work(clone, heading):
    printed = ""
    for kind, block in SECTIONS[heading]:
        if kind == "sh":
            here = [line for line in lines_of(block) if not line.startswith(tuple(NOT_HERE))]
            printed = shell(clone, "\n".join(here))
        elif kind == "text":
            assert words(block) <= words(printed), f"{block}\n\nprinted:\n{printed}"
        elif kind == "python" and "import msabench" in block:
            (clone / "example.py").write_text(block)
            printed = shell(clone, "python example.py && rm example.py")


def words(text):
    """Return the words of an output; numbers and names of commits differ from run to run."""
    return set(re.findall(r"(?<![\w.])[A-Za-z_]{3,}(?![\w.])", text))


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
