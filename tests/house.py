"""The modules of the library as syntax trees: what the tests of the house read."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SRC = ROOT / "src"
STUB = (SRC / "ornstein" / "__init__.pyi").read_text(encoding="utf-8")
TOP_LEVEL = tuple(re.findall(r" as (\w+)", STUB))


def module_name(path: Path) -> str:
    """``src/ornstein/core/random/noise.py`` is ``ornstein.core.random.noise``."""
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((SRC / "ornstein").rglob("*.py"))}


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of a module."""
    return ast.parse(MODULES[module].read_text(encoding="utf-8"))


class Import(NamedTuple):
    """One import of a module of the library by another."""

    source: str
    target: str
    line: int

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


def import_targets(module: str, node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    """Full names of the modules that an import statement names."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    for alias in node.names:
        yield f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base


@cache
def imports(module: str) -> tuple[Import, ...]:
    """All imports of the library's own modules, those inside functions included."""
    nodes = (n for n in ast.walk(tree(module)) if isinstance(n, ast.Import | ast.ImportFrom))
    found = (
        Import(module, to, node.lineno) for node in nodes for to in import_targets(module, node)
    )
    return tuple(i for i in found if i.target.split(".")[0] == "ornstein")


def all_imports() -> list[Import]:
    """All imports of all modules."""
    return [i for module in MODULES for i in imports(module)]


def listed(found) -> str:
    """One line each, for the message of a failed assertion."""
    return "\n  ".join(["", *map(str, found)])


def public_definitions(module: str) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    """Public functions, classes and methods with their qualified names; methods that override one
    of a base class without a docstring inherit its docstring and are left out."""

    def below(node: ast.Module | ast.ClassDef, prefix: str):
        for child in node.body:
            if not isinstance(child, ast.FunctionDef | ast.ClassDef) or child.name[0] == "_":
                continue
            inherits = isinstance(node, ast.ClassDef) and bool(node.bases)
            if not (inherits and ast.get_docstring(child) is None):
                yield f"{prefix}{child.name}", child
            if isinstance(child, ast.ClassDef):
                yield from below(child, f"{prefix}{child.name}.")

    yield from below(tree(module), "")
