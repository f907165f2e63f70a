"""reward_model: what a reply is worth, learned from comparisons (2203.02155): a scalar head on a copy of a policy's trunk.

The score is read at a row's last token. Members of an ensemble (2310.02743) start from one trunk, with heads of their own.
A checkpoint holds member 0 as transformers' Qwen3ForSequenceClassification, and all of them, with their optimizers,
under "reward/" of training.safetensors, where a stage keeps them too. Shapes: M members, B rows, T tokens, D width.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nanoschool.core import checkpoint
from nanoschool.core.batch import Batch
from nanoschool.core.checkpoint import Broken
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.optim import Optimizer, adamw
from nanoschool.core.packed import hidden
from nanoschool.core.policy import Diverged, Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.ledger import Ledger
from nanoschool.types import Trajectory, UserError

NAME = "reward"  # of what is trained beside a policy
ScoreLoss = Callable[[Tensor, Batch, int], Tensor]  # (scores (B,), batch, rows of the whole step) -> scalar


class Scorer(nn.Module):
    """One member. Parameters are named as Hugging Face names those of a sequence classifier."""

    mean: Tensor
    std: Tensor

    def __init__(self, trunk: GPT, seed: int) -> None:
        super().__init__()
        self.trunk = [
            copy.deepcopy(trunk).requires_grad_(True)
        ]  # in a list: its parameters go by `model.` alone
        self.model = self.trunk[0].model
        width = trunk.config.width
        self.score = nn.Linear(width, 1, bias=False).to(trunk.cos.device)
        with torch.no_grad():
            drawn = torch.randn(1, width, generator=torch.Generator().manual_seed(seed))
            self.score.weight.copy_(drawn * (width + 1) ** -0.5)
        for name in ("mean", "std"):  # of the scores on what `standardise` was shown
            value = torch.tensor(float(name == "std"), device=trunk.cos.device)
            self.register_buffer(name, value)

    def forward(self, batch: Batch) -> Tensor:
        x_SD, starts_B = hidden(self.trunk[0], batch)
        return (self.score(x_SD[starts_B + batch.lengths - 1])[:, 0].float() - self.mean) / self.std


class RewardModel:
    """One scorer or several. Charges the ledger that it is given; is saved beside a policy (`state`, `restore`)."""

    def __init__(
        self,
        trunk: GPT,
        tokenizer: Tokenizer,
        ledger: Ledger,
        *,
        members: int = 1,
        lr: float = 3e-4,
        beta2: float = 0.99,
        seed: int = 0,
        micro_tokens: int = 8192,
        pessimism: float = 0.0,
    ) -> None:
        self.config, self.tokenizer, self.ledger, self.micro_tokens = (
            trunk.config,
            tokenizer,
            ledger,
            micro_tokens,
        )
        self.pessimism = pessimism  # how many of the members' standard deviations a score is less
        self.device = str(trunk.cos.device)
        self.members = [Scorer(trunk, seed + i) for i in range(members)]
        self.optimizers: list[Optimizer] = [adamw(m, lr, betas=(0.9, beta2)) for m in self.members]

    def scores(self, batch: Batch) -> Tensor:
        """(M, B), billed a pass for each member."""
        scores_MB = torch.zeros(len(self.members), len(batch))
        with torch.no_grad():
            for m, member in enumerate(self.members):
                self._charge(batch, passes=1, trained=0)
                scores_MB[m] = member(batch.to(self.device)).cpu()
        return scores_MB

    def score(self, trajectories: Sequence[Trajectory]) -> list[float]:
        """One number a trajectory: the members' mean, less `pessimism` times their standard deviation."""
        scores_MB = self.scores(Batch.of([plain(t) for t in trajectories]))
        return (scores_MB.mean(0) - self.pessimism * scores_MB.std(0, correction=0)).tolist()

    def standardise(self, trajectories: Sequence[Trajectory]) -> None:
        """From now on every member scores these with mean 0 and standard deviation 1, as before PPO (2009.01325)."""
        scores_MB = self.scores(Batch.of([plain(t) for t in trajectories]))
        for member, scores_B in zip(self.members, scores_MB, strict=True):
            member.mean += member.std * scores_B.mean().to(self.device)
            member.std *= scores_B.std().clamp(min=1e-6).to(self.device)

    def fit(self, m: int, batch: Batch, loss: ScoreLoss, scale: float = 1.0) -> dict[str, float]:
        """One optimizer step of member `m`; returns loss and gradient norm. Raises Diverged before a NaN does harm."""
        member, value = self.members[m], 0.0
        for micro in batch.micro(self.micro_tokens):
            self._charge(micro, passes=3, trained=int(micro.mask.sum()))
            micro = micro.to(self.device)
            part = loss(member(micro), micro, len(batch))
            if not torch.isfinite(part):
                member.zero_grad(set_to_none=True)
                raise Diverged(f"the reward model's loss is {float(part.detach())}", batch)
            part.backward()
            value += float(part.detach())
        return {"loss": value, "gradient_norm": self.optimizers[m].step(scale)}

    def state(self) -> dict[str, Tensor]:
        flat = {}
        for i, (member, optimizer) in enumerate(zip(self.members, self.optimizers, strict=True)):
            flat |= {f"{i}:net:{name}": value for name, value in member.state_dict().items()}
            flat |= {f"{i}:optimizer:{name}": value for name, value in optimizer.state().items()}
        return flat

    def restore(self, flat: dict[str, Tensor]) -> None:
        for i, (member, optimizer) in enumerate(zip(self.members, self.optimizers, strict=True)):
            net, moments = f"{i}:net:", f"{i}:optimizer:"
            member.load_state_dict({k.removeprefix(net): v for k, v in flat.items() if k.startswith(net)})
            optimizer.restore({k.removeprefix(moments): v for k, v in flat.items() if k.startswith(moments)})

    def save(self, root: Path, name: str) -> Path:
        """Write the checkpoint `root/name`."""
        first = self.members[0].state_dict()
        return checkpoint.write(
            root,
            name,
            config=self.config.to_hf()
            | {"architectures": ["Qwen3ForSequenceClassification"], "num_labels": 1},
            weights={key: first[key] for key in first if key not in ("mean", "std")},
            tokenizer=self.tokenizer,
            training={f"{NAME}/{key}": value for key, value in self.state().items()},
            state={"stage": NAME, "step": 0},
        )

    @classmethod
    def load(cls, path: Path, ledger: Ledger, device: str = "cpu", pessimism: float = 0.0) -> "RewardModel":
        """From what `save` wrote, or from a checkpoint of a stage that trained one. UserError where there is none."""
        try:
            saved = checkpoint.read(path)
        except Broken as reason:
            raise UserError(f"{reason}; name a checkpoint with a reward model") from None
        flat = {
            key.removeprefix(f"{NAME}/"): t for key, t in saved.training.items() if key.startswith(f"{NAME}/")
        }
        members = len({key.partition(":")[0] for key in flat})
        if not members:
            raise UserError(
                f"{path}: has no reward model in it; name a checkpoint of a stage of reward_model"
            )
        trunk = GPT(ModelConfig.from_hf(saved.config)).to(device)
        model = cls(trunk, Tokenizer.load(path), ledger, members=members, pessimism=pessimism)
        model.restore(flat)
        return model

    @classmethod
    def judging(cls, path: Path, policy: Policy, pessimism: float = 0.0) -> "RewardModel":
        """One that is to pay this policy, on its device and ledger. UserError where it reads other tokens than it does."""
        model = cls.load(path, policy.ledger, policy.device, pessimism)
        if model.tokenizer.spec != policy.tokenizer.spec:
            raise UserError(f"{path}: its tokenizer is not the policy's; name a reward model trained from it")
        if model.config.context < policy.model.config.context:
            limit, needed = model.config.context, policy.model.config.context
            raise UserError(
                f"{path}: reads {limit} tokens, the policy {needed}; name one with as wide a context"
            )
        return model

    def _charge(self, batch: Batch, passes: int, trained: int) -> None:
        """A pass of one member: the trunk without its logits, and one number a row."""
        lengths = batch.lengths.tolist()
        attended = sum(n * (n + 1) // 2 for n in lengths)
        flops = self.config.flops(sum(lengths), attended, 0) + 2 * self.config.width * len(lengths)
        self.ledger.charge(flops=passes * flops, tokens=sum(lengths), trained=trained)


def plain(t: Trajectory) -> Trajectory:
    """What a score is of: the tokens, in whatever comparison they may stand."""
    n = len(t.tokens)
    return Trajectory(t.tokens, t.mask, logprobs=[0.0] * n, weights=[0.0] * n)
