"""cache: keys and values of many rows, layer by layer, and attention against them.

Shapes: B rows, S new tokens, H query heads, G key-value heads, K head width, T cached positions.
"""

import torch
from torch import Tensor

from nanoschool.core.config import ModelConfig
from nanoschool.core.model import Attend


class Cache:
    """One slot a row; slots and positions grow by doubling."""

    def __init__(self, config: ModelConfig, device: torch.device) -> None:
        self.config, self.device = config, device
        self.slots = self.positions = 0
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def reserve(self, slots: int, positions: int) -> None:
        """Make room for so many slots of so many positions, keeping what is there."""
        if slots <= self.slots and positions <= self.positions:
            return
        c, old = self.config, (self.slots, self.positions)
        self.slots, self.positions = max(old[0], 8), max(old[1], 64)
        while self.slots < slots:
            self.slots *= 2
        while self.positions < positions:
            self.positions *= 2
        self.positions = min(self.positions, c.context)
        for caches in (self.keys, self.values):
            for layer in range(c.layers):
                shape = (self.slots, c.kv_heads, self.positions, c.head_width)
                grown = torch.zeros(shape, device=self.device)
                if old[0]:
                    grown[: old[0], :, : old[1]] = caches[layer]
                    caches[layer] = grown
                else:
                    caches.append(grown)

    def copy(self, source: int, target: int, positions: int) -> None:
        """The first positions of one slot into another."""
        for cache in self.keys + self.values:
            cache[target, :, :positions] = cache[source, :, :positions]

    def reader(self, slots: list[int], starts: list[int], counts: list[int]) -> tuple[Tensor, Attend]:
        """For `counts` new tokens in each of `slots`, which hold `starts` already: their positions (B, S), and an
        attention that writes the new keys and values and reads all up to each token's own position."""
        S, T = max(counts), max(s + n for s, n in zip(starts, counts, strict=True))
        device, dense = self.device, slots == list(range(len(slots)))
        slots_B, counts_B = torch.tensor(slots, device=device), torch.tensor(counts, device=device)
        steps_S = torch.arange(S, device=device)
        positions_BS = torch.tensor(starts, device=device)[:, None] + steps_S
        # padding must write nothing: a row's unused positions may lie beyond the cache
        live_B, live_S = torch.nonzero(steps_S < counts_B[:, None], as_tuple=True)
        at_slot, at_position = slots_B[live_B], positions_BS[live_B, live_S]
        positions_BS = positions_BS.clamp(max=self.config.context - 1)
        later_BST = torch.arange(T, device=device) > positions_BS[:, :, None]
        bias_BST = torch.zeros(later_BST.shape, device=device).masked_fill_(later_BST, float("-inf"))
        bias_B11ST = bias_BST[:, None, None]

        def attend(layer: int, q_BHSK: Tensor, k_BGSK: Tensor, v_BGSK: Tensor) -> Tensor:
            keys, values = self.keys[layer], self.values[layer]
            keys[at_slot, :, at_position] = k_BGSK[live_B, :, live_S]
            values[at_slot, :, at_position] = v_BGSK[live_B, :, live_S]
            k_BGTK = keys[: len(slots), :, :T] if dense else keys[slots_B, :, :T]
            v_BGTK = values[: len(slots), :, :T] if dense else values[slots_B, :, :T]
            B, H, _, K = q_BHSK.shape
            # query heads that share a key head stand side by side: R of them
            q_BGRSK = q_BHSK.reshape(B, k_BGTK.shape[1], -1, S, K) * K**-0.5
            scores_BGRST = torch.einsum("bgrsk,bgtk->bgrst", q_BGRSK, k_BGTK) + bias_B11ST
            out_BGRSK = torch.einsum("bgrst,bgtk->bgrsk", scores_BGRST.softmax(-1), v_BGTK)
            return out_BGRSK.reshape(B, H, S, K)

        return positions_BS, attend
