"""DVC with two checks of our own; `.venv/bin/dvc` runs this module.

DVC expands the lists of params.yaml in dvc.yaml before the stage `plan` can check them, and copies
the path of its cache into files that it writes as ASCII. Its errors name neither the setting nor
the remedy.
"""

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from dvc.cli import main as run_dvc

from msabench import errors, params
from msabench.errors import DataError, ParamsError

PARAMS = "params.yaml"
FAILED = 255  # DVC's exit status after an error, but for one of usage


def main(arguments: Sequence[str]) -> int:
    """Run DVC and return its exit status; 1 where a check says in one line what is wrong."""
    try:
        if _in_a_copy({*arguments}):
            check_cache()
        status = run_dvc(list(arguments))
        if status == FAILED:
            check_expanded(arguments)
    except (DataError, ParamsError) as error:
        print(errors.message(error), file=sys.stderr)
        return 1
    return status


def _in_a_copy(words: set[str]) -> bool:
    """Tell whether DVC is asked to run experiments in copies of the tree."""
    return bool(words & {"--temp", "--queue", "--run-all"}) or words >= {"queue", "start"}


@errors.see("docs/experiments.md")
def check_cache() -> None:
    """Raise DataError where the path of DVC's cache is not ASCII: no experiment runs in a copy."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            cache = str(repo.cache.local.path)
    except DvcException:
        return  # DVC says what is wrong
    if not cache.isascii():
        raise DataError(
            f"{cache}: DVC's cache; for `--temp` and the queue its path must be ASCII: "
            "dvc cache dir --local /a/folder/whose/path/is/ASCII"
        )


def check_expanded(arguments: Sequence[str]) -> None:
    """Raise ParamsError where DVC could not expand dvc.yaml by params.yaml, `-S` included."""
    from dvc.cli import parse_args
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import apply_overrides, get_hydra_sweeps
    from hydra.errors import HydraException

    try:
        file = Path(Repo.find_root()) / PARAMS
        changes = to_path_overrides(vars(parse_args(arguments)).get("set_param") or [])
        sweeps = get_hydra_sweeps({PARAMS: changes[PARAMS]}) if PARAMS in changes else []
    except (DvcException, HydraException):  # as of a `-S` that is none
        return  # DVC says what is wrong
    if PARAMS not in changes:
        params.check_expanded(file)
        return
    with TemporaryDirectory() as folder:
        for sweep in sweeps:
            copy = Path(shutil.copy(file, folder))
            try:
                apply_overrides(copy, sweep[PARAMS])
            except DvcException:
                return
            params.check_expanded(copy)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
