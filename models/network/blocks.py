"""The parts of the sequence network: norms, rotary attention, gated feed-forward. Eager torch, any device."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 (the name that everybody knows)


def rotate(x_BHLK: Tensor) -> Tensor:
    """Rotary position embedding (Su et al. 2021): attention depends on distances alone, so padding shifts nothing."""
    length, width = x_BHLK.shape[-2:]
    rate_K = 1000.0 ** (-torch.arange(0, width, 2, device=x_BHLK.device, dtype=torch.float32) / width)
    angle_LK = torch.arange(length, device=x_BHLK.device, dtype=torch.float32)[:, None] * rate_K
    cos, sin = angle_LK.cos(), angle_LK.sin()
    even, odd = x_BHLK[..., : width // 2], x_BHLK[..., width // 2 :]
    return torch.cat([even * cos - odd * sin, even * sin + odd * cos], dim=-1)


class Attention(nn.Module):
    """Causal self-attention over the known places, with normalised queries and keys."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.inputs = nn.Linear(width, 3 * width, bias=False)
        self.output = nn.Linear(width, width, bias=False)
        self.query_norm = nn.RMSNorm(width // heads)
        self.key_norm = nn.RMSNorm(width // heads)

    def forward(self, x_BLD: Tensor, mask_B1LL: Tensor) -> Tensor:
        """x_BLD attended where ``mask_B1LL`` is true."""
        B, L, D = x_BLD.shape
        split = self.inputs(x_BLD).view(B, L, 3, self.heads, D // self.heads).permute(2, 0, 3, 1, 4)
        query_BHLK, key_BHLK, value_BHLK = split.unbind(0)
        mixed_BHLK = F.scaled_dot_product_attention(
            rotate(self.query_norm(query_BHLK)),
            rotate(self.key_norm(key_BHLK)),
            value_BHLK,
            attn_mask=mask_B1LL,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.output(mixed_BHLK.transpose(1, 2).reshape(B, L, D))


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

    def forward(self, x_BLD: Tensor, mask_B1LL: Tensor) -> Tensor:
        """The same places, one step further."""
        x_BLD = x_BLD + self.dropout(self.attention(self.attention_norm(x_BLD), mask_B1LL))
        gate, value = self.inputs(self.forward_norm(x_BLD)).chunk(2, dim=-1)
        return x_BLD + self.dropout(self.output(F.silu(gate) * value))


def causal_mask(known_BL: Tensor) -> Tensor:
    """mask_B1LL: a place sees the known places up to itself, and always itself (so that no row is empty)."""
    L = known_BL.shape[1]
    earlier_LL = torch.ones(L, L, dtype=torch.bool, device=known_BL.device).tril()
    itself_LL = torch.eye(L, dtype=torch.bool, device=known_BL.device)
    return ((earlier_LL & known_BL[:, None, :]) | itself_LL)[:, None]
