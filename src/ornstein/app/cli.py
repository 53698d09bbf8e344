"""The command line ``ornstein``: each subcommand makes one call of the library, with its options.

Names of methods, spacings, recipes and targets are resolved to objects by the verbs and nowhere
deeper. Every verb writes a manifest of its options beside its results. The exit status is 0 if the
work was done, 1 if it was done and the answer is no (`verify`, `doctor`), 2 with one line on
stderr if it could not be done, and 130 after Ctrl-C. The variable ORNSTEIN_TRACEBACK=1 lets errors
through with their traceback.
"""

__all__ = ["COMMANDS", "main"]

import os
import re
import sys
import traceback
from typing import Any

import tyro

from ornstein.app.density import DensityCommand
from ornstein.app.doctor import DoctorCommand, installed_version
from ornstein.app.imports import import_modules
from ornstein.app.likelihood import LikelihoodCommand
from ornstein.app.options import check_numbers
from ornstein.app.sample import SampleCommand
from ornstein.app.train import TrainCommand
from ornstein.app.verify.command import Verify
from ornstein.errors import OrnsteinError

COMMANDS: dict[str, Any] = {
    "train": TrainCommand,
    "sample": SampleCommand,
    "likelihood": LikelihoodCommand,
    "density": DensityCommand,
    "verify": Verify,
    "doctor": DoctorCommand,
}
"""The verbs: a frozen dataclass of options each, with a method ``run``."""

_DESCRIPTION = (
    "Sample from a distribution, given by samples or by a density, by reversing a diffusion."
)


def main(arguments: list[str] | None = None) -> None:
    """Run the subcommand that the command line asks for; the entry point of ``ornstein``."""
    words = sys.argv[1:] if arguments is None else arguments
    try:
        _refuse_empty(words)
        if words == ["--version"]:
            print(f"ornstein {installed_version('ornstein')}")
            return
        command = tyro.extras.subcommand_cli_from_dict(
            COMMANDS, args=words or ["--help"], prog="ornstein", description=_DESCRIPTION
        )
        check_numbers(command)
        import_modules(getattr(command, "imports", ()))
        command.run()
    except BrokenPipeError:  # the reader of a pipe, such as `head`, has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if os.environ.get("ORNSTEIN_TRACEBACK"):
            raise
        print(f"ornstein: {' '.join(_message(error).split())}", file=sys.stderr)
        sys.exit(2)


def _refuse_empty(arguments: list[str]) -> None:
    """Raise for an empty argument: an empty path would mean the current folder."""
    for option, value in zip(["", *arguments], arguments, strict=False):
        name, equals, assigned = value.partition("=")
        if not value.strip() or (value.startswith("--") and equals and not assigned.strip()):
            raise OrnsteinError(
                f"{name.strip() or option or 'an argument'} is empty: is a variable of the shell"
                " unset?"
            )


def _message(error: Exception) -> str:
    """Return an error on one line: its message, with type and place if it was not expected."""
    if isinstance(error, OrnsteinError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    if isinstance(error, MemoryError) or re.search(r"allocate\s+memory|out of memory", str(error)):
        return (
            "this does not fit into the memory: ask for fewer samples or steps, or a smaller batch"
        )
    place = traceback.extract_tb(error.__traceback__)[-1]
    return (
        f"unexpected {type(error).__name__}: {error} ({place.filename}:{place.lineno}; set"
        " ORNSTEIN_TRACEBACK=1 for the traceback)"
    )


if __name__ == "__main__":
    main()
