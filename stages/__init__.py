"""The stages of the pipeline: thin programs, run by DVC as `python -m stages.<name>`."""

import sys
from collections.abc import Callable
from pathlib import Path

# The package of this very tree, not an installed one: a queued experiment runs its own code.
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "src"))


def run(main: Callable[..., None], *arguments: str) -> None:
    """Run a stage; an error that the user can mend is one line and exit status 1."""
    from msabench.params import ParamsError
    from msabench.utterances import DataError

    try:
        main(*arguments)
    except (ParamsError, DataError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")
    except KeyboardInterrupt:
        sys.exit("interrupted: `dvc repro` goes on from the last checkpoint")
