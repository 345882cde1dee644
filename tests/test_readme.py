"""The README claims no figure that the code did not make."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MADE = "".join(path.read_text(encoding="utf-8") for path in ROOT.glob("metrics/**/tables.md"))


def test_every_row_of_a_table_stands_in_the_metrics():
    rows = [line for line in README.splitlines() if line.startswith("|")]
    assert len(rows) > 10
    assert [row for row in rows if row not in MADE] == []


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_every_link_leads_somewhere(target):
    assert (ROOT / target).exists()
