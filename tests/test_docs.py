"""The README claims no figure that the code did not make."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = re.sub(
    r"^(`{3,}).*?^\1$",  # what blocks print is held against the commands themselves
    "",
    (ROOT / "README.md").read_text(encoding="utf-8"),
    flags=re.MULTILINE | re.DOTALL,
)


def _made() -> str:
    """Return all tables as they lie here and as committed.

    A run on another processor changes the former in their last digits, which must fail no test.
    """
    paths = [path.relative_to(ROOT) for path in ROOT.glob("metrics/**/tables.md")]
    texts = [(ROOT / path).read_text(encoding="utf-8") for path in paths]
    for path in paths:
        command = ["git", "show", f"HEAD:./{path.as_posix()}"]
        shown = subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
        texts.append(shown.stdout.decode())
    return "".join(texts)


def test_every_row_of_a_table_stands_in_the_metrics():
    rows = [line for line in README.splitlines() if line.startswith("|")]
    rows = [row for row in rows if not row.startswith(("| promise", "| ---")) and "`" not in row]
    made = _made()
    assert len(rows) > 10
    assert [row for row in rows if row not in made] == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists()


def test_the_tests_that_the_readme_names_exist():
    named = set(re.findall(r"`(test_\w+)`", README))
    defined = {
        name
        for file in (ROOT / "tests").rglob("*.py")
        for name in re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert named <= defined
    assert len(named) > 20
