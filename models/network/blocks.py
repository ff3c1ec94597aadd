"""The parts of the sequence network: norms, rotary attention, gated feed-forward. Eager torch, any device."""

from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name that everybody knows)


def rotate(x_BHLK: Tensor, length: int) -> Tensor:
    """Rotary position embedding (Su et al. 2021): attention depends on distances alone, so padding shifts nothing.

    The places are the latest of ``length``.
    """
    places, width = x_BHLK.shape[-2:]
    cos_LK, sin_LK = rotations(length, width, x_BHLK.device)
    cos_LK, sin_LK = cos_LK[length - places :], sin_LK[length - places :]
    even, odd = x_BHLK.chunk(2, dim=-1)
    return torch.cat([even * cos_LK - odd * sin_LK, even * sin_LK + odd * cos_LK], dim=-1)


@lru_cache(maxsize=256)
def rotations(length: int, width: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """The cosines and sines (L, width / 2) of each place; kept, since they are the same for every request."""
    with torch.inference_mode(False):  # also of use to a training that comes later
        rate_K = 1000.0 ** (-torch.arange(0, width, 2, device=device, dtype=torch.float32) / width)
        angle_LK = torch.arange(length, device=device, dtype=torch.float32)[:, None] * rate_K
        return angle_LK.cos(), angle_LK.sin()


class Attention(nn.Module):
    """Causal self-attention over the known places, with normalised queries and keys."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.query_norm = nn.RMSNorm(width // heads)
        self.key_norm = nn.RMSNorm(width // heads)

    def forward(self, x_BLD: Tensor, mask_B1LL: Tensor, asked: int) -> Tensor:
        """x_BLD attended where ``mask_B1LL`` is true, for the latest ``asked`` places: (B, asked, D)."""
        B, L, D = x_BLD.shape
        if asked == L:
            query_BHLK, key_BHLK, value_BHLK = self._heads(self.inputs(x_BLD), 3)
        else:
            query_DD, rest = self.inputs.weight.split([D, 2 * D])
            (query_BHLK,) = self._heads(F.linear(x_BLD[:, -asked:], query_DD), 1)
            key_BHLK, value_BHLK = self._heads(F.linear(x_BLD, rest), 2)
        mixed_BHLK = F.scaled_dot_product_attention(
            rotate(self.query_norm(query_BHLK), L),
            rotate(self.key_norm(key_BHLK), L),
            value_BHLK,
            attn_mask=mask_B1LL[:, :, -asked:],
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(mixed_BHLK.transpose(1, 2).reshape(B, asked, D))

    def _heads(self, x_BLD: Tensor, parts: int) -> tuple[Tensor, ...]:
        """So many tensors (B, H, L, K) out of one (B, L, parts * D)."""
        B, L, D = x_BLD.shape
        return x_BLD.view(B, L, parts, self.heads, D // parts // self.heads).permute(2, 0, 3, 1, 4).unbind(0)


class Block(nn.Module):
    """Pre-norm attention, then a SwiGLU feed-forward (Shazeer 2020); both residual branches start at zero."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(width)
        self.attention = Attention(width, heads, dropout)
        self.forward_norm = nn.RMSNorm(width)
        self.inputs = nn.Linear(width, 4 * width, bias=False)
        self.output = nn.Linear(2 * width, width, bias=False)
        self.dropout = nn.Dropout(dropout)
        nn.init.zeros_(self.attention.output.weight)
        nn.init.zeros_(self.output.weight)

    def forward(self, x_BLD: Tensor, mask_B1LL: Tensor, asked: int) -> Tensor:
        """The latest ``asked`` of the places, one step further; what is not asked for is not computed."""
        mixed_BLD = self.attention(self.attention_norm(x_BLD), mask_B1LL, asked)
        x_BLD = x_BLD[:, -asked:] + self.dropout(mixed_BLD)
        gate, value = self.inputs(self.forward_norm(x_BLD)).chunk(2, dim=-1)
        return x_BLD + self.dropout(self.output(F.silu(gate) * value))


def causal_mask(known_BL: Tensor) -> Tensor:
    """mask_B1LL: a place sees the known places up to itself, and always itself (so that no row is empty)."""
    L = known_BL.shape[1]
    earlier_LL = torch.ones(L, L, dtype=torch.bool, device=known_BL.device).tril()
    itself_LL = torch.eye(L, dtype=torch.bool, device=known_BL.device)
    return ((earlier_LL & known_BL[:, None, :]) | itself_LL)[:, None]
