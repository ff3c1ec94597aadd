"""AdamW, as a few lines over lists of tensors.

torch's own imports its compiler at the first step, which costs seconds in a process that trains for half a minute.
"""

from collections.abc import Iterable

import torch
from torch import Tensor

BETAS = (0.9, 0.98)
EPSILON = 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019); vectors are not decayed."""

    def __init__(self, weights: Iterable[Tensor], weight_decay: float) -> None:
        self.weights = list(weights)
        self.decays = [weight_decay if weight.ndim > 1 else 0.0 for weight in self.weights]
        self.means = [torch.zeros_like(weight) for weight in self.weights]
        self.squares = [torch.zeros_like(weight) for weight in self.weights]
        self.steps = 0

    @torch.no_grad()
    def step(self, rate: float, longest: float) -> None:
        """One step at a learning rate, the gradients together shortened to ``longest``; then they are cleared.

        A weight without a gradient stands still.
        """
        self.steps += 1
        moved = [place for place, weight in enumerate(self.weights) if weight.grad is not None]
        weights = [self.weights[place] for place in moved]
        grads = [grad for grad in (weight.grad for weight in weights) if grad is not None]
        means, squares = [self.means[place] for place in moved], [self.squares[place] for place in moved]
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
        for weight in weights:
            weight.grad = None
