"""The house: which room may import which, what stays pure, and how large a file may be.

Imports go down, or sideways on one floor (`FLOORS`); `errors` is for everyone, `nets` imports no
other room, and neither `calculus` nor `reference` knows `nets`. What is written about a name is
tested in `test_documentation`.
"""

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from house import MODULES, ROOT, all_imports, import_targets, imports, listed, tree

FLOORS = {
    "errors": -1,
    "core.numerics": 0,
    "core.random": 1,
    "core.processes": 1,
    "core.timesteps": 2,
    "core.simulation": 2,
    "core.methods": 3,
    "core.mcmc": 3,
    "core.paths": 4,
    "core.solvers": 4,
    "calculus": 5,
    "reference": 5,
    "nets": 5,
    "models": 6,
    "inference": 7,
    "training": 8,
    "interop": 8,
    "density": 9,
    "app": 10,
    "_renamed": 11,
    "": 11,
}
PURE_BELOW = 7
MAX_FILE = 300
MAX_FUNCTION = 60
MAX_COLUMNS = 100
HEAVY = {
    "matplotlib",
    "sklearn",
    "scipy",
    "tyro",
    "rich",
    "pandas",
    "PIL",
    "diffusers",
    "transformers",
    "datasets",
    "pytest",
}


def floor(module: str) -> int:
    return FLOORS["" if room(module) == "core" else room(module)]


def room(module: str) -> str:
    """``ornstein.core.methods.euler`` is in ``core.methods``, ``ornstein.density.smc`` in
    ``density``; ``ornstein`` in ``""``."""
    parts = module.split(".")[1:]
    if not parts:
        return ""
    return ".".join(parts[:2]) if parts[0] == "core" else parts[0]


class TestImports:
    def test_every_room_has_a_floor(self):
        assert {room(module) for module in MODULES} <= {*FLOORS, "core"}

    def test_go_to_modules_that_exist(self):
        missing = [i for i in all_imports() if i.target not in MODULES]
        assert not missing, listed(missing)

    def test_go_down_or_sideways(self):
        upward = [i for i in all_imports() if floor(i.target) > floor(i.source)]
        assert not upward, listed(upward)

    def test_nets_know_nobody(self):
        foreign = [
            i
            for i in all_imports()
            if room(i.source) == "nets" and room(i.target) not in ("nets", "errors")
        ]
        assert not foreign, listed(foreign)

    def test_targets_and_calculus_do_not_know_networks(self):
        foreign = [
            i
            for i in all_imports()
            if room(i.source) in ("calculus", "reference") and room(i.target) == "nets"
        ]
        assert not foreign, listed(foreign)

    def test_have_no_cycle(self):
        """Imports inside functions count: a circle stays one, however late it is closed."""
        edges = {m: {i.target for i in imports(m) if i.target in MODULES} - {m} for m in MODULES}
        while leaves := {module for module, targets in edges.items() if not targets}:
            edges = {
                module: targets - leaves
                for module, targets in edges.items()
                if module not in leaves
            }
        assert not edges, f"a cycle among {sorted(edges)}"


def calls(module: str) -> Iterator[tuple[ast.Call, str]]:
    """Every call and the dotted name of what is called, as written."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Call):
            yield node, ast.unparse(node.func)


def is_device(node: ast.expr) -> bool:
    """A device of its own choice; ``x.to(y.device)`` follows another tensor, like ``x.to(y)``, and
    is allowed."""
    text = ast.unparse(node)
    names_device = re.search(r"^(\w*_)?device$", text) is not None or text.startswith(
        ("torch.device(", "self.device")
    )
    return names_device or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def impurities(module: str) -> Iterator[str]:
    kept = {id(c.func) for c, _ in calls(module) if ast.unparse(c) == "torch.inference_mode(False)"}
    for node in ast.walk(tree(module)):  # a cache may leave a mode of its caller, not enter one
        if id(node) in kept:
            continue
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node).split(".")[-1] in (
            "no_grad",
            "inference_mode",
        ):
            yield f"{module}:{node.lineno} {ast.unparse(node)}"
    leaving = {
        id(c.func.value) for c, name in calls(module) if name.endswith(".cpu().numpy")
    }  # out of torch: no move
    for call, name in calls(module):
        last, arguments = (
            name.split(".")[-1],
            [*call.args, *(k.value for k in call.keywords if k.arg != "dtype")],
        )
        moves = last == "to" and "." in name and any(is_device(a) for a in arguments)
        moves |= (
            last in ("cuda", "cpu")
            and "." in name
            and not name.startswith("torch.")
            and id(call) not in leaving
        )
        seeds = name in (
            "torch.manual_seed",
            "torch.seed",
            "random.seed",
            "torch.set_default_dtype",
            "torch.set_num_threads",
        )
        seeds |= (
            re.match(r"(np|numpy)\.random\.(?!default_rng|Generator|SeedSequence)", name)
            is not None
        )
        if name == "print" or moves or seeds:
            yield f"{module}:{call.lineno} {ast.unparse(call)[:80]}"


@pytest.mark.parametrize("module", [m for m in MODULES if floor(m) < PURE_BELOW])
def test_lower_floors_are_pure(module):
    """No no_grad, no printing, no global seed, no moves to a device of their own choice."""
    found = list(impurities(module))
    assert not found, listed(found)


def test_the_rules_of_purity_catch_what_they_name(monkeypatch):
    guilty = """
import torch, numpy as np
def f(x, device):
    with torch.no_grad(): print(x)
    torch.manual_seed(0); np.random.seed(0)
    x.cuda(), x.cpu(), x.to(device), x.to("cuda"), x.to(torch.device("cpu"))
    return x.to(device=device)
"""
    innocent = """
import torch, numpy as np
def f(x, y, generator):
    generator.manual_seed(0)
    np.random.default_rng(0)
    x.cpu().numpy()
    x.to(y), x.to(y.device), x.to(torch.float64), x.to(dtype=x.dtype)
    return torch.zeros(3, device=x.device)
"""
    trees = {"guilty": ast.parse(guilty), "innocent": ast.parse(innocent)}
    monkeypatch.setattr(sys.modules[__name__], "tree", trees.__getitem__)
    assert len(list(impurities("guilty"))) == 10
    assert list(impurities("innocent")) == []


@pytest.mark.parametrize("module", MODULES)
class TestEveryModule:
    def test_is_of_readable_size(self, module):
        lines = len(MODULES[module].read_text(encoding="utf-8").splitlines())
        assert lines <= MAX_FILE, f"{lines} lines: it holds two ideas"
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                docstring = (
                    node.body[0] if ast.get_docstring(node, clean=False) is not None else None
                )
                of_docstring = docstring.end_lineno - docstring.lineno + 1 if docstring else 0
                length = node.end_lineno - node.lineno + 1 - of_docstring
                assert length <= MAX_FUNCTION, f"{node.name} has {length} lines"

    def test_has_lines_of_readable_width(self, module):
        text = MODULES[module].read_text(encoding="utf-8")
        wide = [k for k, line in enumerate(text.splitlines(), 1) if len(line) > MAX_COLUMNS]
        assert not wide, f"lines over {MAX_COLUMNS} columns: {wide}"

    def test_says_what_it_is(self, module):
        if tree(module).body:
            assert ast.get_docstring(tree(module)), "no docstring"

    def test_lists_its_public_names(self, module):
        own = [
            n.name
            for n in tree(module).body
            if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"
        ]
        assert not own or hasattr(importlib.import_module(module), "__all__"), (
            f"__all__ is missing: {own}"
        )

    def test_documents_its_public_names(self, module):
        undocumented = [
            n
            for n in getattr(importlib.import_module(module), "__all__", ())
            if not documentation(module, n)
        ]
        assert not undocumented

    def test_unpickles_nothing(self, module):
        for node in ast.walk(tree(module)):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                assert not names & {
                    "pickle",
                    "cPickle",
                    "_pickle",
                    "dill",
                    "cloudpickle",
                    "joblib",
                    "shelve",
                    "marshal",
                }
        for call, name in calls(module):
            assert name not in (
                "torch.load",
                "torch.jit.load",
                "load_pickle",
            ), f"line {call.lineno}: {name}"
            allowed = [
                k
                for k in call.keywords
                if k.arg == "allow_pickle" and getattr(k.value, "value", None) is not False
            ]
            assert not allowed, f"line {call.lineno}: allow_pickle"


def documentation(module: str, name: str) -> str | None:
    """The docstring written for a public name, at its definition; generated ones do not count."""
    value = getattr(
        importlib.import_module(module), name
    )  # an AttributeError here: __all__ promises what is not there
    if f"{module}.{name}" in MODULES:
        return ast.get_docstring(tree(f"{module}.{name}"))
    body = tree(module).body
    for node, after in zip(body, [*body[1:], ast.Pass()], strict=True):
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name:
            return ast.get_docstring(node)
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id == name for t in targets):
                literal = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                return (
                    str(after.value.value)
                    if literal
                    else type(value).__doc__
                    if is_ours(type(value))
                    else None
                )
    for node in body:
        if isinstance(node, ast.ImportFrom) and name in (
            alias.asname or alias.name for alias in node.names
        ):
            original = next(
                alias.name for alias in node.names if (alias.asname or alias.name) == name
            )
            home = next(iter(import_targets(module, node)))
            home = home if home in MODULES else node.module or ""
            if f"{node.module}.{original}" in MODULES:
                return ast.get_docstring(tree(f"{node.module}.{original}"))
            return documentation(home, original) if home in MODULES else value.__doc__
    return value.__doc__


def is_ours(value: type) -> bool:
    return value.__module__.split(".")[0] == "ornstein"


def test_import_is_light():
    """Plots, tables, consoles and images are imported by those who need them, when they need
    them."""
    code = "import sys, ornstein; print(*{name.split('.')[0] for name in sys.modules})"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert not HEAVY & set(loaded)


README = (ROOT / "README.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("snippet", SNIPPETS, ids=range(1, len(SNIPPETS) + 1))
def test_snippets_of_the_readme_run(snippet, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(snippet, "README.md", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.name)
def test_snippets_of_a_page_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for snippet in re.findall(
        r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL
    ):
        exec(compile(snippet, page.name, "exec"), names)
