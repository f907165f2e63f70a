"""Graphed steps agree with eager ones: the kernel as Triton interprets it, and all but the recording itself, on a CPU."""

import pytest
from interpreted import agrees

pytestmark = pytest.mark.peers
pytest.importorskip("triton", reason="triton is absent; `make peers` installs it on Linux")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "width", "room"),
    [(4, 2, 32, 112), (3, 1, 24, 80), (2, 2, 16, 48), (8, 1, 128, 48), (2, 1, 32, 1552)],
    ids=["groups", "no-powers-of-two", "a-head-each", "wide", "in-spans"],
)
def test_the_kernel_is_a_softmax_over_what_is_live_and_reads_no_more(heads, kv_heads, width, room, dtype):
    agrees(f"kernel({heads}, {kv_heads}, {width}, {room}, {dtype!r})")


@pytest.mark.parametrize("count", [1, 6])
@pytest.mark.parametrize("temperature", [1.0, 0.6, 0.0])
def test_graphed_steps_of_a_lone_row_and_of_some_agree_with_eager_ones(count, temperature):
    agrees(f"rows({count}, {temperature})")


@pytest.mark.parametrize("shape", ["", "tied=False", "qk_norm=False, context=90"])
def test_graphed_steps_agree_with_eager_ones_whatever_rows_do(shape):
    agrees(f"whatever_rows_do({shape})")


def test_a_row_alone_and_in_a_batch_agree():
    agrees("alone_and_in_a_batch()")


def test_a_loop_serves_a_count_of_rows_until_the_cache_moves():
    agrees("loops()")


def test_what_is_measured_on_a_gpu_runs_through():
    agrees("bench()")
