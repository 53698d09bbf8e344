"""The start script: what it installs when, what it says when something fails. Nothing here touches
the network."""

import ast
import errno
import json
import shutil
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

SCRIPT = Path(__file__).parents[1] / "run"


def load() -> ModuleType:
    spec = spec_from_loader("run_script", SourceFileLoader("run_script", str(SCRIPT)))
    assert spec is not None and spec.loader is not None
    module, write = module_from_spec(spec), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = write
    return module


run = load()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project without an environment."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    (tmp_path / "constraints.txt").write_text("torch==2.13.0\n")
    (tmp_path / "src").mkdir()
    return tmp_path


class Machine:
    """Stands for Python, venv and pip: remembers what was asked of them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.venv, self.done = root, root / ".venv", []
        self.found = {
            "version": [3, 11],
            "pip": "x",
            "torch": "x",
            "ornstein": str(root / "src/ornstein/__init__.py"),
        }
        self.trouble: BaseException | None = None
        monkeypatch.setattr(
            run, "probe", lambda venv: self.found if (self.venv / "ok").exists() else None
        )
        monkeypatch.setattr(run, "make_venv", self.make)
        monkeypatch.setattr(run, "install", self.install)
        monkeypatch.setattr(run, "check_folder", lambda root, needed: None)

    def make(self, venv: str) -> None:
        self.done.append("venv")
        self.venv.mkdir()
        (self.venv / "ok").touch()

    def install(self, root: str, venv: str, extra: str) -> None:
        self.done.append(extra)
        if self.trouble:
            raise self.trouble

    def prepare(self, extra: str) -> list[str]:
        """What had to be done."""
        self.done = []
        run.prepare(str(self.root), extra)
        return self.done


@pytest.fixture
def machine(root: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(root, monkeypatch)


class TestInstallation:
    def test_happens_once(self, machine):
        assert machine.prepare("demo") == ["venv", "demo"]
        assert machine.prepare("demo") == []

    def test_for_development_serves_the_demo_too(self, machine):
        assert machine.prepare("dev") == ["venv", "dev"]
        assert machine.prepare("demo") == []

    def test_for_the_demo_is_extended_for_development(self, machine):
        machine.prepare("demo")
        assert machine.prepare("dev") == ["dev"]
        assert machine.prepare("demo") == machine.prepare("dev") == []

    @pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
    def test_is_repeated_when_the_requirements_change(self, machine, name):
        machine.prepare("demo")
        (machine.root / name).write_text("changed")
        assert machine.prepare("demo") == ["demo"]
        assert machine.prepare("demo") == []

    def test_is_repeated_when_the_version_of_the_package_changes(self, machine):
        """The version is declared in the package; its other lines do not matter."""
        package = machine.root / "src" / "ornstein"
        package.mkdir()
        machine.prepare("demo")
        for text, expected in (
            ('__version__ = "1"\n', ["demo"]),
            ('__version__ = "1"\nx = 1\n', []),
            ('__version__ = "2"\nx = 1\n', ["demo"]),
        ):
            (package / "__init__.py").write_text(text)
            assert machine.prepare("demo") == expected

    def test_is_repeated_for_another_python(self, machine):
        machine.prepare("demo")
        machine.found["version"] = [3, 12]
        assert machine.prepare("demo") == ["demo"]

    @pytest.mark.parametrize(
        "trouble", [run.Failure("no network", "wait"), KeyboardInterrupt()], ids=repr
    )
    def test_that_did_not_end_well_is_repeated(self, machine, trouble):
        machine.trouble = trouble
        with pytest.raises(type(trouble)):
            machine.prepare("demo")
        machine.trouble = None
        assert machine.prepare("demo") == ["demo"]

    def test_that_failed_on_top_of_a_good_one_is_repeated(self, machine):
        machine.prepare("demo")
        machine.trouble = KeyboardInterrupt()
        with pytest.raises(KeyboardInterrupt):
            machine.prepare("dev")
        machine.trouble = None
        assert machine.prepare("demo") == ["demo"]

    def test_a_broken_environment_is_made_again(self, machine):
        machine.prepare("demo")
        (machine.venv / "ok").unlink()
        (machine.venv / "rubbish").touch()
        assert machine.prepare("demo") == ["venv", "demo"]
        assert not (machine.venv / "rubbish").exists()

    def test_a_file_in_place_of_the_environment_is_replaced(self, machine):
        machine.venv.touch()
        assert machine.prepare("demo") == ["venv", "demo"]

    def test_an_environment_robbed_of_its_packages_is_made_again(self, machine):
        machine.prepare("demo")
        machine.found["torch"] = None
        assert machine.prepare("demo") == ["venv", "demo"]

    def test_an_environment_copied_from_elsewhere_is_pointed_here(self, machine):
        machine.prepare("demo")
        machine.found["ornstein"] = "/elsewhere/src/ornstein/__init__.py"
        assert machine.prepare("demo") == ["demo"]


def test_the_version_is_declared_where_the_script_looks():
    assert run.declared_version(str(SCRIPT.parent)).startswith(b'__version__ = "')


class TestStamp:
    def test_is_read_as_it_was_written(self, tmp_path):
        run.write_stamp(str(tmp_path), "abc", {"dev", "demo"})
        assert run.read_stamp(str(tmp_path)) == {"fingerprint": "abc", "extras": ["demo", "dev"]}
        assert [path.name for path in tmp_path.iterdir()] == ["ornstein-stamp.json"]

    @pytest.mark.parametrize(
        "text", ["", "{", "[]", "3", "{}", json.dumps({"fingerprint": "abc"}), '{"extras": 3}']
    )
    def test_that_is_damaged_counts_as_none(self, tmp_path, text):
        (tmp_path / "ornstein-stamp.json").write_text(text)
        assert run.read_stamp(str(tmp_path)) == {"fingerprint": "", "extras": []}

    def test_that_is_absent_counts_as_none(self, tmp_path):
        assert run.read_stamp(str(tmp_path / "nowhere")) == {"fingerprint": "", "extras": []}

    def test_fingerprint_separates_the_files_it_is_made_of(self, root):
        before = run.fingerprint(str(root), (3, 11))
        assert run.fingerprint(str(root), [3, 11]) == before != run.fingerprint(str(root), (3, 12))
        a, b = (root / "pyproject.toml").read_text(), (root / "constraints.txt").read_text()
        (root / "pyproject.toml").write_text(a + b)
        (root / "constraints.txt").write_text("")
        assert run.fingerprint(str(root), (3, 11)) != before


class TestFailures:
    @pytest.mark.parametrize(
        ("output", "words"),
        [
            (
                (
                    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left"
                    " on device"
                ),
                "disk is full",
            ),
            ("ERROR: [Errno 13] Permission denied: '/x/lib'", "no permission"),
            (
                (
                    "NewConnectionError: Failed to establish\nERROR: No matching distribution found"
                    " for torch"
                ),
                "cannot reach",
            ),
            ("Temporary failure in name resolution", "cannot reach"),
            (
                (
                    "SSLError(SSLCertVerificationError(1, 'CERTIFICATE_VERIFY_FAILED'))\nMax"
                    " retries exceeded"
                ),
                "certificate",
            ),
            ("ERROR: No matching distribution found for torch==2.13.0", "no build for this Python"),
            ("something new", "pip could not install"),
        ],
    )
    def test_are_distinguished_by_what_pip_prints(self, output, words):
        failure = run.diagnose(output, "pip could not install ornstein[demo]", "install.log")
        assert words in failure.what and failure.fix and failure.log == "install.log"

    def test_a_full_disk_is_seen_beforehand(self, tmp_path, monkeypatch):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10**9))
        run.check_folder(str(tmp_path), 5 * 10**8)
        with pytest.raises(run.Failure, match=r"1.0 GB free, and about 3.0 GB are needed"):
            run.check_folder(str(tmp_path), 3 * 10**9)

    def test_a_folder_that_cannot_be_written_is_seen_beforehand(self, tmp_path, monkeypatch):
        monkeypatch.setattr(run.os, "access", lambda path, mode: False)
        with pytest.raises(run.Failure, match="no permission to write"):
            run.check_folder(str(tmp_path), 0)

    def test_an_old_python_is_named_with_what_to_do(self, monkeypatch):
        def absent(*_args, **_more):
            raise OSError

        monkeypatch.setattr(subprocess, "check_output", absent)
        monkeypatch.setattr(run.sys, "version_info", (3, 8, 1))
        with pytest.raises(
            run.Failure, match=r"needs Python 3.11 or newer, and this is Python 3.8"
        ) as caught:
            run.check_python()
        assert "install Python 3.11 or newer" in caught.value.fix

    def test_an_old_python_can_read_the_script(self):
        ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 5))

    def test_a_missing_venv_module_names_the_package(self, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "ensurepip", None)
        with pytest.raises(run.Failure) as caught:
            run.make_venv(str(tmp_path / ".venv"))
        assert "apt install python3-venv" in caught.value.fix

    def test_a_folder_that_is_no_environment_is_broken(self, tmp_path):
        assert run.probe(str(tmp_path)) is None


class TestCommands:
    @pytest.fixture
    def started(self, monkeypatch):
        """Commands that were started, and the code that they end with."""
        calls = SimpleNamespace(commands=[], environment={}, code=0, trouble=None)

        def start(command, cwd=None, **environment):
            calls.commands.append(command[1:])
            calls.environment = environment
            if calls.trouble:
                raise calls.trouble
            return calls.code

        monkeypatch.setattr(run, "prepare", lambda root, extra: "python")
        monkeypatch.setattr(run, "start", start)
        return calls

    def test_pass_on_arguments_and_the_exit_code(self, started):
        started.code = 5
        assert run.main(["test", "-k", "name"]) == 5
        assert started.commands == [["-m", "pytest", "-n", "2", "-k", "name"]]
        assert started.environment == {"OMP_NUM_THREADS": "1"}
        assert run.main(["demo", "--quick"]) == 5
        assert started.commands[1] == ["-P", "-m", "ornstein.app.demo", "--quick"]

    def test_check_runs_both_tools_also_if_the_first_complains(self, started):
        started.code = 1
        assert run.main(["check"]) == 1
        assert started.commands == [["-m", "ruff", "check", "."], ["-m", "mypy"]]

    def test_an_interruption_is_no_traceback(self, started, capsys):
        started.trouble = KeyboardInterrupt()
        assert run.main(["demo"]) == 130
        assert "interrupted" in capsys.readouterr().err

    def test_a_failure_is_shown_with_its_fix_and_log(self, started, capsys):
        started.trouble = run.Failure("it broke", "mend it", "x.log")
        assert run.main(["demo"]) == 1
        output = capsys.readouterr().err
        assert (
            "FAILED: it broke" in output
            and "Fix:    mend it" in output
            and "Log:    x.log" in output
        )

    @pytest.mark.parametrize(
        ("code", "words"),
        [(errno.ENOSPC, "free about 3 GB"), (errno.EACCES, "make this folder yours")],
    )
    def test_an_error_of_the_system_is_shown_with_its_fix(self, started, capsys, code, words):
        started.trouble = OSError(code, "x")
        assert run.main(["demo"]) == 1
        assert words in capsys.readouterr().err

    @pytest.mark.parametrize("arguments", [[], ["--help"], ["help"]])
    def test_help_is_shown(self, arguments, capsys):
        assert run.main(arguments) == 0
        output = capsys.readouterr().out
        assert all(f"\n  {name} " in output for name in run.COMMANDS)

    def test_an_unknown_command_shows_the_help(self, capsys):
        assert run.main(["dmeo"]) == 2
        assert "unknown command 'dmeo'" in capsys.readouterr().err

    def test_a_child_returns_its_code_and_a_killed_one_128_plus_its_signal(self):
        assert run.start([sys.executable, "-c", "raise SystemExit(7)"]) == 7
        if sys.platform != "win32":
            assert run.start([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"]) == 137
