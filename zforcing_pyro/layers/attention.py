"""An LSTM that reads its own past states by sparse attention."""

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from ..data.checks import MAX_SIZE, check_choice, check_range
from .lstm import ForwardLSTM
from .products import Linear

Sparsify = Literal["relu", "softmax"]
Attention = Literal["content", "additive"]
EPS = 1e-7


class Memory(NamedTuple):
    """State of a :class:`SparseAttentiveLSTM` between two steps of a call."""

    h: Tensor  # (batch, h_dim)
    c: Tensor  # (batch, h_dim)
    entries: Tensor  # memories m_i, (batch, num, h_dim)
    keys: Tensor  # part of the score that needs m_i alone, (batch, num, key_dim)
    numbers: Tensor  # of each memory in order of writing, -1 for none: (num,) or (batch, num)
    t: int | Tensor  # steps done; a tensor (batch,) where rows differ


class SparseAttentiveLSTM(nn.Module):
    r"""An LSTM that adds a sparse mean of its own past states to each new state.

    .. math:: \hat h_t, c_t &= \mathrm{LSTM}(x_t, h_{t-1}, c_{t-1}), &
        a_{ti} &= w_3^\top \tanh(W_1 m_i + W_2 \hat h_t + b)

        s_t &= \textstyle\sum_i w_{ti} m_i, \quad w_t = \mathrm{sparsify}(a_t), &
        h_t &= \hat h_t + s_t

    Every ``k_att`` steps h_t becomes a memory, after the read. The zero state is the first one.
    Every ``k_trunc`` steps the gradient along the recurrence is cut. Memories keep their gradient.

    Args:
        in_dim, h_dim: Sizes of x_t and h_t.
        k_top: Memories that a step reads; 0 is all of them.
        k_trunc: Steps between cuts of the recurrence's gradient; 0 is none. Where windows of a
            sequence are carried, credit ends at a window's first step all the same.
        k_att: Steps between memories.
        sparsify: Weights of the memories read: scores above a threshold, or their softmax.
        attention: Scores by content, as above; or the separable ones of the published code,
            v^T tanh(m_i), which do not depend on the state that reads them.
        max_memory: Most memories kept, the latest; 0 is as many as steps, and cannot be carried
            from window to window.
    """

    def __init__(
        self,
        in_dim: int,
        h_dim: int,
        k_top: int = 5,
        k_trunc: int = 5,
        k_att: int = 2,
        sparsify: Sparsify = "relu",
        attention: Attention = "content",
        max_memory: int = 0,
    ):
        super().__init__()
        check_range(1, MAX_SIZE, k_att=k_att)
        check_range(0, k_top=k_top, k_trunc=k_trunc, max_memory=max_memory)
        check_choice(Sparsify, sparsify=sparsify)
        check_choice(Attention, attention=attention)
        self.h_dim, self.k_top, self.k_trunc, self.k_att = h_dim, k_top, k_trunc, k_att
        self.sparsify, self.max_memory = sparsify, max_memory
        self.is_content = attention == "content"
        self.lstm = ForwardLSTM(in_dim, h_dim)
        if self.is_content:
            self.key, self.query = nn.Linear(h_dim, h_dim, bias=False), Linear(h_dim, h_dim)
            self.score = nn.Linear(h_dim, 1, bias=False)
        else:
            self.key = nn.Linear(h_dim, 1, bias=False)

    @property
    def state_dims(self) -> dict[str, int]:
        """Sizes of the entries of the state before a sequence; ``memory`` grows without a limit."""
        h_dim = self.h_dim
        return {"h": h_dim, "c": h_dim, "memory": h_dim * (self.max_memory or 1), "t": 1}

    def forward(self, x: Tensor, memory: Memory) -> tuple[Tensor, Memory]:
        """Returns [h_t, s_t] of all steps, ``(batch, time, 2 h_dim)``, and what follows.

        Args:
            x: ``(batch, time, in_dim)``.
            memory: Of :meth:`open`.
        """
        outputs = []
        for x_t in x.unbind(1):
            output, _, memory = self.step(x_t, memory)
            outputs.append(output)
        return torch.stack(outputs, 1), memory

    def step(self, x: Tensor, memory: Memory) -> tuple[Tensor, Tensor, Memory]:
        """Returns [h_t, s_t], the weights of the memories, ``(batch, num)``, and what follows."""
        h, c, entries, keys, numbers, t = memory
        cut = (t + 1) % self.k_trunc == 0 if self.k_trunc else False
        h, c = self.lstm.step(x, (where(cut, h.detach(), h), where(cut, c.detach(), c)))
        weights = sparse_weights(self.scores(memory, h), self.k_top, self.sparsify)
        s = (weights[:, None] @ entries)[:, 0]
        h, t = h + s, t + 1
        writes = t % self.k_att == 0
        if writes is not False:
            entries = torch.cat([entries, h[:, None]], 1)
            keys = torch.cat([keys, self.keys(h)[:, None]], 1)
            number = torch.as_tensor(t // self.k_att, device=h.device)
            number = where(writes, number, torch.full_like(number, -1))
            numbers = torch.cat([numbers, number[..., None]], -1)
        return torch.cat([h, s], -1), weights, Memory(h, c, entries, keys, numbers, t)

    def keys(self, m: Tensor) -> Tensor:
        """Returns the part of the scores that needs memories alone, ``(..., key_dim)``."""
        return self.key(m if self.is_content else m.tanh())

    def scores(self, memory: Memory, h: Tensor) -> Tensor:
        """Returns the score of each memory, -infinity where there is none, ``(batch, num)``."""
        if self.is_content:
            a = self.score((memory.keys + self.query(h)[:, None]).tanh())[..., 0]
        else:
            a = memory.keys[..., 0]
        exists = memory.numbers >= 0
        if self.max_memory:
            latest = torch.as_tensor(memory.t // self.k_att, device=h.device)[..., None]
            exists = exists & (memory.numbers > latest - self.max_memory)
        return a.masked_fill(~exists, -torch.inf)

    def open(self, state: dict[str, Tensor]) -> Memory:
        """Returns the state of a call from entries of :attr:`state_dims`."""
        h, c, memory, steps = (state[name] for name in ("h", "c", "memory", "t"))
        entries = memory.unflatten(-1, (-1, self.h_dim))
        rows = steps[:, 0].round().clamp(min=0).long()
        # One number where all rows are at the same step, so that no row needs a mask.
        is_same = not h.is_meta and bool((rows == rows[0]).all())
        t = int(rows[0]) if is_same else rows
        numbers = self.numbers(t, entries.shape[1], h.device)
        return Memory(h, c, entries, self.keys(entries), numbers, t)

    def close(self, memory: Memory) -> dict[str, Tensor]:
        """Returns the state after a call, whose memories stand in a ring by their numbers."""
        h, c, entries, _, numbers, t = memory
        if not self.max_memory and isinstance(t, int):
            size = 1 + t // self.k_att
        else:
            size = self.max_memory or entries.shape[1]
        wanted = self.numbers(t, size, h.device)
        places = (wanted[..., :, None] == numbers[..., None, :]) & (wanted[..., None] >= 0)
        steps = torch.as_tensor(t, device=h.device).to(h.dtype).expand(len(h))[:, None]
        ring = places.to(h.dtype) @ entries
        return {"h": h, "c": c, "memory": ring.flatten(-2), "t": steps}

    def numbers(self, t: int | Tensor, size: int, device: torch.device) -> Tensor:
        """Returns the number of the memory in each place of a ring after t steps, or negative."""
        latest = torch.as_tensor(t // self.k_att, device=device)[..., None]
        return latest - (latest - torch.arange(size, device=device)) % size


def where(condition: bool | Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Returns ``a`` where a condition holds, else ``b``: for all rows, or by row, ``(batch,)``."""
    if isinstance(condition, bool):
        return a if condition else b
    return torch.where(condition[:, None] if a.dim() > 1 else condition, a, b)


def sparse_weights(scores: Tensor, k_top: int = 5, kind: Sparsify = "relu") -> Tensor:
    r"""Returns weights of the ``k_top`` largest scores, which sum to 1; all others are 0.

    With ``relu`` they are :math:`\mathrm{relu}(a_i - \tau)`, normalised, where tau is the largest
    score beyond the ``k_top``, or the least score minus 1 where there are no more. With ``softmax``
    they are the softmax of the largest scores.

    Args:
        scores: ``(..., num)``, -infinity where there is nothing to read.
        k_top: Most scores with a weight; 0 is all.
        kind: How scores become weights.

    Example:
        >>> sparse_weights(torch.tensor([1.0, 4.0, 3.0, 2.0]), k_top=2)
        tensor([0.0000, 0.6667, 0.3333, 0.0000])
    """
    num = scores.shape[-1]
    k_top = min(k_top or num, num)
    if kind == "softmax":
        largest, places = scores.topk(k_top)
        return torch.zeros_like(scores).scatter(-1, places, largest.softmax(-1))
    exists = scores > -torch.inf
    tau = scores.masked_fill(~exists, torch.inf).amin(-1, keepdim=True) - 1
    if k_top < num:
        beyond = scores.topk(k_top + 1).values[..., -1:]
        tau = torch.where(beyond > -torch.inf, beyond, tau)
    excess = (scores - tau).relu()
    return excess / (EPS + excess.sum(-1, keepdim=True))
