"""What is written about a public name: its first line, its example, its place in the docs.

`BEHIND` lists what does not keep a rule yet. An entry that keeps it must be taken out, so that the
list only gets shorter.
"""

import ast
import doctest
import importlib
import re
import subprocess
import sys

import pytest
import torch

import ornstein as orn
from house import MODULES, ROOT, TOP_LEVEL, public_definitions

BEHIND: dict[str, set[str]] = {"first lines": set(), "examples": set()}
FEWEST_WORDS = 5


def complaint(docstring: str | None) -> str | None:
    """What is wrong with the first line of a docstring, in words; None if nothing is."""
    if not docstring:
        return "no docstring"
    first = docstring.strip().splitlines()[0]
    if re.search(r"\(\d+\)", first):
        return f"leans on an equation number: {first}"
    if len(first.split()) < FEWEST_WORDS:
        return f"says too little: {first}"
    return None


@pytest.mark.parametrize("module", MODULES)
def test_first_lines_stand_alone(module):
    """No equation number and at least five words: the line is read alone in `help()`."""
    behind = {
        f"{module}.{name}: {wrong}"
        for name, node in public_definitions(module)
        if (wrong := complaint(ast.get_docstring(node)))
    }
    if module in BEHIND["first lines"]:
        assert behind, f"{module} keeps the rule now: take it out of BEHIND"
    else:
        assert not behind, "\n  ".join(["", *sorted(behind)])


def test_the_rule_for_first_lines_catches_what_it_names():
    assert complaint(None) == "no docstring"
    assert complaint("Always.").startswith("says too little")
    assert complaint("The bracket of (1), in five words.").startswith("leans on")
    assert complaint("Return the effective sample size of log-weights.") is None


def callable_names() -> list[str]:
    """Top-level functions and classes; rooms are not among them."""
    return [name for name in TOP_LEVEL if callable(getattr(orn, name))]


@pytest.mark.usefixtures("seeded_weights")
@pytest.mark.parametrize("name", callable_names())
def test_top_level_names_have_an_example_that_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    docstring = getattr(orn, name).__doc__ or ""
    examples = doctest.DocTestParser().get_examples(docstring)
    if name in BEHIND["examples"]:
        assert not examples, f"{name} has an example now: take it out of BEHIND"
        return
    assert "Example" in docstring and examples, f"orn.{name} has no example"
    test = doctest.DocTest(examples, {"orn": orn, "torch": torch}, name, None, 0, docstring)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)


def test_the_list_of_names_is_current():
    """`docs/names.md` has every public name; `python docs/make_names.py` writes it."""
    command = [sys.executable, str(ROOT / "docs" / "make_names.py"), "--check"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_every_top_level_name_is_explained_in_a_page():
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    text = "\n".join(page.read_text(encoding="utf-8") for page in pages)
    missing = [name for name in TOP_LEVEL if not re.search(rf"\born\.{name}\b", text)]
    assert not missing


class TestTopLevel:
    def test_completion_knows_every_name_without_importing(self):
        code = "import sys, ornstein; print(*dir(ornstein)); assert 'torch' not in sys.modules"
        command = [sys.executable, "-c", code]
        found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert set(TOP_LEVEL) <= set(found)

    def test_names_are_few(self):
        assert len(callable_names()) <= 85

    @pytest.mark.parametrize("old", orn._renamed.RENAMED)
    def test_an_old_name_warns_and_works(self, old):
        """`orn.Straight` is `orn.RectifiedFlow`, with a warning that tells it."""
        new = orn._renamed.RENAMED[old]
        with pytest.warns(DeprecationWarning, match=rf"orn\.{old} is now orn\.{new}"):
            found = getattr(orn, old)
        room, _, name = new.rpartition(".")
        owner = importlib.import_module("ornstein") if not room else getattr(orn, room)
        assert found is getattr(owner, name)

    def test_an_unknown_name_is_an_attribute_error(self):
        with pytest.raises(AttributeError, match="no attribute 'Nonsense'"):
            orn.Nonsense  # noqa: B018
