"""The optimiser of the network."""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor

from models.learning.processes import add_up

BETAS = (0.9, 0.98)
EPSILON = 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); vectors are not decayed.

    ``pull`` draws weights back to where they started (L2-SP, Li et al. 2018). Of a table whose gradient is sparse the
    rows that it holds move, decay and are drawn back, and no other, as in ``torch.optim.SparseAdam``.
    Processes that learn together add up their gradients: each must hold the same rows.
    ``torch.optim.AdamW`` imports torch's compiler at the first step (3 to 4 s in a process that trains for half a
    minute) and gives other weights in the last bits.
    """

    def __init__(self, weights: Iterable[Tensor], weight_decay: float, pull: float = 0.0) -> None:
        self.weights = list(weights)
        self.decays = [weight_decay if weight.ndim > 1 else 0.0 for weight in self.weights]
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.pull, self.anchors = pull, [weight.detach().clone() for weight in self.weights] if pull else []
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float, longest: float) -> None:
        """One step at a learning rate, the gradients together shortened to ``longest``; then they are cleared."""
        self.steps += 1
        moved = [place for place, weight in enumerate(self.weights) if weight.grad is not None]
        rows = {place: grad._indices()[0] for place in moved if (grad := self._grad(place)).is_sparse}
        grads = [self._grad(place)._values() if place in rows else self._grad(place) for place in moved]
        add_up(grads)

        def held(tables: list[Tensor]) -> list[Tensor]:
            return [tables[place][rows[place]] if place in rows else tables[place] for place in moved]

        weights, means, squares = held(self.weights), held(self.means), held(self.squares)
        length = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(grad) for grad in grads]))
        torch._foreach_mul_(grads, float(min(1.0, longest / (float(length) + 1e-6))))
        torch._foreach_lerp_(means, grads, 1.0 - BETAS[0])
        torch._foreach_mul_(squares, BETAS[1])
        torch._foreach_addcmul_(squares, grads, grads, 1.0 - BETAS[1])
        spread = torch._foreach_sqrt(squares)
        torch._foreach_div_(spread, (1.0 - BETAS[1] ** self.steps) ** 0.5)
        torch._foreach_add_(spread, EPSILON)
        torch._foreach_mul_(weights, [1.0 - rate * self.decays[place] for place in moved])
        torch._foreach_addcdiv_(weights, means, spread, -rate / (1.0 - BETAS[0] ** self.steps))
        if self.anchors:
            torch._foreach_lerp_(weights, held(self.anchors), rate * self.pull)
        for values, tables in ((weights, self.weights), (means, self.means), (squares, self.squares)):
            for value, place in zip(values, moved, strict=True):
                if place in rows:
                    tables[place][rows[place]] = value
        for weight in self.weights:
            weight.grad = None

    def tensors(self) -> dict[str, Tensor]:
        """All that it remembers but the number of steps."""
        tables = {"mean": self.means, "square": self.squares, "anchor": self.anchors}
        return {f"{name}/{place}": table for name, held in tables.items() for place, table in enumerate(held)}

    def load(self, tensors: Mapping[str, Tensor], steps: int) -> None:
        """Go on from what ``tensors`` gave after so many steps."""
        for name, table in self.tensors().items():
            table.copy_(tensors[name])
        self.steps = steps

    def _grad(self, place: int) -> Tensor:
        grad = self.weights[place].grad
        assert grad is not None
        return grad
