"""live_attention: one new token a row against its own cache and no more of it, as a Triton kernel for CUDA.

A program takes one row's one key-value head with the query heads that share it, and goes over the positions that the
row has, a block at a time, with a running softmax in float32 (2205.14135). Lengths are read on the device, so a launch
that was recorded once serves rows of all lengths. Where rows and heads are too few to fill a GPU, a cache is cut into spans
with programs of their own, whose results are joined by their weights (Flash-Decoding).
Shapes: B rows (row i in slot i), S slots, H query heads, G key-value heads, R of the first to one of the second, K head
width, T positions of the cache, C spans; X and Y are R and K rounded up to powers of two, N positions of a block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

ALIGNED = 16  # positions are read in multiples of it, which lets a thread take 16 bytes at once
PROGRAMS = 512  # about four for each multiprocessor of a large GPU
SHORTEST = 512  # positions of a span at least: joining them takes as long as these
BLOCK = 64  # positions that a program takes at once, fewer where heads are many or wide
TILE = 4096  # products of queries and keys that a warp holds at once without spilling
WARPS = 1  # of a program: sums of one warp need no barrier


@triton.jit
def _attend(
    q_BHK,
    keys_SGKT,
    values_SGTK,
    at_B,
    out_BCHK,
    weight_BCH,  # the logarithm of what the softmax divides by
    pitch,  # from a row's queries to the next one's; heads lie side by side
    room,  # T
    G: tl.constexpr,
    R: tl.constexpr,
    K: tl.constexpr,
    X: tl.constexpr,
    Y: tl.constexpr,
    N: tl.constexpr,
    SPAN: tl.constexpr,
    ALIGNED: tl.constexpr,
):
    row, g, span = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.program_id(2)
    length = tl.load(at_B + row).to(tl.int32) + 1
    past = tl.minimum((length + ALIGNED - 1) // ALIGNED * ALIGNED, (span + 1) * SPAN)
    x, y = tl.arange(0, X), tl.arange(0, Y)
    heads_XY = (x[:, None] < R) & (y[None, :] < K)
    at_XY = (g * R + x[:, None]) * K + y[None, :]
    q_XY = tl.load(q_BHK + row * pitch + at_XY, mask=heads_XY, other=0.0)
    keys_KT = keys_SGKT + (row * G + g) * K * room
    values_TK = values_SGTK + (row * G + g) * K * room
    highest_X = tl.full((X,), float("-inf"), tl.float32)
    total_X = tl.zeros((X,), tl.float32)
    sum_XY = tl.zeros((X, Y), tl.float32)
    # every block has a live position, for N is a multiple of ALIGNED
    for start in tl.range(span * SPAN, past, N, num_stages=3):
        n = start + tl.arange(0, N)
        keys_YN, values_NY = y[:, None] * room + n[None, :], n[:, None] * K + y[None, :]
        k_YN = tl.load(keys_KT + keys_YN, mask=(y[:, None] < K) & (n[None, :] < past), other=0.0)
        v_NY = tl.load(values_TK + values_NY, mask=(n[:, None] < past) & (y[None, :] < K), other=0.0)
        score_XN = tl.sum(q_XY[:, :, None] * k_YN.to(tl.float32)[None, :, :], axis=1)
        score_XN = tl.where(n[None, :] < length, score_XN, float("-inf"))
        higher_X = tl.maximum(highest_X, tl.max(score_XN, axis=1))
        p_XN = tl.exp(score_XN - higher_X[:, None])
        fade_X = tl.exp(highest_X - higher_X)
        total_X = total_X * fade_X + tl.sum(p_XN, axis=1)
        sum_XY = sum_XY * fade_X[:, None] + tl.sum(p_XN[:, :, None] * v_NY.to(tl.float32)[None, :, :], axis=1)
        highest_X = higher_X
    total_X = tl.maximum(total_X, 1e-30)  # it is 0 in a span that the row does not reach
    part = row * tl.num_programs(2) + span
    tl.store(out_BCHK + part * (G * R * K) + at_XY, sum_XY / total_X[:, None], mask=heads_XY)
    tl.store(weight_BCH + part * (G * R) + g * R + x, highest_X + tl.log(total_X), mask=x < R)


def attend(q_BHK: Tensor, keys_SGKT: Tensor, values_SGTK: Tensor, at_B: Tensor) -> Tensor:
    """Attention of row i's new token to positions 0 to `at_B[i]` of slot i, (B, H, K) in float32; q is scaled already.

    The cache has ALIGNED positions more than any row: they are read, at no weight.
    """
    (B, H, K), G, T = q_BHK.shape, keys_SGKT.shape[1], keys_SGKT.shape[3]
    assert q_BHK.stride()[1:] == (K, 1) and keys_SGKT.is_contiguous() and values_SGTK.is_contiguous()
    X, Y = triton.next_power_of_2(H // G), triton.next_power_of_2(K)
    N = max(ALIGNED, min(BLOCK, TILE // (X * Y)))
    tile = X * Y * N
    each = triton.cdiv(T - ALIGNED, max(1, PROGRAMS // (B * G)))
    span = max(SHORTEST, triton.next_power_of_2(each))
    C = triton.cdiv(T - ALIGNED, span)
    out_BCHK = q_BHK.new_empty(B, C, H, K)
    weight_BCH = q_BHK.new_empty(B, C, H)
    _attend[B, G, C](
        q_BHK,
        keys_SGKT,
        values_SGTK,
        at_B,
        out_BCHK,
        weight_BCH,
        q_BHK.stride(0),
        T,
        G,
        H // G,
        K,
        X,
        Y,
        N,
        span,
        ALIGNED,
        num_warps=WARPS if tile <= TILE else 2 * WARPS * tile // TILE,
    )
    if C == 1:
        return out_BCHK[:, 0]
    return (weight_BCH.softmax(1)[..., None] * out_BCHK).sum(1)


_operators = torch.library.Library("nanoschool", "FRAGMENT")
_operators.define("attend(Tensor q, Tensor keys, Tensor values, Tensor at) -> Tensor")
_operators.impl("attend", attend, "CUDA")
_operators.impl("attend", attend, "CPU")  # where Triton interprets
_operators.impl("attend", lambda q_BHK, keys, values, at_B: q_BHK.new_empty(q_BHK.shape), "Meta")
