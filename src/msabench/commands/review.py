"""Compare the work tree with a base and print a comment for reviewers.

Compares the work tree, uncommitted changes included, with the commit where it branched off the
base, as in a pull request. Exit status: 1 if dvc.lock does not match the code, or if the work tree
has no metrics to compare, else 0.

examples:
  msabench review
  msabench review --base origin/main --output runs/review.md
"""

import argparse
import os
import shutil
import sys
from pathlib import Path

from msabench.errors import DataError

PAGE = "docs/review.md"
VERSIONS = "runs/review"  # both versions of each changed figure, outside GitHub


def arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--base", default="main", help="a branch, tag or commit; default: main")
    parser.add_argument("--output", type=Path, help="write the comment to this file, too")
    parser.add_argument(
        "--head", default="HEAD", help="the commit that links on GitHub show; default: HEAD"
    )


def main(options: argparse.Namespace) -> None:
    """Print the comment; raise SystemExit(1) where the change does not pass."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    from msabench.commands import _changes
    from msabench.reporting import review

    try:
        root = Path(Repo.find_root())
        comparison = _changes.compare(root, options.base)
        if "GITHUB_SERVER_URL" in os.environ and "GITHUB_REPOSITORY" in os.environ:
            repository = f"{os.environ['GITHUB_SERVER_URL']}/{os.environ['GITHUB_REPOSITORY']}"
            head = _changes.commit_of(root, options.head)
            links = _changes.links_on_github(comparison.figures, repository, comparison.base, head)
        else:
            versions = root / VERSIONS
            shutil.rmtree(versions, ignore_errors=True)
            start = options.output.parent if options.output else Path()
            links = _changes.write_versions(comparison.figures, versions, start)
    except DvcException as error:
        raise DataError(str(error)) from error
    text = review.comment(comparison, options.base, links)
    print(text, end="")
    if options.output:
        _write(options.output, text)
    if comparison.stale or not comparison.models or review.HERE in comparison.unread:
        sys.exit(1)


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:  # of the path that the user gave
        raise DataError(f"--output {path}: {error.strerror}") from error
