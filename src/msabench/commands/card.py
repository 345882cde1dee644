"""Print the card of a trained model, and how long its training took.

The cards themselves are runs/cards/<run>-<seed>.md, and data.md for the data set; `dvc repro cards`
makes them.

examples:
  msabench card runs/ours-1
"""

import argparse
from pathlib import Path

PAGE = "docs/cards.md"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command is told."""
    parser.add_argument("run", type=Path, help="the folder of a trained run, as runs/ours-1")


def main(options: argparse.Namespace) -> None:
    """Print the card."""
    # Here, because NumPy takes a while to import, which `--help` does not need.
    from msabench.reporting import cards

    print(cards.with_time(options.run), end="")
