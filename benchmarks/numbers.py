"""Record what the public calls compute, and compare it later, bit by bit.

    python -m benchmarks.numbers record FILE     # writes digests of all numbers, as JSON
    python -m benchmarks.numbers compare FILE    # computes them again; exits with 1 if any differ

Files may be moved and names may be changed without changing one bit of a result. This program
proves it: record before the change, and compare after it. Floating-point sums depend on the machine
and on the version of torch, so compare on the machine that recorded. The calls are in
`benchmarks.numbers_core`, `numbers_equations`, `numbers_learn` and `numbers_exact`.
"""

import argparse
import hashlib
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import numbers_core, numbers_equations, numbers_exact, numbers_learn
from benchmarks.numbers_registry import CALLS, Numbers

ROOMS = (numbers_core, numbers_equations, numbers_learn, numbers_exact)


def digest(value: Tensor | float | int) -> dict[str, Any]:
    """Describe one number or tensor: the digest of its bytes, its shape, its mean and more.

    Args:
        value: a tensor, or a number, which is taken as float64 (an int as int64).

    Returns:
        A dictionary that JSON can hold.
    """
    if isinstance(value, Tensor):
        tensor = value.detach().cpu().contiguous()
    elif isinstance(value, int):
        tensor = torch.tensor(value, dtype=torch.int64)
    else:
        tensor = torch.tensor(float(value), dtype=torch.float64)
    data: bytes = np.ascontiguousarray(tensor.numpy()).tobytes()
    flat = tensor.flatten().double()
    return {
        "sha256": hashlib.sha256(data).hexdigest(),
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype),
        "mean": float(flat.mean()) if len(flat) else 0.0,
        "first": float(flat[0]) if len(flat) else 0.0,
    }


def compute(name: str) -> dict[str, dict[str, Any]]:
    """Run one call and describe each of its entries.

    The global generator of torch is seeded for the call and restored afterwards, so that the order
    of the calls does not matter.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found: Numbers = CALLS[name]()
    return {entry: digest(value) for entry, value in found.items()}


def machine() -> dict[str, str]:
    """Tell what the bits depend on besides the code."""
    return {"torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def record(path: Path, only: str) -> int:
    """Compute all calls and write them to a file. A call that fails stops the program."""
    calls: dict[str, Any] = {}
    for name in selected(only):
        start = time.process_time()
        calls[name] = compute(name)
        seconds = time.process_time() - start
        print(f"{seconds:6.2f} s  {len(calls[name]):3} entries  {name}", flush=True)
    path.write_text(json.dumps({**machine(), "calls": calls}, indent=1) + "\n")
    entries = sum(len(call) for call in calls.values())
    print(f"{len(calls)} calls with {entries} entries are in {path}")
    return 0


def compare(path: Path, only: str) -> int:
    """Compute all calls again, print one line for each, and return 1 if any of them differs."""
    before = json.loads(path.read_text())
    for key, now in machine().items():
        if before[key] != now:
            print(f"warning: {key} was {before[key]} and is {now}; bits may differ for that alone")
    known: dict[str, Any] = before["calls"]
    wrong = 0
    for name in selected(only):
        if name not in known:
            print(f"not recorded  {name}", flush=True)
            wrong += 1
            continue
        try:
            found = compute(name)
        except Exception as error:  # one call that fails must not hide the others
            print(f"fails         {name}: {type(error).__name__}: {error}", flush=True)
            wrong += 1
            continue
        lines = list(differences(known[name], found))
        wrong += bool(lines)
        print(f"{'differs' if lines else 'equal':12}  {name}", *lines, sep="\n    ", flush=True)
    for name in known:
        if name not in CALLS:
            print(f"is gone       {name}")
            wrong += 1
    print("all equal" if wrong == 0 else f"{wrong} calls are not equal")
    return int(wrong > 0)


def differences(before: dict[str, Any], after: dict[str, Any]) -> Iterator[str]:
    """Yield a line for each entry that is not the same as before."""
    for entry in sorted({*before, *after}):
        if entry not in before or entry not in after:
            yield f"{entry}: is {'new' if entry in after else 'gone'}"
            continue
        old, new = before[entry], after[entry]
        if (old["shape"], old["dtype"]) != (new["shape"], new["dtype"]):
            yield f"{entry}: {old['dtype']} {old['shape']} became {new['dtype']} {new['shape']}"
        elif old["sha256"] != new["sha256"]:
            off = max(relative(old[key], new[key]) for key in ("mean", "first"))
            yield f"{entry}: the bytes differ; mean and first value by at most {off:.1e} of them"


def relative(a: float, b: float) -> float:
    """The difference of two numbers as a part of the larger one."""
    if a == b or (math.isnan(a) and math.isnan(b)):
        return 0.0
    return abs(a - b) / max(abs(a), abs(b))


def selected(only: str) -> list[str]:
    """The names of all calls that contain a text."""
    return [name for name in CALLS if only in name]


def main() -> int:
    """Read the command line and do what it says."""
    assert all(room.__name__ for room in ROOMS)  # importing a room registers its calls
    parser = argparse.ArgumentParser(description="Record the numbers of all calls, or compare.")
    parser.add_argument("action", choices=["record", "compare"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--only", default="", help="only calls whose names contain this text")
    options = parser.parse_args()
    torch.set_num_threads(1)
    action = record if options.action == "record" else compare
    return action(options.file, options.only)


if __name__ == "__main__":
    sys.exit(main())
