"""measure: what a policy can do, by greedy answers, pass@k, the reading gate and bits per byte. Nothing here trains.

Each world is asked in the chat format, and in every answer format of the text it was read in, so that a model that
has only read is not blamed for a format that it has never seen.
"""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

from nanoschool.core.batch import Batch
from nanoschool.core.policy import Policy
from nanoschool.evals.passk import mean_pass_at_k
from nanoschool.evals.stats import bounded_mean, mean_interval, proportion
from nanoschool.rollout import alone, rollout
from nanoschool.types import Environment, HasCompletions, Task, Trajectory, UserError

GREEDY = 0.0


def ways(env: Environment) -> list[str]:
    """How a world can be put: "chat", and the answer formats of its text."""
    return ["chat", *(env.formats if isinstance(env, HasCompletions) else ())]


def answers(
    policy: Policy,
    env: Environment,
    tasks: Sequence[Task],
    way: str = "chat",
    *,
    samples: int = 1,
    temperature: float = GREEDY,
    max_tokens: int = 96,
    seed: int = 0,
) -> list[Trajectory]:
    """Attempts at tasks put one way; greedy unless a temperature is given."""
    play = env.play
    if way != "chat":
        if not isinstance(env, HasCompletions) or way not in env.formats:
            raise UserError(f"world {env.name!r} cannot be asked as {way!r}, only as {', '.join(ways(env))}")
        play = partial(env.complete, format=way)
    return rollout(
        policy,
        env,
        tasks,
        samples=samples,
        temperature=temperature,
        max_tokens=max_tokens,
        seed=seed,
        play=alone(env, play),
    )


def rewards(trajectories: Sequence[Trajectory]) -> list[float]:
    return [float(t.rewards or 0.0) for t in trajectories]


def accuracy(trajectories: Sequence[Trajectory]) -> dict:
    """Mean reward with its interval, also by what the world counts (length, kind, exposure, level), and the share of
    well-formed replies where the world says which are."""
    scores = rewards(trajectories)
    out: dict[str, Any] = estimate(scores, scores)
    told = [t for t in trajectories if "wellformed" in t.info]
    if told:
        formed = sum(bool(t.info["wellformed"]) and t.stop_reason != "length" for t in told)
        out["format_rate"] = formed / len(told)
    for by in ("length", "kind", "exposure", "level"):
        groups: dict = {}
        for trajectory, score in zip(trajectories, scores, strict=True):
            if by in trajectory.info:
                groups.setdefault(trajectory.info[by], []).append(score)
        if groups:
            out[f"by_{by}"] = {str(kind): estimate(some, scores) for kind, some in sorted(groups.items())}
    return out


def estimate(scores: Sequence[float], paid: Sequence[float]) -> dict:
    """The mean of `scores` with its interval and n; `paid` are all the rewards that the world paid, these among them.

    More than two values: a bootstrap. Two: the share of the larger, scaled. All alike: nothing varies, but the next
    problem may earn any other reward that the world paid, so Wilson's interval over their range; where the world paid
    only 0, or only 1, the other of the two is taken to be possible. Where it paid one reward that is neither, nothing
    bounds the next, and only the mean and n are stated.
    """
    values = set(scores)
    if len(values) > 2:
        return mean_interval(scores).to_json()
    if len(values) == 1:
        values = set(paid)
    if values <= {0.0, 1.0}:
        values = {0.0, 1.0}
    if len(values) == 1:
        return {"mean": scores[0], "n": len(scores)}
    return bounded_mean(scores, min(values), max(values)).to_json()


def sampled(
    policy: Policy,
    env: Environment,
    tasks: Sequence[Task],
    way: str,
    attempts: int,
    max_tokens: int = 96,
    seed: int = 0,
    temperature: float = 1.0,
) -> list[list[float]]:
    """The rewards of `attempts` at each task."""
    trajectories = answers(
        policy, env, tasks, way, samples=attempts, temperature=temperature, max_tokens=max_tokens, seed=seed
    )
    scores = rewards(trajectories)
    return [scores[i : i + attempts] for i in range(0, len(scores), attempts)]


def pass_at(groups: Sequence[Sequence[float]]) -> dict:
    """pass@1 and pass@k of k attempts at each problem, unbiased, with intervals over problems."""
    attempts = len(groups[0])
    counts = [sum(score >= 1.0 for score in group) for group in groups]
    return {f"pass@{k}": mean_pass_at_k(counts, attempts, k).to_json() for k in sorted({1, attempts})}


def read_rows(
    policy: Policy, rows: Sequence[tuple[list[int], list[bool]]], rows_a_pass: int = 64
) -> tuple[float, float, int]:
    """Teacher-forced reading of (tokens, scored) rows: (share predicted right, nats, scored tokens)."""
    right, nats, count = 0, 0.0, 0
    for first in range(0, len(rows), rows_a_pass):
        some = rows[first : first + rows_a_pass]
        blank = [[0.0] * len(tokens) for tokens, _ in some]
        batch = Batch.of([Trajectory(t, m, b, b) for (t, m), b in zip(some, blank, strict=True)])
        logprobs_BT, likeliest_BT = (x.cpu() for x in policy.predict(batch))
        right += int((likeliest_BT == batch.tokens)[batch.mask].sum())
        nats -= float(logprobs_BT[batch.mask].double().sum())
        count += int(batch.mask.sum())
    return right / count, nats, count


def reading_gate(policy: Policy, env, books: int, seed: int = 0) -> dict:
    """Token accuracy on unseen rule-books in the prompt, and with each book's outputs shuffled (passed over 99 %).

    `env` has `gate_rows(count, seed, shuffled)` and `symbols()`; each symbol must be one token, or it means nothing.
    """
    encode = policy.tokenizer.encode
    split = [symbol for symbol in env.symbols() if len(encode(symbol)) != 1]
    out: dict = {"books": books, "split_symbols": split, "estimates": {}}
    for name, shuffled in (("accuracy", False), ("shuffled", True)):
        rows = []
        documents, out["chance"] = env.gate_rows(books, seed, shuffled)  # the shuffled books' comes last
        for document in documents:
            tokens, mask = [policy.tokenizer.bos], [False]
            for text, scored in document:
                piece = encode(text)
                tokens += piece
                mask += [scored] * len(piece)
            rows.append((tokens, mask))
        out[name], _, out["tokens"] = read_rows(policy, rows)
        # the answers of one book are no independent evidence: n is the books
        out["estimates"][name] = proportion(out[name] * books, books).to_json()
    return out | {"passed": out["accuracy"] > 0.99 and not split and books >= 1000}


def bits_per_byte(policy: Policy, tokens: Sequence[int], stride: int | None = None) -> float:
    """Of a stretch of text that starts with <|bos|>: windows of a full context, each scoring its last `stride` tokens."""
    context = policy.model.config.context
    stride = stride or context // 2
    rows, scored = [], 1
    while scored < len(tokens):
        end = min(scored + (context - 1 if scored == 1 else stride), len(tokens))
        start = max(0, end - context)
        rows.append((list(tokens[start:end]), [False] * (scored - start) + [True] * (end - scored)))
        scored = end
    _, nats, _ = read_rows(policy, rows)
    size = sum(len(policy.tokenizer.token_bytes(t)) for t in tokens if t != policy.tokenizer.bos)
    return nats / math.log(2) / size


def validation(policy: Policy, rows: Sequence[Trajectory]) -> dict[str, Any]:
    """Loss (nats a learned token) and bits per byte of rows not trained on; how many tokens and bytes those are."""
    pairs = [(t.tokens, t.mask) for t in rows]
    right, nats, count = read_rows(policy, pairs)
    size = sum(
        len(policy.tokenizer.token_bytes(token))
        for tokens, mask in pairs
        for token, learned in zip(tokens, mask, strict=True)
        if learned and token != policy.tokenizer.bos
    )
    measured = {"loss": nats / count, "bits_per_byte": nats / math.log(2) / size, "token_accuracy": right}
    return measured | {"tokens": count, "bytes": size}


def transcript(policy: Policy, trajectory: Trajectory) -> dict:
    """One attempt as a reader wants it: the prompt, all that the policy said after it, token by token, each with its
    probability."""
    first = trajectory.mask.index(True) if any(trajectory.mask) else len(trajectory.tokens)
    said = [i for i in range(first, len(trajectory.tokens)) if trajectory.mask[i]]
    return {
        "prompt": policy.tokenizer.decode(trajectory.tokens[:first]),
        "reply": policy.tokenizer.decode([trajectory.tokens[i] for i in said]),
        "reward": trajectory.rewards,
        "tokens": [policy.tokenizer.show(trajectory.tokens[i]) for i in said],
        "probabilities": [round(math.exp(trajectory.logprobs[i]), 4) for i in said],
    }
