"""What the network is taught by: a softmax over the items, whole or sampled. Lower is better, one loss a question."""

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (the name that everybody knows)


def full_softmax(states_QD: Tensor, items_ND: Tensor, bias_N: Tensor, targets_Q: Tensor) -> Tensor:
    """losses_Q: cross-entropy of each target among all items."""
    return F.cross_entropy(states_QD @ items_ND.T + bias_N, targets_Q, reduction="none")


def sampled_softmax(
    states_QD: Tensor, items_ND: Tensor, bias_N: Tensor, targets_Q: Tensor, sampled_M: Tensor, log_q_N: Tensor
) -> Tensor:
    """losses_Q: cross-entropy of each target among itself and ``sampled_M`` items, shared by all questions.

    ``log_q_N`` is the log of the probability that one draw gives an item; subtracting the log of the expected
    count makes the sampled sum an unbiased estimate of the whole one (Bengio and Senecal 2008). A sampled item
    that is the target itself is left out.
    """
    own_Q = (states_QD * F.embedding(targets_Q, items_ND)).sum(dim=1) + bias_N.index_select(0, targets_Q)
    expected_M = log_q_N.index_select(0, sampled_M) + torch.log(torch.tensor(float(len(sampled_M))))
    others_QM = states_QD @ F.embedding(sampled_M, items_ND).T + bias_N.index_select(0, sampled_M) - expected_M
    others_QM = others_QM.masked_fill(sampled_M[None, :] == targets_Q[:, None], -1e9)
    return torch.logsumexp(torch.cat([own_Q[:, None], others_QM], dim=1), dim=1) - own_Q
