"""Run verbs of the command line in tests: in this process, or in one of their own."""

import os
import subprocess
import sys

import pytest

from ornstein.app.cli import main

VERB = [sys.executable, "-m", "ornstein.app.cli"]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def run(*arguments):
    """Run a verb in this process."""
    main([*map(str, arguments)])


def run_process(*arguments, cwd=None):
    """Run a verb in a process of its own."""
    return subprocess.run(
        [*VERB, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, env=ENVIRONMENT
    )


def refusal(capsys, *arguments):
    """Run a verb that must end with status 2 and one line, and return the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run(*arguments)
    error = capsys.readouterr().err
    assert stop.value.code == 2, error
    assert error.startswith("ornstein: ") and len(error.strip().splitlines()) == 1, error
    assert "unexpected" not in error and "None" not in error, error
    return error
