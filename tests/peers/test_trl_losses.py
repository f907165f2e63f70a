"""Our losses against TRL's own code for them, on random batches: the value and the gradient of every log-probability."""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from nanoschool import methods
from nanoschool.core.batch import Batch

pytestmark = pytest.mark.peers
B, T = 6, 9


def drawn(seed: int) -> dict[str, torch.Tensor]:
    """New, old and reference log-probabilities of unlike lengths, and an advantage a row."""
    random = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    lengths_B = torch.randint(1, T + 1, (B,), generator=random)
    old_BT = -normal(B, T).abs() * 2
    return {
        "mask": torch.arange(T) < lengths_B[:, None],
        "old": old_BT,
        "new": old_BT + 0.3 * normal(B, T),
        "reference": old_BT + 0.3 * normal(B, T),
        "advantages": normal(B),
    }


def trls(
    data: dict[str, torch.Tensor], beta: float = 0.0, high: float = 0.28, low: float = 0.2, **settings: Any
):
    """The loss that GRPOTrainer computes of these log-probabilities, and its gradient."""
    trl = pytest.importorskip("trl", reason="trl is absent; `make peers` installs it")
    new_BT = data["new"].clone().requires_grad_()
    trainer = SimpleNamespace(
        _get_per_token_logps_and_entropies=lambda *args, **kwargs: (new_BT, torch.zeros(B, T), None),
        _metrics={"train": defaultdict(list)},
        _entropy_bonus_enabled=False,
        aux_loss_enabled=False,
        top_entropy_quantile=1.0,
        off_policy_mask_threshold=None,
        use_vllm=False,
        vllm_importance_sampling_correction=False,
        model=SimpleNamespace(training=True),
        current_gradient_accumulation_steps=1,
        accelerator=SimpleNamespace(num_processes=1, gather=lambda x: x, reduce=lambda x, reduction: x),
        args=SimpleNamespace(delta=None, use_bias_correction_kl=False, steps_per_generation=1),
        max_completion_length=T,
        beta=beta,
        epsilon_low=low,
        epsilon_high=high,
        **{"importance_sampling_level": "token", **settings},
    )
    ids_BT = torch.zeros(B, T).long()
    inputs = {
        "prompt_ids": ids_BT[:, :1],
        "prompt_mask": torch.ones(B, 1).long(),
        "completion_ids": ids_BT,
        "completion_mask": data["mask"].long(),
        "advantages": data["advantages"],
        "old_per_token_logps": data["old"],
        "ref_per_token_logps": data["reference"],
        "num_items_in_batch": data["mask"].sum(),
    }
    loss = trl.GRPOTrainer._compute_loss(trainer, None, inputs)
    return loss, torch.autograd.grad(loss, new_BT)[0]


def ours(method: Any, data: dict[str, torch.Tensor]):
    """The loss of the method, whose rows have a prompt of one token before them, and its gradient."""

    def after_prompt(x_BT: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.zeros(B, 1, dtype=x_BT.dtype), x_BT * data["mask"]], 1)

    new_BT = data["new"].clone().requires_grad_()
    extra = {"sampled": torch.ones(B, T + 1), "reference": after_prompt(data["reference"])}
    batch = Batch(
        torch.zeros(B, T + 1).long(),
        after_prompt(data["mask"]),
        after_prompt(data["advantages"][:, None].expand(B, T)),
        after_prompt(data["old"]),
        1 + data["mask"].sum(1),
        torch.ones(B),
        extra,
    )
    loss = method.loss(after_prompt(new_BT), batch, batch.totals())
    return loss, torch.autograd.grad(loss, new_BT)[0]


CASES = {
    "grpo": ({"kl": 0.04}, {"loss_type": "grpo", "beta": 0.04, "high": 0.2}),
    "dr_grpo": ({"problems": 3, "samples": 2, "max_tokens": T}, {"loss_type": "dr_grpo", "high": 0.2}),
    "dapo": ({}, {"loss_type": "dapo"}),
    "reinforce_pp": (
        {},
        {"loss_type": "bnpo", "high": 0.2},
    ),  # the same loss, of advantages whitened in a batch
    "gspo": (
        {"clip": 0.05, "clip_high": 0.07},
        {"loss_type": "grpo", "low": 0.05, "high": 0.07, "importance_sampling_level": "sequence"},
    ),
    "cispo": ({"clip_high": 0.3}, {"loss_type": "cispo", "high": 1.3}),  # TRL's is the cap itself
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("seed", range(20))
def test_a_loss_is_trls(name: str, seed: int) -> None:
    settings, theirs = CASES[name]
    data = drawn(seed)
    loss, gradient_BT = ours(methods.load(name)(**settings), data)
    their_loss, their_gradient_BT = trls(data, **theirs)
    assert loss.item() == pytest.approx(their_loss.item(), abs=1e-5)
    assert gradient_BT.abs().max() > 1e-3 and (gradient_BT - their_gradient_BT).abs().max() < 1e-5
