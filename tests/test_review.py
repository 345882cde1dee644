"""The comment of a review, on a small repository; and the workflow that posts it, on a false gh."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pytest
from dvc.repo import Repo
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from msabench.__main__ import main
from msabench.commands._changes import SEEDS
from msabench.evaluation.statistics import Change
from msabench.reporting import markdown, review
from msabench.reporting.document import Column, Table, row

# DVC asks its trie in a way that is to be given up.
pytestmark = pytest.mark.filterwarnings("ignore:_NoneStep.value:DeprecationWarning")

ROOT = Path(__file__).resolve().parents[1]
DVC_YAML = """
stages:
  train:
    cmd: python train.py
    params: [lr, note]
    deps: [code.py]
    outs: [runs/weights]
  tables:
    cmd: python tables.py
    deps: [runs/weights]
    metrics: [metrics/summary.json: {cache: false}]
    outs: [metrics/seeds.json: {cache: false}]
  report:
    cmd: python report.py
    deps: [metrics/seeds.json]
    outs: [plots/a.svg: {cache: false}]
"""
ROW = {"mae": 0.5, "corr": 0.8, "acc_2": 0.85, "f1": 0.84}
SPREAD = {"1": -0.01, "2": 0.01, "3": 0.0}  # of every metric, by seed


def git(tree, *arguments):
    names = ("-c", "user.name=test", "-c", "user.email=test@example.org")
    command = ["git", *names, *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True).stdout


def write(tree, files):
    for name, content in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(content, encoding="utf-8")


def record(tree, table, files=(), spread=SPREAD, acc_2_of_ours=None):
    """Write what the stages would make of means, and record it in dvc.lock.

    spread: what a seed adds to every metric that is a number. acc_2_of_ours: by seed, instead.
    """
    seeds = {
        name: {
            seed: {m: v + add if isinstance(v, float) else v for m, v in row.items()}
            for seed, add in spread.items()
        }
        for name, row in table.items()
    }
    for seed, value in (acc_2_of_ours or {}).items():
        seeds["ours"][seed]["acc_2"] = value
    results = {"metrics/summary.json": json.dumps(table), "metrics/seeds.json": json.dumps(seeds)}
    write(tree, results | dict(files))
    with chdir(tree), Repo() as repo:
        repo.commit(force=True)


def commit(tree):
    git(tree, "add", "--all")
    git(tree, "commit", "--quiet", "--message", "change")


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A pipeline with two models, in one commit of main."""
    tree = tmp_path_factory.mktemp("start")
    git(tree, "init", "--quiet", "--initial-branch", "main")
    Repo.init(str(tree)).close()
    files = {
        "dvc.yaml": DVC_YAML,
        "params.yaml": "lr: 0.1\nnote: a|b\n",
        "code.py": "1",
        ".gitignore": "/runs/\n",
        "runs/weights": "1",
        "plots/a.svg": "<svg>1</svg>",
    }
    record(tree, {"ours": ROW, "svm": ROW}, files)
    commit(tree)
    return tree


@pytest.fixture
def tree(start, tmp_path, monkeypatch):
    """A branch of it, and the directory to work in; no GitHub."""
    shutil.copytree(start, tmp_path / "tree")
    git(tmp_path / "tree", "checkout", "--quiet", "-b", "change")
    monkeypatch.chdir(tmp_path / "tree")
    for name in ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "tree"


@pytest.fixture
def write_comment(capsys):
    """Run the command: the comment, and the exit status."""

    def write_comment(*options):
        try:
            main(["review", *options])
        except SystemExit as end:
            return capsys.readouterr().out, end.code
        return capsys.readouterr().out, 0

    return write_comment


def cells(text):
    """Return every table of a comment as GitHub would read it: rows by their first cell."""
    rows: list[list[str]] = []
    inside = False
    for token in MarkdownIt().enable("table").parse(text):
        if token.type == "tr_open":
            rows.append([])
        elif token.type in ("td_open", "th_open", "td_close", "th_close"):
            inside = token.type.endswith("open")
        elif token.type == "inline" and inside:
            rows[-1].append(token.content)
    return {row[0]: row[1:] for row in rows}


@pytest.mark.parametrize(
    ("metric", "before", "after", "half", "verdict"),
    [
        ("mae", 0.5, 0.45, 0.01, "better"),
        ("mae", 0.5, 0.55, 0.01, "worse"),
        ("corr", 0.5, 0.55, 0.01, "better"),
        ("f1", 0.5, 0.45, 0.01, "worse"),
        ("f1", 0.5, 0.45, 0.06, "noise"),
        ("mae", 0.4178, 0.4295, 0.0117, "noise"),  # its interval ends at 0, but for rounding
        ("mae", 0.5, 0.5001, 0.0, "worse"),
        ("mae", 0.5, 0.45, None, "spread unknown"),
        ("mae", 0.5, 0.5, None, "same"),
        ("mae", None, 0.5, None, "new"),
        ("mae", 0.5, None, None, "gone"),
    ],
)
def test_a_change_is_judged_by_its_interval(metric, before, after, half, verdict):
    change = None if half is None else Change(before, after, half, ["1", "2"])
    assert review.Value(metric, before, after, change, 2).verdict == verdict


@pytest.mark.usefixtures("tree")
def test_no_change_is_said_so(write_comment):
    text, status = write_comment("--base", "main")
    assert text.splitlines()[0] == (
        "**`dvc.lock` matches the code; 0 of 8 metrics moved beyond noise.**"
    )
    assert "2 of 2 models unchanged." in text
    assert cells(text) == {}
    assert "None changed." in text
    assert status == 0


def test_a_change_shows_what_moved_and_what_is_noise(tree, write_comment):
    """All seeds moved alike, but those of acc_2: a metric that is the same says so."""
    changed = ROW | {"mae": 0.45, "corr": 0.75, "acc_2": 0.87}
    record(
        tree,
        {"ours": changed, "svm": ROW},
        {"params.yaml": "lr: 0.05\nnote: 'c`|d'\n", "plots/a.svg": "<svg>2</svg>"},
        acc_2_of_ours={"1": 0.90, "2": 0.84, "3": 0.87},  # before 0.84, 0.86 and 0.85
    )
    text, status = write_comment("--base", "main")
    assert text.splitlines()[0] == (
        "**`dvc.lock` matches the code; 2 of 8 metrics moved beyond noise (1 better, 1 worse).**"
    )
    assert cells(text)["`ours`"] == [
        "0.5000 → 0.4500, -0.0500 ± 0.0000 **better**",
        "0.8000 → 0.7500, -0.0500 ± 0.0000 **worse**",
        "0.8500 → 0.8700, +0.0200 ± 0.0994 noise",
        "0.8400 same",
    ]
    assert "`svm`" not in cells(text)
    assert "1 of 2 models unchanged." in text
    assert cells(text)["`lr`"] == ["`0.1`", "`0.05`"]
    assert cells(text)["`note`"] == ['`"a|b"`', '`` "c`|d" ``']
    assert status == 0


def test_with_one_seed_nothing_is_said_to_be_noise(tree, write_comment):
    """It has no spread, whatever the base has."""
    record(tree, {"ours": ROW | {"mae": 0.4}, "svm": ROW}, spread={"1": 0.0})
    text, _ = write_comment()
    assert cells(text)["`ours`"][0] == "0.5000 → 0.4000, -0.1000 spread unknown"
    assert "0 of 8 metrics moved beyond noise, 1 of unknown spread.**" in text


def test_of_more_seeds_those_of_both_sides_are_compared(tree, write_comment):
    """Whatever the others add to the means."""
    more = SPREAD | {"4": 0.2, "5": 0.3}
    record(tree, {"ours": ROW | {"mae": 0.49}, "svm": ROW}, spread=more)
    text, _ = write_comment()
    assert cells(text)["`ours`"][0] == (
        "0.5000 → 0.4900, -0.0100 ± 0.0000 **better**, of seeds 1, 2, 3"
    )


def test_the_page_explains_what_the_comment_does():
    page = " ".join((ROOT / "docs/review.md").read_text(encoding="utf-8").split())
    assert review.LEGEND["noise"] in page
    assert review.INTERVAL in page


def test_models_that_come_and_go_are_told(tree, write_comment):
    record(tree, {"ours": ROW, "mlp": ROW | {"mae": "?", "corr": None, "f1": 0.9}})
    text, _ = write_comment("--base", "main")
    assert cells(text)["`mlp` (added)"] == ["-", "-", "0.8500 new", "0.9000 new"]
    assert cells(text)["`svm` (removed)"][0] == "0.5000 gone"


def test_metrics_that_labels_do_not_define_are_null_and_no_model_is_gone(tree, write_comment):
    """Signs that the labels have no longer; `dvc metrics diff` shows the rest."""
    without = dict.fromkeys(("acc_2", "f1"))
    record(tree, {"ours": ROW | without | {"mae": 0.4}, "svm": ROW | without})
    text, _ = write_comment("--base", "main")
    assert cells(text)["`ours`"][2:] == ["0.8500 gone", "0.8400 gone"]
    assert "**better**" in cells(text)["`ours`"][0]
    assert "`svm` (removed)" not in cells(text)
    for options in ([], ["--json"], ["--md", "--all"]):
        command = [sys.executable, "-m", "dvc", "metrics", "diff", "main", *options]
        shown = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=True)
        assert "ours.acc_2" in shown.stdout or "null" in shown.stdout
    commit(tree)
    git(tree, "branch", "null")
    record(tree, {"ours": ROW | without, "svm": ROW | without})
    text, _ = write_comment("--base", "null")
    assert cells(text)["`ours`"][2:] == ["-", "-"]
    assert "`svm`" not in cells(text)


def test_a_base_without_metrics_and_with_older_columns(tree, write_comment):
    git(tree, "rm", "--quiet", "-r", "metrics", "plots", "dvc.lock", "dvc.yaml")
    commit(tree)
    git(tree, "branch", "bare")
    write(tree, {"metrics/summary.json": json.dumps({"ours": {"mae": 0.5}})})
    commit(tree)
    git(tree, "branch", "old")
    git(tree, "checkout", "--quiet", "main", "--", ".")

    text, status = write_comment("--base", "bare")
    assert "`metrics/summary.json` cannot be read at the base." in text
    assert cells(text)["`ours` (added)"][0] == "0.5000 new"
    assert "`plots/a.svg`: [added](runs/review/after/a.svg)" in text
    text, status = write_comment("--base", "old")
    assert cells(text)["`ours`"] == ["0.5000 same", "0.8000 new", "0.8500 new", "0.8400 new"]
    assert status == 0


@pytest.mark.parametrize("broken", ["{", '[{"ours": 1}]', None])
def test_metrics_that_cannot_be_read_are_gone(tree, write_comment, broken):
    for name in (review.SUMMARY, SEEDS):
        (tree / name).unlink() if broken is None else (tree / name).write_text(broken)
    text, status = write_comment("--base", "main")
    assert cells(text)["`ours` (removed)"][0] == "0.5000 gone"
    assert ("cannot be read in the work tree" in text) == (broken in ("{", None))
    assert status == 1


def test_a_stale_lock_names_the_stages_and_fails_as_dvc_says(tree, write_comment):
    """The stages are those that `dvc repro` would run; the comment is written all the same."""
    write(tree, {"code.py": "2", "plots/a.svg": "<svg>2</svg>"})
    text, status = write_comment("--base", "main", "--output", "comment.md")
    assert text.splitlines()[0].startswith(
        "**`dvc.lock` does not match the code: 2 of 3 stages stale; 0 of 8 metrics"
    )
    assert "Stale: `train`, `report`." in text
    assert status == 1
    assert Path("comment.md").read_text(encoding="utf-8") == text
    dry = ["repro", "--dry", "--allow-missing"]
    ran = subprocess.run([sys.executable, "-m", "dvc", *dry], capture_output=True, text=True).stdout
    assert re.findall("Running stage '(.*)'", ran) == ["train", "report"]


def test_a_folder_below_the_root_is_reviewed_as_the_root(tree, write_comment, monkeypatch):
    record(tree, {"ours": ROW | {"mae": 0.7}, "svm": ROW}, {"plots/a.svg": "<svg>2"})
    text, status = write_comment("--base", "main")
    assert "1 of 8 metrics moved" in text
    (tree / "src").mkdir()
    monkeypatch.chdir(tree / "src")
    below, status_below = write_comment("--base", "main")
    assert (below.replace("](../runs", "](runs"), status_below) == (text, status) == (text, 0)
    assert (tree / "runs/review/after/a.svg").read_text() == "<svg>2"


def test_a_review_without_stages_fails(tree, write_comment):
    (tree / "dvc.yaml").unlink()
    text, status = write_comment("--base", "main")
    assert text == ""
    assert "dvc.yaml has no stage" in status


def test_a_review_that_compares_no_metric_fails(tree, write_comment):
    """As where the pipeline has not run, neither here nor at the base."""
    git(tree, "rm", "--quiet", "-r", "--cached", "metrics")
    for name in (review.SUMMARY, SEEDS):
        (tree / name).unlink()
    commit(tree)
    git(tree, "branch", "--force", "main")
    text, status = write_comment("--base", "main")
    assert text.splitlines()[0].endswith("; no metric was compared.**")
    assert "beyond noise" not in text
    assert status == 1


def test_a_comment_stays_short():
    """Many stale stages are counted by kind, params beyond some left to dvc, long values cut."""
    actual = review.Review(
        base="a" * 40,
        branched=True,
        stages=12,
        stale=["plan", *(f"train@ours-{seed}" for seed in range(9))],
        models={},
        unread=[],
        params=[(f"key{i}", None, "x" * 100) for i in range(review.LINES + 2)],
        figures=[],
    )
    text = review.comment(actual, "main", {})
    assert "10 of 12 stages stale" in text.splitlines()[0]
    assert "Stale: `plan`, `train` (9)." in text
    assert len(cells(text)) == 1 + review.LINES
    before, after = cells(text)["`key0`"]
    assert before == "-"
    assert len(after) == len("``") + review.WIDTH
    assert "2 more: `dvc params diff aaaaaaa`." in text


def test_a_clone_without_data_and_history_matches(tree, tmp_path, write_comment, monkeypatch):
    """What continuous integration has: no cache, no outputs, not even the common commit."""
    record(tree, {"ours": ROW | {"mae": 0.4}, "svm": ROW})
    commit(tree)
    git(tree, "checkout", "--quiet", "main")
    write(tree, {"other.txt": "what others did since"})
    commit(tree)
    url = f"file://{tree}"
    git(tmp_path, "clone", "--quiet", "--depth", "1", "--branch", "change", url, "shallow")
    git(tmp_path / "shallow", "fetch", "--quiet", "--depth", "1", "origin", "main:base")
    monkeypatch.chdir(tmp_path / "shallow")
    text, status = write_comment("--base", "base")
    assert "no common commit is known: the tip of `base`." in text
    assert cells(text)["`ours`"][0] == "0.5000 → 0.4000, -0.1000 ± 0.0000 **better**"
    assert status == 0

    write(tmp_path / "shallow", {"code.py": "2"})  # dvc repro --dry fails here, without the inputs
    text, status = write_comment("--base", "base")
    assert "Stale: `train`." in text
    assert status == 1

    # Two locks merged by hand: tables would have read other weights than train has made.
    before, stage, after = Path("dvc.lock").read_text().partition("  tables:")
    after = re.sub("md5: [0-9a-f]{32}", f"md5: {'a' * 32}", after, count=1)
    write(tmp_path / "shallow", {"code.py": "1", "dvc.lock": before + stage + after})
    text, status = write_comment("--base", "base")
    assert "Stale: `tables`." in text
    assert status == 1


def test_what_others_did_to_the_base_counts_for_nothing(tree, write_comment):
    record(tree, {"ours": ROW | {"mae": 0.4}, "svm": ROW})
    commit(tree)
    git(tree, "checkout", "--quiet", "main")
    record(tree, {"ours": ROW, "svm": ROW | {"mae": 0.3}})
    commit(tree)
    git(tree, "checkout", "--quiet", "change")
    text, _ = write_comment("--base", "main")
    assert f"Compared with `{git(tree, 'rev-parse', 'main~1')[:7]}`, where this branched" in text
    assert list(cells(text)) == ["model", "`ours`"]


@pytest.mark.usefixtures("tree")
@pytest.mark.parametrize("base", ["nowhere", "--output=x", "", "HEAD:params.yaml"])
def test_an_unknown_base_is_one_line(write_comment, base):
    text, status = write_comment(f"--base={base}")
    assert text == ""
    said = f"error: {re.escape(repr(base))} names no commit here; permitted.*"
    assert re.fullmatch(rf"{said} \(docs/review.md\)", status)


def test_a_broken_pipeline_is_one_line(tree, write_comment):
    write(tree, {"dvc.yaml": "stages: 1"})
    text, status = write_comment()
    assert text == ""
    assert re.fullmatch(r"error: .*dvc\.yaml.* \(docs/review.md\)", status)


def test_links_lead_to_both_versions_here(tree, write_comment):
    """Relative to where the comment lies; a page counts as well, other files of plots do not."""
    write(tree, {"plots/a.svg": "<svg>2</svg>", "plots/report.html": "2", "plots/data.csv": "2"})
    text, _ = write_comment("--output", "runs/comment.md")
    linked = re.findall(r"`plots/a.svg`: \[before\]\((.*)\), \[after\]\((.*)\)", text)
    [(before, after)] = linked
    assert (tree / "runs" / before).read_text() == "<svg>1</svg>"
    assert (tree / "runs" / after).read_text() == "<svg>2</svg>"
    assert "`plots/report.html`: [added](review/after/report.html)" in text
    assert "data.csv" not in text
    assert "runs/review" not in git(tree, "status", "--porcelain")

    write(tree, {"plots/a.svg": "<svg>1</svg>"})
    write_comment()
    assert not (tree / "runs/review/after/a.svg").exists()  # no longer changed


def test_links_lead_to_both_commits_on_github(tree, write_comment, monkeypatch):
    write(tree, {"plots/a b.svg": "2", "plots/report.html": "2"})
    (tree / "plots/a.svg").unlink()
    commit(tree)
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://github.example")
    monkeypatch.setenv("GITHUB_REPOSITORY", "one/msabench")
    text, _ = write_comment("--base", "main", "--head", "change")
    before, after = (git(tree, "rev-parse", name).strip() for name in ("main", "change"))
    at = "https://github.example/one/msabench"
    assert f"- `plots/a.svg`: [removed]({at}/blob/{before}/plots/a.svg)" in text
    assert f"- `plots/a b.svg`: [added]({at}/blob/{after}/plots/a%20b.svg)" in text
    assert f"- `plots/report.html`: [added]({at}/raw/{after}/plots/report.html)" in text
    assert not (tree / "runs/review").exists()


def test_what_a_change_names_is_no_markdown():
    """A fork's params could else hide text, notify people or break the table."""
    for text in ("a|b", "a\\|b", "`", "a`b``c", "<img src=x>", "@all #1 [a](b)", "a\nb", "**a**"):
        columns = [Column("", "markdown"), Column("x", "markdown")]
        table = cells(markdown.table(Table(columns, [row("`k`", review._code(text))])))
        [[cell]] = [row for name, row in table.items() if name == "`k`"]
        [code] = MarkdownIt().parseInline(cell)[0].children or []
        assert (code.type, code.content) == ("code_inline", text.replace("\n", " "))


WORKFLOW = YAML(typ="safe", pure=True).load(ROOT / ".github/workflows/review.yml")
STEPS = {
    name: {step.get("name", step.get("uses")): step for step in job["steps"]}
    for name, job in WORKFLOW["jobs"].items()
}


def test_the_workflow_may_write_the_comment_and_nothing_else():
    assert WORKFLOW["on"] == "pull_request"  # never pull_request_target: that runs with all rights
    assert WORKFLOW["permissions"] == {"contents": "read"}
    allowed = {name: job.get("permissions") for name, job in WORKFLOW["jobs"].items()}
    assert allowed == {"review": None, "comment": {"pull-requests": "write"}}
    assert "${{ github.event.pull_request.number }}" in WORKFLOW["concurrency"]["group"]
    # Whoever may write runs nothing of the request's.
    assert [step for step in WORKFLOW["jobs"]["comment"]["steps"] if "uses" in step] == []


def test_every_action_is_pinned_and_nothing_is_pasted_into_a_shell():
    text = (ROOT / ".github/workflows/review.yml").read_text(encoding="utf-8")
    lines = re.findall("uses: (.*)", text)
    assert len(lines) == 2
    for line in lines:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", line)
    scripts = [step["run"] for steps in STEPS.values() for step in steps.values() if "run" in step]
    assert len(scripts) == 4
    assert not any("${{" in script for script in scripts)


def run_step(step, folder, programs, **variables):
    """Run a step's script as GitHub does, with these programs first on PATH."""
    for name, program in programs.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"#!{sys.executable}\n{program}")
        (folder / name).chmod(0o755)
    environment = {
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "RUNNER_TEMP": str(folder),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_REPOSITORY": "one/msabench",
    }
    shell = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    return subprocess.run(
        shell, cwd=folder, env=environment | variables, capture_output=True, text=True, check=False
    )


PYTHON = """
import sys
file = sys.argv[sys.argv.index("--output") + 1]
if "origin/broken" in sys.argv:
    sys.exit("error: broken")
open(file, "w").write("stale $(touch a) | comment\\n")
sys.exit(1)
"""


@pytest.mark.parametrize(
    ("base", "comment"),
    [("origin/main", "stale $(touch a) | comment"), ("origin/broken", "could not be compared")],
)
def test_a_stale_lock_fails_the_job_and_its_comment_is_kept(tmp_path, base, comment):
    step = STEPS["review"]["review"]
    assert set(step["env"]) == {"BASE", "HEAD"}
    result = run_step(step, tmp_path, {".venv/bin/python": PYTHON}, BASE=base, HEAD="abc")
    assert result.returncode == 1
    summary, output = ((tmp_path / name).read_text() for name in ("summary", "output"))
    assert comment in summary
    first, *lines, last = output.splitlines()
    assert first == f"comment<<{last}"
    assert "\n".join(lines) + "\n" == summary


GH = """
import json, os, sys
from pathlib import Path
folder = Path(os.environ["RUNNER_TEMP"])
fields = [value.removeprefix("body=@") for value in sys.argv if value.startswith("body=@")]
body = Path(fields[0]).read_text() if fields else None
with open(folder / "calls", "a") as file:
    file.write(json.dumps([sys.argv[1:], body]) + "\\n")
if "--paginate" in sys.argv and os.environ["EARLIER"]:
    print(os.environ["EARLIER"])
"""


def post(tmp_path, earlier="", head="one/msabench", comment="**Moved** $(touch a) `touch b`"):
    step = STEPS["comment"]["write or update the comment"]
    variables = {"NUMBER": "7", "HEAD_REPOSITORY": head, "COMMENT": comment, "GH_TOKEN": "x"}
    assert set(step["env"]) == set(variables)
    result = run_step(step, tmp_path, {"gh": GH}, **variables, EARLIER=earlier)
    assert result.returncode == 0, result.stderr
    assert {path.name for path in tmp_path.iterdir()} <= {"gh", "calls", "comment.md"}
    calls = tmp_path / "calls"
    return [json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []


def test_the_first_comment_is_posted(tmp_path):
    (requested, _), (posted, body) = post(tmp_path)
    assert requested[:3] == ["api", "--paginate", "repos/one/msabench/issues/7/comments"]
    assert "<!-- msabench review -->" in requested[-1]
    assert posted[2:5] == ["--method", "POST", "repos/one/msabench/issues/7/comments"]
    assert body == "**Moved** $(touch a) `touch b`\n\n<!-- msabench review -->\n"


def test_an_earlier_comment_is_updated(tmp_path):
    (_, (updated, body)) = post(tmp_path, earlier="41\n42")
    assert updated[2:5] == ["--method", "PATCH", "repos/one/msabench/issues/comments/41"]
    assert body.startswith("**Moved**")


@pytest.mark.parametrize("head", ["other/msabench", ""])  # a fork that is gone has no name
def test_a_fork_posts_nothing(tmp_path, head):
    assert post(tmp_path, head=head) == []


def test_a_job_that_left_no_comment_is_told(tmp_path):
    (_, (_, body)) = post(tmp_path, comment="")
    assert body.startswith("**The change could not be compared**")
