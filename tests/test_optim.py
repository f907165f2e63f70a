"""Optimizers: Muon's orthogonal steps, the clip, rates that follow the scale, and a state that resumes bitwise."""

import pytest
import safetensors.torch
import torch
from tiny import same, tiny, trajectories, weights

from nanoschool.core.optim import Muon, Optimizer, adamw, muon_adamw, orthogonal
from nanoschool.core.policy import Policy

MAKERS = {
    "muon_adamw": lambda model: muon_adamw(model, lr=0.02, embedding_lr=0.03, gain_lr=0.003),
    "adamw": lambda model: adamw(model, lr=1e-3, betas=(0.9, 0.95)),
}


@pytest.mark.parametrize("shape", [(3, 20, 20), (2, 48, 16), (2, 16, 48)])
def test_newton_schulz_flattens_singular_values(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    singular = torch.linalg.svdvals(orthogonal(x))
    assert x.shape == orthogonal(x).shape
    assert singular.max() < 1.3 and singular.median() > 0.6
    u, _, vh = torch.linalg.svd(x, full_matrices=False)
    likeness = (orthogonal(x) * (u @ vh)).sum((1, 2)) / singular.norm(dim=1) / (u @ vh).norm(dim=(1, 2))
    assert (likeness > 0.95).all(), "it points where the nearest orthogonal matrix does"
    assert torch.allclose(orthogonal(x * 1e3), orthogonal(x), atol=1e-4)


def test_matrices_of_one_shape_are_stepped_as_if_alone():
    gradients = [torch.randn(8, 12, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    together = [torch.nn.Parameter(torch.zeros(8, 12)) for _ in gradients]
    for p, grad in zip(together, gradients, strict=True):
        p.grad = grad
    Muon(together, lr=0.1).step()
    for p, grad in zip(together, gradients, strict=True):
        alone = torch.nn.Parameter(torch.zeros(8, 12))
        alone.grad = grad
        Muon([alone], lr=0.1).step()
        assert torch.allclose(p, alone, atol=1e-6)
        assert p.detach().norm() == pytest.approx(0.1 * 8**0.5, rel=0.2), (
            "an orthogonal step has a size of its own"
        )


def test_muon_is_torchs():
    """Which orthogonalises in bfloat16: directions agree to its rounding, where another momentum would not."""
    start = torch.randn(16, 24, generator=torch.Generator().manual_seed(7))
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    mine = Muon([ours], lr=0.1, momentum=0.8)
    reference = torch.optim.Muon([theirs], lr=0.1, momentum=0.8, weight_decay=0.0, nesterov=True)
    for step in range(4):
        ours.grad = torch.randn(16, 24, generator=torch.Generator().manual_seed(step))
        theirs.grad = ours.grad.clone()
        mine.step()
        reference.step()
    assert (ours - theirs).norm() < 0.02 * (ours - start).norm()


def test_muon_takes_the_layers_matrices_and_adamw_the_rest():
    for tied in (True, False):
        model = tiny(depth=2, tied=tied).model
        muon, rest = muon_adamw(model, 0.02, 0.03, 0.003).parts
        names = {id(p): name for name, p in model.named_parameters()}
        mine = [names[id(p)] for p in muon.param_groups[0]["params"]]
        others = [[names[id(p)] for p in group["params"]] for group in rest.param_groups]
        assert sorted([*mine, *others[0], *others[1]]) == sorted(names.values()), "each parameter once"
        assert all(name.endswith("proj.weight") for name in mine) and len(mine) == 14
        assert others[0] == ["model.embed_tokens.weight"] and ("lm_head.weight" in others[1]) == (not tied)


def run(policy: Policy, steps: range) -> None:
    for step in steps:
        policy.fit(trajectories(policy, [20, 9, 14], seed=step), scale=1.0 - 0.2 * step)


@pytest.mark.parametrize("maker", MAKERS)
def test_a_resume_is_bitwise_the_uninterrupted_run(maker):
    whole, broken = tiny(depth=2), tiny(depth=2)
    for policy in (whole, broken):
        policy.optimizer = MAKERS[maker](policy.model)
    run(whole, range(3))
    run(broken, range(2))
    assert broken.optimizer is not None
    saved = safetensors.torch.save({name: t.contiguous() for name, t in broken.optimizer.state().items()})
    resumed = tiny(depth=2, seed=9)
    resumed.model.load_state_dict(weights(broken))
    resumed.optimizer = MAKERS[maker](resumed.model)
    resumed.optimizer.restore(safetensors.torch.load(saved))
    run(resumed, range(2, 3))
    assert same(weights(resumed), weights(whole))
    assert whole.optimizer is not None
    assert same(resumed.optimizer.state(), whole.optimizer.state()) and whole.optimizer.state()

    forgetful = tiny(depth=2)
    forgetful.model.load_state_dict(weights(broken))
    forgetful.optimizer = MAKERS[maker](forgetful.model)
    run(forgetful, range(2, 3))
    assert not same(weights(forgetful), weights(whole)), "the state matters"


@pytest.mark.parametrize("maker", MAKERS)
def test_a_scale_of_nothing_changes_nothing(maker):
    policy = tiny()
    policy.optimizer = MAKERS[maker](policy.model)
    before = weights(policy)
    policy.fit(trajectories(policy, [12, 8]), scale=0.0)
    assert same(weights(policy), before)
    policy.fit(trajectories(policy, [12, 8]), scale=1.0)
    after = weights(policy)
    assert not any(torch.equal(before[name], after[name]) for name in before), "every parameter learns"


def test_the_clip_bounds_the_gradient_and_reports_it_unclipped():
    p = torch.nn.Parameter(torch.zeros(4))
    optimizer = Optimizer([torch.optim.SGD([p], lr=1.0)], clip=0.5)
    p.grad = torch.tensor([3.0, 4.0, 0.0, 0.0])
    assert optimizer.step(2.0) == pytest.approx(5.0)
    assert p.detach().tolist() == pytest.approx([-0.6, -0.8, 0, 0], rel=1e-4), (
        "clipped to .5, at twice the rate"
    )
    p.grad = torch.tensor([0.1, 0.0, 0.0, 0.0])
    optimizer.step(1.0)
    assert p.detach()[0].item() == pytest.approx(-0.7, rel=1e-4) and p.grad is None
