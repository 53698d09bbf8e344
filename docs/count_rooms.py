"""Count the library by rooms: files, lines, statements and public names.

    python docs/count_rooms.py                # the working tree
    python docs/count_rooms.py --at 4db0dc0   # a commit

Statements are those of the syntax tree, docstrings left out: they do not depend on line widths.
"""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
LIBRARY = "src/ornstein/"


class Count(NamedTuple):
    """What one file, or one room, holds."""

    files: int = 0
    lines: int = 0
    statements: int = 0
    names: int = 0

    def plus(self, other: "Count") -> "Count":
        """The sum, entry by entry."""
        return Count(*(mine + its for mine, its in zip(self, other, strict=True)))


def count(text: str) -> Count:
    """The count of one file; its names are those of ``__all__``."""
    tree = ast.parse(text)
    statements = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)]
    code = [s for s in statements if not is_docstring(s)]
    names = 0
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names = len(node.value.elts) if isinstance(node.value, ast.List) else 0
    return Count(1, text.count("\n"), len(code), names)


def is_docstring(node: ast.stmt) -> bool:
    """Whether a statement is a literal alone: a docstring, or the text behind a constant."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def sources(commit: str | None) -> dict[str, str]:
    """The text of every module by its path below the library's folder."""
    if commit is None:
        files = sorted((ROOT / LIBRARY).rglob("*.py"))
        return {str(p.relative_to(ROOT / LIBRARY)): p.read_text(encoding="utf-8") for p in files}
    listing = git("ls-tree", "-r", "--name-only", commit, LIBRARY).splitlines()
    paths = [path for path in listing if path.endswith(".py")]
    return {path.removeprefix(LIBRARY): git("show", f"{commit}:{path}") for path in paths}


def git(*arguments: str) -> str:
    """The output of a git command in this repository."""
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def room(path: str) -> str:
    """The room of a module: its folder, one below ``core``."""
    parts = path.split("/")[:-1]
    return "/".join(parts[:2]) if parts[:1] == ["core"] else "/".join(parts[:1])


def main() -> None:
    """Print the table."""
    commit = sys.argv[2] if sys.argv[1:2] == ["--at"] else None
    rooms: dict[str, Count] = defaultdict(Count)
    for path, text in sources(commit).items():
        rooms[room(path) or "(top)"] = rooms[room(path) or "(top)"].plus(count(text))
    total = Count()
    print("| room | files | lines | statements | names |", "|---|---:|---:|---:|---:|", sep="\n")
    for name, counted in sorted(rooms.items()):
        print(f"| {name} |", " | ".join(str(number) for number in counted), "|")
        total = total.plus(counted)
    print("| **all** |", " | ".join(str(number) for number in total), "|")


if __name__ == "__main__":
    main()
