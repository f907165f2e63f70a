"""RMSNorm and rotary positions: torch's own numbers and gradients."""

import pytest
import torch
import torch.nn.functional as F

from nanoschool.core.config import ModelConfig
from nanoschool.core.model import rope_tables
from nanoschool.core.norm import RMSNorm, rotate

RANDOM = torch.Generator().manual_seed(0)


def gradients(way, *leaves: torch.Tensor) -> list[torch.Tensor]:
    leaves = [leaf.clone().requires_grad_() for leaf in leaves]
    y = way(*leaves)
    y.backward(torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y.dtype))
    return [y.detach(), *(leaf.grad for leaf in leaves)]


@pytest.mark.identities
@pytest.mark.parametrize("shape", [(140, 24), (1, 140, 5, 8), (2, 9, 5, 8)])
def test_the_norm_is_torchs(shape):
    x, gain = 3 * torch.randn(shape, generator=RANDOM), torch.randn(shape[-1], generator=RANDOM)
    x = x[..., :3, :] if len(shape) == 4 else x  # some heads of all, as they lie
    norm = RMSNorm(shape[-1], 1e-3)

    def ours(x, gain):
        del norm.weight
        norm.weight = gain
        return norm(x)

    expected = gradients(lambda x, gain: F.rms_norm(x, gain.shape, gain, 1e-3), x, gain)
    for mine, theirs in zip(gradients(ours, x, gain), expected, strict=True):
        assert torch.allclose(mine, theirs, atol=1e-5)
    rounded = gradients(lambda x, gain: (ours(x, gain), norm(x, torch.bfloat16))[1], x.bfloat16(), gain)
    for mine, theirs in zip(rounded, expected, strict=True):
        assert (mine.float() - theirs).norm() < 0.02 * theirs.norm()
    assert rounded[0].dtype == rounded[1].dtype == torch.bfloat16 and rounded[2].dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_gain_and_angles_of_any_type_are_read_as_they_are(dtype):
    x, norm = torch.randn(1, 9, 2, 8, generator=RANDOM), RMSNorm(8, 1e-6).to(dtype)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (8,), None, 1e-6), rtol=1e-5, atol=1e-5)
    cos, sin = (each[:9, None] for each in rope_tables(ModelConfig.from_depth(1, 100, 32, head_width=8)))
    torch.testing.assert_close(
        rotate(x, (cos.to(dtype), sin.to(dtype))).float(), rotate(x, (cos, sin)), rtol=0, atol=2e-2
    )


@pytest.mark.identities
def test_rotations_keep_length_and_turn_the_two_halves():
    cos, sin = rope_tables(ModelConfig.from_depth(1, 100, 32))
    rope = cos[:20, None], sin[:20, None]
    x = torch.randn(2, 20, 3, cos.shape[1], generator=RANDOM)

    def by_definition(x):
        a, b = x.chunk(2, dim=-1)
        return x * rope[0] + torch.cat((-b, a), dim=-1) * rope[1]

    for mine, theirs in zip(
        gradients(lambda x: rotate(x, rope), x), gradients(by_definition, x), strict=True
    ):
        assert torch.allclose(mine, theirs, atol=1e-6)
    assert torch.allclose(rotate(x, rope).norm(dim=-1), x.norm(dim=-1), atol=1e-5)
    assert rotate(x.bfloat16(), rope).dtype == torch.float32
