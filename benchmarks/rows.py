"""Rows of results in one JSON file: merged by key, so that a run can be broken off, taken up again,
and shared by processes."""

__all__ = ["Row", "Rows"]

import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
Key = tuple[Any, ...]


@dataclass(frozen=True)
class Rows:
    """The rows in a file.

    Args:
        path: of the file; it and its folder are made when the first row comes.
        names: of the entries that tell rows apart: a new row replaces the old one with the same.
    """

    path: Path
    names: tuple[str, ...]

    def read(self) -> dict[Key, Row]:
        """All rows by key, sorted."""
        if not self.path.exists():
            return {}
        with self.path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return self._by_key(file.read())

    def add(self, row: Row) -> None:
        """Print a row, but for what is nested in it, and write it."""
        print(
            {
                k: round(v, 4) if isinstance(v, float) else v
                for k, v in row.items()
                if not isinstance(v, dict)
            },
            flush=True,
        )
        self._change(lambda rows: rows | {self._key(row): row})

    def todo(
        self, keys: Sequence[Key], shard: int = 0, of: int = 1, fresh: bool = False
    ) -> Iterator[Key]:
        """Of every ``of``-th key, from number ``shard`` on, those without a row; if ``fresh``, all
        of them, forgotten first."""
        mine = keys[shard::of]
        if fresh:
            self._change(lambda rows: {key: row for key, row in rows.items() if key not in mine})
        yield from (key for key in mine if key not in self.read())

    def _key(self, row: Row) -> Key:
        return tuple(row[name] for name in self.names)

    def _by_key(self, text: str) -> dict[Key, Row]:
        return dict(sorted((self._key(row), row) for row in json.loads(text or "[]")))

    def _change(self, change: Callable[[dict[Key, Row]], dict[Key, Row]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            rows = sorted(change(self._by_key(file.read())).items(), key=lambda item: item[0])
            text = "[\n" + ",\n".join(json.dumps(row) for _, row in rows) + "\n]\n"
            file.truncate(0)
            file.write(text)
