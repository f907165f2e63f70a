"""Our preference losses against TRL's own code, on random batches: what its trainers compute is what ours do.

TRL's loss methods are called on a stand-in for the trainer and for the model, which says random log-probabilities.
"""

from collections import defaultdict
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from nanoschool import methods
from nanoschool.methods.pairwise import Replies
from nanoschool.preference import bradley_terry, kto, off_centre, orpo, simpo

pytestmark = pytest.mark.peers
trl = pytest.importorskip("trl", reason="trl is absent; `make peers` installs it")
P, T, PROMPT = 7, 12, 4  # pairs, tokens of a row, of which the prompt
SAME = dict(rtol=1e-5, atol=1e-5)


def same(value: Any) -> Any:
    return value


HERE = SimpleNamespace(device="cpu", gather_for_metrics=same, gather=same)


def trainer(**settings: Any) -> SimpleNamespace:
    """What TRL's losses ask of `self`."""
    return SimpleNamespace(
        model=SimpleNamespace(training=True),
        accelerator=HERE,
        aux_loss_enabled=False,
        precompute_ref_logps=False,
        args=SimpleNamespace(gradient_checkpointing_kwargs=None, gradient_checkpointing=False, **settings),
        _metrics=defaultdict(lambda: defaultdict(list)),
        _total_train_tokens=0,
        _tp_size=1,
        **settings,
    )


class Says:
    """A model whose log-probabilities are given: (B, T - 1), 0 outside the replies, as TRL's fused head has them."""

    def __init__(self, logprobs: Tensor) -> None:
        self.logprobs = logprobs

    def __call__(self, **inputs: Any) -> SimpleNamespace:
        flat = torch.zeros_like(self.logprobs)
        return SimpleNamespace(
            log_probs=self.logprobs, entropy=flat, mean_logits=flat, is_top1=flat.bool(), logits=None
        )


def batch(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Mask (2P, T), log-probabilities of policy and reference (2P, T - 1); chosen rows first."""
    random = torch.Generator().manual_seed(seed)
    lengths = torch.randint(1, T - PROMPT + 1, (2 * P,), generator=random)
    at = torch.arange(T)[None]
    mask = (at >= PROMPT) & (at < PROMPT + lengths[:, None])
    policy, reference = (-4 * torch.rand(2 * P, T - 1, generator=random) * mask[:, 1:] for _ in range(2))
    return mask, policy, reference


def as_replies(mask: Tensor, policy: Tensor, reference: Tensor) -> Replies:
    return Replies(policy.sum(1), reference.sum(1), mask.sum(1).float())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("beta", [0.05, 0.5])
@pytest.mark.parametrize("name, theirs", [("dpo", "sigmoid"), ("ipo", "ipo"), ("cdpo", "aot")])
def test_dpo_and_its_kin(
    name: str, theirs: str, beta: float, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """cDPO: TRL 1 smooths labels in its `aot` alone, on sorted margins: one pair at a time sorts nothing."""
    mask, policy, reference = batch(seed)
    method = methods.load(name)(**({"tau": beta} if name == "ipo" else {"beta": beta}))
    said = as_replies(mask, policy, reference)
    ours = method.objective(said.rows(torch.arange(P)), said.rows(torch.arange(P, 2 * P)))
    for rows in [torch.arange(2 * P)] if name != "cdpo" else [torch.tensor([i, P + i]) for i in range(P)]:
        stand_in = trainer(
            loss_types=[theirs],
            loss_weights=[1.0],
            beta=beta,
            label_smoothing=0.1 if name == "cdpo" else 0.0,
            ld_alpha=None,
            f_divergence_type="reverse_kl",
            use_weighting=False,
        )
        stand_in.ref_model = Says(reference[rows])
        inputs = {
            "input_ids": torch.zeros(len(rows), T, dtype=torch.int64),
            "attention_mask": torch.ones(len(rows), T),
            "completion_mask": mask[rows].long(),
        }
        monkeypatch.setattr("trl.trainer.dpo_trainer.is_peft_model", lambda model: False)
        monkeypatch.setattr(
            "trl.trainer.dpo_trainer.disable_gradient_checkpointing", lambda *_: torch.no_grad()
        )
        loss = trl.DPOTrainer._compute_loss(stand_in, Says(policy[rows]), inputs, return_outputs=False)
        mine = ours[rows[rows < P]].mean()
        torch.testing.assert_close(mine, loss, **SAME)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", [(1.0, 1.0), (1.3, 0.7)])
def test_kto(weights: tuple[float, float], seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    mask, policy, reference = batch(seed)
    elsewhere, elsewhere_reference = policy.roll(1, 0) + 0.3, reference.roll(1, 0)
    good = torch.rand(2 * P, generator=torch.Generator().manual_seed(seed)) < 0.6
    stand_in = trainer(
        beta=0.1,
        loss_type="kto",
        calculate_KL=True,
        desirable_weight=weights[0],
        undesirable_weight=weights[1],
    )
    stand_in.ref_model = Says(reference)
    mismatched = {id(stand_in.ref_model): elsewhere_reference}
    stand_in._compute_kl_logps = lambda model, batch: mismatched.get(id(model), elsewhere).sum(1)
    inputs = {
        "input_ids": torch.zeros(2 * P, T, dtype=torch.int64),
        "attention_mask": torch.ones(2 * P, T),
        "completion_mask": mask.long(),
        "label": good,
    }
    monkeypatch.setattr("trl.trainer.kto_trainer.is_peft_model", lambda model: False)
    monkeypatch.setattr("trl.trainer.kto_trainer.disable_gradient_checkpointing", lambda *_: torch.no_grad())
    loss = trl.KTOTrainer._compute_loss(stand_in, Says(policy), inputs, return_outputs=False)
    z = (elsewhere - elsewhere_reference).sum(1).mean().clamp(min=0)
    ours = kto(as_replies(mask, policy, reference).ratios, good, z, 0.1)
    torch.testing.assert_close((torch.where(good, *weights) * ours).mean(), loss, **SAME)


@pytest.mark.parametrize("seed", range(3))
def test_orpo(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The odds ratio; TRL's imitation term is over prompt and reply, ours the reply's mean."""
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.orpo import ORPOTrainer

    means = as_replies(*batch(seed)).means - 0.01
    chosen, rejected = means[:P], means[P:]
    ratio = ORPOTrainer.odds_ratio_loss(SimpleNamespace(beta=0.1, accelerator=HERE), chosen, rejected)[0]
    torch.testing.assert_close(orpo(chosen, rejected, 0.1), -chosen - ratio, **SAME)


@pytest.mark.parametrize("seed", range(3))
def test_simpo_and_cpos_label_smoothing(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    from trl.experimental.cpo import CPOTrainer

    from nanoschool.preference import cdpo

    means = as_replies(*batch(seed)).means
    chosen, rejected = means[:P], means[P:]
    plain = SimpleNamespace(alpha=0.0, beta=2.0, simpo_gamma=1.0, label_smoothing=0.0, accelerator=HERE)
    losses = CPOTrainer.cpo_loss(SimpleNamespace(loss_type="simpo", **vars(plain)), chosen, rejected)[0]
    torch.testing.assert_close(simpo(chosen, rejected, 2.0, 1.0), losses, **SAME)
    plain.label_smoothing = 0.1  # against no reference, cDPO's loss is this one
    losses = CPOTrainer.cpo_loss(SimpleNamespace(loss_type="sigmoid", **vars(plain)), chosen, rejected)[0]
    torch.testing.assert_close(cdpo(chosen, rejected, 2.0, 0.1), losses, **SAME)


@pytest.mark.parametrize("seed", range(3))
def test_reward_model(seed: int) -> None:
    scores = torch.randn(2 * P, generator=torch.Generator().manual_seed(seed))
    stand_in = trainer(center_rewards_coefficient=0.01)
    margin = torch.rand(P, generator=torch.Generator().manual_seed(seed))

    def model(**inputs: Any) -> SimpleNamespace:
        return SimpleNamespace(logits=scores[:, None])

    inputs = {"attention_mask": torch.ones(2 * P, T), "margin": margin}
    loss = trl.RewardTrainer.compute_loss(stand_in, model, inputs)
    chosen, rejected = scores[:P], scores[P:]
    ours = bradley_terry(chosen, rejected, margin) + 0.01 * off_centre(chosen, rejected)
    torch.testing.assert_close(ours.mean(), loss, **SAME)
