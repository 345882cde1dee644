"""Measure one thing, print it, and keep it in bench/results.json with machine and commit.

    python -m bench <name> --folder /an/empty/folder

`python -m bench <name> --help` says what is measured, how, and how much disk that takes.
"""

# A benchmark is a file with `measure(folder, **options)`: its options on the command line are its
# keyword-only arguments. It returns what is recorded under its name; `headlines` of that, the few
# numbers that the benchmark is for, stand at the top level of results.json.

import argparse
from importlib import import_module
from inspect import Parameter, signature
from pathlib import Path
from typing import Any

from bench import harness
from msabench import program

BENCHMARKS = (
    *("arithmetic", "batching", "checkpoints", "cluster", "compare_mmsa", "encoders", "gpu"),
    *("import_pickle", "memory", "pipeline", "profile", "rehearse", "scaling", "svm", "verdicts"),
)


def main() -> None:
    options = vars(_parser().parse_args())
    name, measure = options.pop("name"), options.pop("measure")
    harness.trial = options.pop("trial")
    options["folder"].mkdir(parents=True, exist_ok=True)
    harness.record(name, measure(**options))


def _parser() -> argparse.ArgumentParser:
    parser = program.Parser(prog="python -m bench", description=__doc__)
    benchmarks = parser.add_subparsers(title="benchmarks", metavar="<name>", required=True)
    for name in BENCHMARKS:
        module = import_module(f"bench.{name}")
        one = benchmarks.add_parser(
            name, help=(module.__doc__ or "").partition("\n")[0], description=module.__doc__
        )
        one.add_argument("--folder", type=Path, required=True, help="an empty folder to work in")
        one.add_argument(
            "--trial", action="store_true", help="on a busy machine too; record nothing"
        )
        for option, parameter in signature(module.measure).parameters.items():
            if option != "folder":
                one.add_argument(f"--{option}", **_argument(parameter))
        one.set_defaults(name=name, measure=module.measure)
    return parser


def _argument(parameter: Parameter) -> dict[str, Any]:
    """Return how argparse reads an option: by the type of its default; a tuple takes several."""
    default = parameter.default
    if isinstance(default, tuple):
        return {"default": default, "nargs": "*"}
    return {"default": default, "type": type(default)}


if __name__ == "__main__":
    main()
