"""Policy: weights and notes as one object, so that both kinds of learning change the same thing.

Everything that runs the model goes through here or through the engine, and is charged to the ledger.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from nanoschool.core import recompute
from nanoschool.core.batch import Batch, Totals, weighted_nll
from nanoschool.core.device import compute_dtype
from nanoschool.core.engine import Session
from nanoschool.core.likelihood import log_likelihood
from nanoschool.core.model import GPT
from nanoschool.core.optim import Optimizer
from nanoschool.core.packed import before_learned
from nanoschool.core.sampling import EXACT, Sampling
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.types import Trajectory

MICRO_TOKENS = {
    "cpu": 16_384,
    "cuda": 16_384,
}  # of 350M parameters so many need not be computed again in 80 GB
Loss = Callable[[Tensor, Batch, Totals], Tensor]  # (log-probabilities (B, T), batch, totals) -> scalar


class Diverged(Exception):
    """The loss or the gradient is not a number; `batch` is what it was computed on."""

    def __init__(self, what: str, batch: Batch) -> None:
        super().__init__(what)
        self.batch = batch


class Policy:
    """A model, its tokenizer, its notes (`prompt`, a system message; "" for none), and what it was found to know.

    `knows` says by world with what probability it was right, from reading alone, about each thing that there is to
    know: it was asked before it was first shown what to say of that. `sampling` is how its sessions compute.
    """

    def __init__(
        self,
        model: GPT,
        tokenizer: Tokenizer,
        ledger: Ledger,
        micro_tokens: int = 0,
        sampling: Sampling = EXACT,
    ) -> None:
        self.model, self.tokenizer, self.ledger, self.sampling = model, tokenizer, ledger, sampling
        # in one forward pass of training; 0: as many as keep a device of this kind busy
        self.micro_tokens = micro_tokens or MICRO_TOKENS.get(model.cos.device.type, 8192)
        self.prompt = ""
        self.knows: dict[str, dict[str, float]] = {}
        self.optimizer: Optimizer | None = None

    @property
    def device(self) -> str:
        return str(self.model.cos.device)

    @property
    def fast(self) -> torch.dtype:
        """What matrix products are fastest in here."""
        return compute_dtype(self.device)

    def open(self, seed: int = 0, temperature: float = 1.0) -> Session:
        """An engine session on the present weights."""
        return Session(self.model, self.tokenizer, self.ledger, seed, temperature, self.sampling)

    def logprobs(self, batch: Batch, grad: bool = False) -> Tensor:
        """log p(token t | tokens < t), (B, T); computed, and billed, only where the mask is True, 0 elsewhere.

        Taken at each row's own temperature, so that a ratio compares like with like.
        """
        with torch.set_grad_enabled(grad):
            self._charge(batch, self.model.config.flops)
            return self._forward(batch.to(self.device))

    def predict(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """`logprobs`, and the likeliest token of each masked position (0 elsewhere), both (B, T), in one pass."""
        with torch.no_grad():
            self._charge(batch, self.model.config.flops)
            batch = batch.to(self.device)
            logits_NV, at = self._masked_logits(batch)
            blank_BT = torch.zeros(batch.tokens.shape, device=self.device)
            logprobs_N = -torch.nn.functional.cross_entropy(logits_NV, batch.tokens[at], reduction="none")
            likeliest_BT = torch.zeros_like(batch.tokens).index_put(at, logits_NV.argmax(-1))
            return blank_BT.index_put(at, logprobs_N), likeliest_BT

    def whole(self, batch: Batch) -> Tensor:
        """Log-probabilities over the vocabulary at every masked position, (N, V), row by row."""
        with torch.no_grad():
            self._charge(batch, self.model.config.flops)
            return self._whole(batch.to(self.device))

    def distribution(self, batch: Batch, top_k: int) -> tuple[Tensor, Tensor]:
        """The `top_k` likeliest tokens at each position: (log-probabilities, tokens), both (B, T, k).

        Both are 0 at a row's first token, which nothing comes before, and where it is padded.
        """
        steps_T = torch.arange(batch.tokens.shape[1])
        after_BT = (steps_T > 0) & (steps_T < batch.lengths[:, None].cpu())
        with torch.no_grad():
            batch = replace(batch, mask=after_BT)
            self._charge(batch, self.model.config.flops)
            logits_NV, at = self._masked_logits(batch.to(self.device))
            top_Nk, index_Nk = torch.log_softmax(logits_NV, dim=-1).topk(top_k, dim=-1)
            blank_BTk = torch.zeros(*batch.tokens.shape, top_k, device=self.device)
            return blank_BTk.index_put(at, top_Nk), blank_BTk.long().index_put(at, index_Nk)

    def fit(
        self,
        data: Batch | Sequence[Trajectory],
        loss: Loss = weighted_nll,
        *,
        scale: float = 1.0,
        epochs: int = 1,
        minibatches: int = 1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        whole: bool = False,
    ) -> dict[str, float]:
        """Optimizer steps on `data` at `scale` times the learning rate; one step for each minibatch of each epoch,
        whose rows are drawn by `seed`.

        `dtype` is that of the matrix products, `self.fast` for tokens that nobody sampled; what was sampled is fitted as
        it was sampled, in float32. Weights and their sums are float32 either way. With `whole` the loss is given what
        `whole(batch)` gives, (N, V), in place of (B, T): for objectives over the whole vocabulary.

        Returns the mean loss and gradient norm. Raises Diverged before the weights are touched by a NaN.
        """
        assert self.optimizer is not None, "policy.optimizer is set by the method's `begin`"
        batch = data if isinstance(data, Batch) else Batch.of(data)
        losses, norms = [], []
        for epoch in range(epochs):
            shuffle = torch.Generator().manual_seed((seed + epoch) % 2**63)
            order = (
                torch.arange(len(batch))
                if minibatches == 1
                else torch.randperm(len(batch), generator=shuffle)
            )
            for index in order.chunk(minibatches):
                mini = batch.rows(index)
                totals, value = mini.totals(), 0.0
                for micro in mini.micro(self.micro_tokens):
                    self.model.recompute = recompute.must(self.model, micro.lengths.tolist())
                    self._charge(micro, self._fitting, trained=int(micro.mask.sum()))
                    micro = micro.to(self.device)
                    with torch.autocast(self.model.cos.device.type, dtype, enabled=dtype != torch.float32):
                        part = loss(self._whole(micro) if whole else self._forward(micro), micro, totals)
                    if not torch.isfinite(part):
                        self.model.zero_grad(set_to_none=True)
                        raise Diverged(f"loss is {float(part.detach())}", mini)
                    part.backward()
                    value += float(part.detach())
                gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
                if not torch.isfinite(torch.stack([g.abs().max() for g in gradients])).all():
                    self.model.zero_grad(set_to_none=True)
                    raise Diverged("the gradient is not finite", mini)
                norms.append(self.optimizer.step(scale))
                losses.append(value)
        return {"loss": sum(losses) / len(losses), "gradient_norm": sum(norms) / len(norms)}

    def snapshot(self) -> "Policy":
        """A frozen copy: the reference of a KL, an opponent, yesterday's self. It charges the same ledger."""
        model = copy.deepcopy(self.model).requires_grad_(False)
        twin = Policy(model, self.tokenizer, self.ledger, self.micro_tokens, self.sampling)
        twin.prompt, twin.knows = self.prompt, self.knows
        return twin

    def _forward(self, batch: Batch) -> Tensor:
        x_ND, at = before_learned(self.model, batch)
        model, given = self.model, (batch.tokens[at], batch.temperatures[at[0]])
        logprobs_N = log_likelihood(x_ND, model.head, *given, model.compiled)
        return torch.zeros(batch.tokens.shape, device=self.device).index_put(at, logprobs_N)

    def _whole(self, batch: Batch) -> Tensor:
        return torch.log_softmax(self._masked_logits(batch)[0], dim=-1)

    def _masked_logits(self, batch: Batch) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Logits (N, V) of the masked positions, each from the hidden state before it, and where they are (row, column)."""
        x_ND, at = before_learned(self.model, batch)
        return self.model.logits(x_ND) / batch.temperatures[at[0], None], at

    def _fitting(self, tokens: int, attended: int, scored: int) -> float:
        """FLOPs of a forward and a backward pass, and of what is computed a second time."""
        config = self.model.config
        again = config.flops(tokens, attended, 0) if self.model.recompute else 0.0
        return config.fitting(tokens, attended, scored) + again

    def _charge(
        self,
        batch: Batch,
        count: Callable[[int, int, int], float],
        trained: int = 0,
        scored: int | None = None,
    ) -> None:
        """Bill what `count` counts of a pass; logits of the learned tokens, or of `scored`."""
        lengths = batch.lengths.tolist()
        scored = int(batch.mask.sum()) if scored is None else scored
        attended = sum(n * (n + 1) // 2 for n in lengths)
        self.ledger.charge(flops=count(sum(lengths), attended, scored), tokens=sum(lengths), trained=trained)
