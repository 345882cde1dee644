"""The stages of the pipeline: thin programs, run by DVC as `python -m stages.<name>`."""

import sys
from collections.abc import Callable
from pathlib import Path

# The package of this very tree, not an installed one: a queued experiment runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error that the user can mend is one line and exit status 1."""
    try:
        main(*arguments)
    except (ValueError, OSError, FloatingPointError) as error:
        if type(error) in (ValueError, KeyError):  # a defect of ours: show where
            raise
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("interrupted: `dvc repro` goes on from the last checkpoint")
