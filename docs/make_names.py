"""Write docs/names.md: every public name, room by room, with the first line of its docstring.

`python docs/make_names.py` writes the page, `--check` fails where it is not current.
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "names.md"
ROOMS = (
    "processes", "random", "spacing", "clock", "simulation", "methods", "mcmc", "paths", "solvers",
    "calculus", "laws", "montecarlo", "pde", "targets", "metrics", "nets", "models",
    "parametrisations", "codecs", "inference", "sampling", "likelihood", "dequantise", "training",
    "noise_levels", "density", "supports", "errors",
)  # fmt: skip
HEAD = """# Every public name

The everyday names are at the top, `orn.NAME`; all are in their rooms, `orn.ROOM.NAME`. This page
is written by `python docs/make_names.py` from the docstrings.
"""


def first_line(value: object) -> str:
    """The first line of a docstring, safe inside a table."""
    text = inspect.getdoc(value) or ""
    return text.partition("\n")[0].replace("|", "\\|")


def rows(names: list[str], prefix: str, owner: object) -> list[str]:
    """A line of the table for each name that is a function or a class."""
    found = ["| name | |", "|---|---|"]
    for name in sorted(names, key=str.lower):
        value = getattr(owner, name)
        line = first_line(value) if callable(value) or inspect.ismodule(value) else ""
        found.append(f"| `{prefix}.{name}` | {line} |")
    return found


def page() -> str:
    """The whole page."""
    orn = importlib.import_module("ornstein")
    stub = (ROOT / "src" / "ornstein" / "__init__.pyi").read_text(encoding="utf-8")
    top = re.findall(r" as (\w+)", stub)
    parts = [HEAD, "## orn\n", *rows(top, "orn", orn)]
    for room in ROOMS:
        module = getattr(orn, room)
        parts += [f"\n## orn.{room}\n", first_line(module) + "\n"]
        parts += rows([name for name in module.__all__ if name[0] != "_"], f"orn.{room}", module)
    return "\n".join(parts) + "\n"


def main() -> int:
    """Write the page, or compare it."""
    text = page()
    if "--check" not in sys.argv:
        PAGE.write_text(text, encoding="utf-8")
        return 0
    if PAGE.exists() and PAGE.read_text(encoding="utf-8") == text:
        return 0
    print("docs/names.md is not current: python docs/make_names.py")
    return 1


if __name__ == "__main__":
    raise SystemExit(main())
