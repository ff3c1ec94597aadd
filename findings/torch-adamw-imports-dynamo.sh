#!/usr/bin/env bash
# torch 2.13.0 (CPU): the first step of an optimizer imports the compiler.
#
# Guess before looking: `torch.optim.AdamW(...).step()` in eager mode needs arithmetic alone, so the first step of a small
# model costs about what the second does.
# Seen: making the optimizer or taking its first step imports `torch._dynamo` with hundreds of other modules, although
# nothing is compiled. That first time costs seconds where a step costs a fraction of a millisecond.
# Why it matters: a fine-tune of minutes in a fresh process pays it each time, and so does every test that trains.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'PY'
import sys
import time

import torch

weight = torch.nn.Parameter(torch.ones(8))
before = set(sys.modules)
assert "torch._dynamo" not in before


def step() -> float:
    began = time.perf_counter()
    (weight**2).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began


began = time.perf_counter()
optimizer = torch.optim.AdamW([weight])
first = time.perf_counter() - began + step()
later = min(step() for _ in range(20))
new = {name for name in sys.modules if name not in before}
print(f"torch {torch.__version__}: the first step imported {len(new)} modules, torch._dynamo among them: {'torch._dynamo' in new}")
assert "torch._dynamo" in new, "the first step no longer imports the compiler: look again"
assert len(new) > 200
assert first > 50 * later
PY
# Output seen: torch 2.13.0+cpu: the first step imported 824 modules, torch._dynamo among them: True
