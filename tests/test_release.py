"""What a release needs beside the code: a version in one place, types, a changelog that tells all
renames, and files that say how to cite and how to report."""

import re
from pathlib import Path

import pytest

import ornstein as orn
from ornstein._renamed import RENAMED
from test_architecture import FLOORS

ROOT = Path(__file__).parents[1]
TABLE = re.compile(r"(?:^\| old name .*\n)(?:^\|.*\n)+", re.MULTILINE)


def table() -> str:
    """The renames as rows of Markdown."""
    rows = [f"| `orn.{old}` | `orn.{new}` |\n" for old, new in sorted(RENAMED.items())]
    return "| old name | new name |\n|---|---|\n" + "".join(rows)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_changelog_lists_every_renamed_name():
    assert TABLE.findall(read("CHANGELOG.md")) == [table()], "run: python tests/test_release.py"


def test_the_version_is_declared_once():
    assert 'dynamic = ["version"]' in read("pyproject.toml")
    assert f"\n## {orn.__version__}\n" in read("CHANGELOG.md")
    assert f"\nversion: {orn.__version__}\n" in read("CITATION.cff")
    declared = [
        path
        for path in (ROOT / "src").rglob("*.py")
        if re.search(r"^__version__ = \"", path.read_text(encoding="utf-8"), re.MULTILINE)
    ]
    assert [path.name for path in declared] == ["__init__.py"]


def test_type_checkers_are_told_that_there_are_types():
    assert (ROOT / "src" / "ornstein" / "py.typed").exists()
    assert (ROOT / "src" / "ornstein" / "__init__.pyi").exists()
    assert 'packages = ["src/ornstein"]' in read("pyproject.toml")


@pytest.mark.parametrize(
    "page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "docs/glossary.md"]
)
def test_pages_have_lines_of_readable_width_and_links_that_exist(page):
    text = read(page)
    wide = [k for k, line in enumerate(text.splitlines(), 1) if len(line) > 130]
    assert not wide, f"lines over 130 columns: {wide}"
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert not [link for link in links if not ((ROOT / page).parent / link).exists()]


def test_the_rooms_of_the_contributing_page_are_those_of_the_house():
    rows = re.findall(r"^\| (\d+) \| `([\w.]+)` \|", read("CONTRIBUTING.md"), re.MULTILINE)
    rooms = {
        room: floor for room, floor in FLOORS.items() if room not in ("", "errors", "_renamed")
    }
    assert {room: int(floor) for floor, room in rows} == rooms
    assert [int(floor) for floor, _ in rows] == sorted(rooms.values())


def test_the_glossary_is_in_the_order_of_the_alphabet_and_names_what_exists():
    text = read("docs/glossary.md")
    terms = [term.lower().replace("-", " ") for term in re.findall(r"^\*\*(.+?)\.\*\*", text, re.M)]
    assert len(terms) > 50 and terms == sorted(set(terms))
    for name in re.findall(r"`orn\.([\w.]+)", text):
        found = orn
        for part in name.split("."):
            found = getattr(found, part)


if __name__ == "__main__":
    path = ROOT / "CHANGELOG.md"
    path.write_text(TABLE.sub(lambda _: table(), read("CHANGELOG.md")), encoding="utf-8")
