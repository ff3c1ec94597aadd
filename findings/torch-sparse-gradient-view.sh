#!/usr/bin/env bash
# torch 2.13.0 (CPU): a sparse gradient does not pass a view of its table.
#
# Guess before looking: a vector of biases is looked up like a table of width 1: `embedding(rows, bias[:, None], sparse=True)`
# gives the vector a sparse gradient.
# Seen: the forward pass works and the backward pass raises NotImplementedError: autograd undoes the view by as_strided,
# which sparse tensors have not. `torch.gather(bias, 0, rows, sparse_grad=True)` gives the same with a sparse gradient.
# Why it matters: who moves only the touched rows of a large table of vectors wants the same for its biases.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet torch==2.13.0 numpy
"$work/venv/bin/python" - <<'PY'
import torch

rows = torch.tensor([3, 1])
bias = torch.nn.Parameter(torch.arange(5.0))
looked_up = torch.nn.functional.embedding(rows, bias[:, None], sparse=True).squeeze(1)
try:
    looked_up.sum().backward()
    error = "none"
except NotImplementedError as raised:
    error = f"NotImplementedError, {str(raised).split(chr(39))[1]}"
bias.grad = None
gathered = torch.gather(bias, 0, rows, sparse_grad=True)
gathered.sum().backward()
print(f"torch {torch.__version__}: embedding of a view: {error}; gather: sparse gradient {bias.grad.is_sparse}")
assert torch.equal(looked_up, gathered)
assert "as_strided" in error, "a sparse gradient passes the view: look again"
assert bias.grad.is_sparse and bias.grad.to_dense().tolist() == [0, 1, 0, 1, 0]
PY
# Output seen: torch 2.13.0+cpu: embedding of a view: NotImplementedError, aten::as_strided; gather: sparse gradient True
