"""TRL's distillation losses on random batches: GKD's generalised JSD and SDPO's, value and gradient (TRL 1.16).

That TRL has no PPO trainer any more, so its clipped policy and value losses are held to golden numbers alone.
"""

import pytest
import torch
from torch import Tensor

pytestmark = pytest.mark.peers
pytest.importorskip("trl", reason="trl is absent; `make peers` installs it")

from trl.experimental.gkd.gkd_trainer import GKDTrainer  # noqa: E402
from trl.experimental.sdpo import loss_utils  # noqa: E402

from nanoschool.stepwise import generalised_jsd, kl, with_tail  # noqa: E402


def logits(seed: int, batch: int = 3, length: int = 7, vocab: int = 50) -> tuple[Tensor, Tensor, Tensor]:
    """Of a student and a teacher, (B, T, V), and a mask of some tokens."""
    random = torch.Generator().manual_seed(seed)
    student, teacher = 3 * torch.randn(2, batch, length, vocab, generator=random, dtype=torch.float64)
    mask = torch.rand(batch, length, generator=random) < 0.7
    return student.requires_grad_(), teacher, mask


def same(ours: Tensor, theirs: Tensor, student: Tensor) -> None:
    assert (ours - theirs).abs().max() < 1e-5
    one, other = (torch.autograd.grad(x.mean(), student, retain_graph=True)[0] for x in (ours, theirs))
    assert (one - other).abs().max() < 1e-5 and one.abs().max() > 1e-4


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("temperature", [1.0, 0.9])
@pytest.mark.parametrize("beta", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_gkds_generalised_jsd(beta, temperature, seed):
    student, teacher, mask = logits(seed)
    labels = torch.zeros_like(mask, dtype=torch.long).masked_fill(~mask, -100)
    theirs = GKDTrainer.generalized_jsd_loss(
        student,
        teacher,
        labels=labels,
        beta=beta,
        temperature=temperature,
        num_items_in_batch=int(mask.sum()),
    )
    of_student, of_teacher = ((x[mask] / temperature).log_softmax(-1) for x in (student, teacher))
    same(generalised_jsd(of_student, of_teacher, beta).sum() / int(mask.sum()), theirs, student)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("top_k", [1, 10, 49])
def test_sdpos_top_k_with_a_tail(alpha, top_k, seed):
    student, teacher, mask = logits(seed)
    theirs = loss_utils.compute_topk_self_distillation_loss(
        student[mask],
        teacher[mask],
        distillation_topk=top_k,
        distillation_alpha=alpha,
        distillation_add_tail=True,
    )
    of_student, of_teacher = (x[mask].log_softmax(-1) for x in (student, teacher))
    top = of_student.topk(top_k).indices
    same(generalised_jsd(with_tail(of_student, top), with_tail(of_teacher, top), alpha), theirs, student)


@pytest.mark.parametrize("seed", range(3))
def test_sdpos_whole_vocabulary_and_its_sampled_tokens_gradient(seed):
    student, teacher, mask = logits(seed)
    of_student, of_teacher = (x[mask].log_softmax(-1) for x in (student, teacher))
    theirs = loss_utils.compute_full_logit_self_distillation_loss(
        student[mask], teacher[mask], distillation_alpha=1.0
    )
    same(kl(of_student, of_teacher), theirs, student)
