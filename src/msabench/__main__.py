"""`msabench <command>`, or `python -m msabench <command>`: use what the pipeline made."""

import gc
import io
import os
import sys
from collections.abc import Sequence

from msabench import commands, errors, program


def run() -> None:
    """Run this process's command; the installed program `msabench` is this function."""
    # What a command makes it uses to its end. To look for garbage among the many objects of PyTorch
    # and transformers, again and again and once more at the exit, takes a quarter of `predict`.
    gc.disable()
    try:
        main()
    finally:
        gc.freeze()


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command; an error that the user can fix is one line and exit status 1."""
    options = _parser().parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal that has no ± is no error
    try:
        with program.one_line(options.page):
            options.main(options)
            sys.stdout.flush()
    except BrokenPipeError:  # as by `| head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)  # as a shell tells of SIGPIPE
    except KeyboardInterrupt:
        sys.exit(errors.INTERRUPTED_STATUS)


def _parser() -> program.Parser:
    parser = program.Parser(
        prog="msabench",
        description="Use and inspect what the pipeline made.",
        epilog="`msabench <command> --help` has examples.",
    )
    kinds = parser.add_subparsers(title="commands", metavar="<command>", required=True)
    for name, command in commands.load().items():
        summary, _, rest = command.__doc__.partition("\n")
        one = kinds.add_parser(
            name,
            help=summary[0].lower() + summary[1:].rstrip("."),
            description=summary,
            epilog=rest.strip(),
        )
        command.arguments(one)
        one.set_defaults(main=command.main, page=command.PAGE)
    return parser


if __name__ == "__main__":
    run()
