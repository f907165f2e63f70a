"""A run folder with the shape of a real one and made-up but plausible numbers, for the tests of the report."""

import json
import math
import random
from pathlib import Path

WORLDS = ("chain", "sums", "rules", "facts")
CHAT = {  # accuracy after pretrain, sft and rl
    "chain": (0.004, 0.34, 0.915),
    "sums": (0.002, 0.91, 0.93),
    "rules": (0.0, 0.999, 1.0),
    "facts": (0.0, 0.62, 0.6),
}
BASE = {"chain": {"worked": 0.86, "direct": 0.07}, "sums": {"worked": 0.96, "direct": 0.31}}
CONFIG = """name = "synthetic"
preset = "laptop"
seed = 1
stages = ["pretrain", "sft", "rl"]

[model]
depth = 4
context = 256

[pretrain]
budget = "flops=4e12"
text = "a <b> & \\"c\\""

[rl]
env = "chain"
samples = 16
temperature = 1.0
"""


def estimate(mean: float, n: int = 400) -> dict:
    half = 1.96 * math.sqrt(max(mean * (1 - mean), 0.002) / n)
    return {"mean": mean, "low": max(0.0, mean - half), "high": min(1.0, mean + half), "n": n}


def world(name: str, place: int) -> dict:
    formats = {"chat": estimate(CHAT[name][place]) | {"format_rate": (0.01, 0.998, 1.0)[place]}}
    for form, mean in BASE.get(name, {}).items():
        formats[form] = estimate(max(0.0, mean - 0.1 * place), 200) | {"format_rate": 0.97}
    if name == "chain":
        for form, measured in formats.items():
            reach = {"chat": (0.0, 3.3, 7.4)[place], "worked": 7.2, "direct": 1.2}[form]
            measured["by_length"] = {
                str(length): estimate(1 / (1 + math.exp(2.2 * (length - reach))), 50)
                for length in range(1, 10)
            }
    if name == "facts":
        kinds, shown = ("closed", "two-hop"), (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
        for measured in formats.values():
            measured["by_kind"] = {
                k: estimate(measured["mean"] * s, 200) for k, s in zip(kinds, (1.2, 0.5), strict=True)
            }
            reach = [1 / (1 + math.exp(3 - i)) for i in range(len(shown))]
            measured["by_exposure"] = {
                str(e): {"mean": min(1, measured["mean"] * r * 1.5), "n": 36}
                for e, r in zip(shown, reach, strict=True)
            }
    return formats


def stage(place: int) -> dict:
    return {
        "dev_bytes": 4012,
        "dev_bits_per_byte": (1.412, 1.431, 1.44)[place],
        "gate": {
            "accuracy": 0.9985, "shuffled": 0.127, "books": 1000, "tokens": 8000, "chance": 0.125, "passed": True,
            "estimates": {"accuracy": {"mean": 0.9985, "low": 0.9937, "high": 0.9996, "n": 1000}},
        },
        "worlds": {name: world(name, place) for name in WORLDS},
        "passk_format": {"chain": ("worked", "chat", "chat")[place]},
        "passk": {
            "chain": {
                "pass@1": estimate((0.01, 0.29, 0.84)[place], 100),
                "pass@4": estimate((0.03, 0.45, 0.95)[place], 100),
                "pass@16": estimate((0.08, 0.61, 0.98)[place], 100),
            }
        },
    }  # fmt: skip


def summary() -> dict:
    return {
        "name": "synthetic", "seed": 1, "version": "0.1.0", "parameters": 1_204_224, "vocab": 1024, "context": 256,
        "device": "cpu", "threads": 2, "torch": "2.13.0",
        "seconds": {"pretrain": 301.2, "sft": 45.5, "rl": 184.0, "evaluation": 63.0, "total": 593.7},
        "worlds": {"chain": "chains of assignments, worked out <step> by step.", "sums": "column by column."},
        "stages": {name: stage(place) for place, name in enumerate(("pretrain", "sft", "rl"))},
        "gain": {
            "world": "chain", "from": "sft", "to": "rl", "n": 400, "before": 0.34, "after": 0.915,
            "difference": {"mean": 0.575, "low": 0.525, "high": 0.624, "n": 400},
            "best_before": {"stage": "pretrain", "format": "worked", **estimate(0.86, 200)},
            "beyond": {"mean": 0.055, "low": 0.011, "high": 0.098, "n": 200},
            "verdict": "beyond the base",
        },
        "compression": {"bytes": 1_843_221, "model": 1.912, "xz -9e": 2.304, "gzip -9": 3.011},
    }  # fmt: skip


def steps(rng: random.Random) -> list[dict]:
    rows = []
    for name, count in (("pretrain", 560), ("sft", 120), ("rl", 56)):
        for step in range(1, count + 1):
            t = step / count
            metrics: dict = {"lr": 0.02 * (1 - t)}
            dev: dict = {}
            every = {"pretrain": 40, "sft": 20, "rl": 7}[name]
            if name == "rl":
                dead = 0.15 + 0.5 * t
                metrics |= {
                    "reward": 0.3 + 0.6 * (1 - math.exp(-5 * t)) + rng.gauss(0, 0.03),
                    "entropy": 0.31 * math.exp(-2 * t) + 0.03 + rng.gauss(0, 0.008),
                    "zero_variance": max(0.0, min(1.0, dead + rng.gauss(0, 0.05))),
                    "answer_tokens": 24 + 14 * (1 - math.exp(-4 * t)) + rng.gauss(0, 1),
                    "loss": rng.gauss(0, 0.05),
                }
                if step % every == 0:
                    dev = {
                        "score": 0.34 + 0.56 * (1 - math.exp(-6 * t)),
                        "chain": 0.9,
                        "problems": 64,
                        "bits_per_byte": 1.436,
                    }
            else:
                start, end = {"pretrain": (6.9, 1.05), "sft": (1.3, 0.21)}[name]
                level = end + (start - end) * math.exp(-7 * t)
                metrics["loss"] = level * (1 + rng.gauss(0, 0.05))
                if step % every == 0:
                    dev = {
                        "loss": level * 1.03,
                        "tokens": 2048,
                        "bytes": 4012,
                        "bits_per_byte": level * 1.35 if name == "pretrain" else 1.43,
                    }
            row = {
                "stage": name,
                "step": step,
                "progress": t,
                "seconds": 0.3 * step,
                "spent": {"flops": 1e9 * step},
            }
            rows.append(row | {"metrics": metrics})
            if dev:  # a look at dev is a line of its own
                rows.append({key: row[key] for key in ("stage", "step", "seconds", "spent")} | {"dev": dev})
    return rows


def samples() -> list[dict]:
    asks = {
        "chain": ("a=3; b=a+4; c=b*2; c=?", "a=3, b=3+4=7,\n c=7*2=14 #14"),
        "sums": ("<b>47+38=?</b> & more", "7+8=15 4+3+1=8 #85"),
    }
    rows = []
    for place, stage_name in enumerate(("pretrain", "sft", "rl")):
        for world_name, (prompt, reply) in asks.items():
            for way in ("chat", "worked") if stage_name == "pretrain" else ("chat",):
                for problem in range(3):
                    tokens = [*reply, "<|end|>"]
                    rows.append(
                        {
                            "stage": stage_name,
                            "world": world_name,
                            "way": way,
                            "prompt": f"{problem}. {prompt}",
                            "reply": reply,
                            "reward": float(way == "worked" or place > 0),
                            "tokens": tokens,
                            "probabilities": [
                                0.02 + 0.97 * abs(math.sin(i + place)) for i in range(len(tokens))
                            ],
                        }
                    )
    return rows


def ledger() -> dict:
    def cost(
        flops: float, tokens: int, sampled: int = 0, trained: int = 0, rollouts: int = 0, bits: float = 0.0
    ) -> dict:
        return dict(
            flops=flops, tokens=tokens, sampled=sampled, trained=trained, rollouts=rollouts, bits=bits
        )

    return {
        "pretrain/fit": cost(3.1e13, 4_587_520, trained=4_587_520),
        "pretrain/evaluate": cost(2.2e12, 612_000, sampled=401_000, rollouts=9_000),
        "sft/fit": cost(1.4e12, 210_000, trained=180_000),
        "rl/sample": cost(2.9e12, 801_000, sampled=520_000, rollouts=16_128, bits=9_213.5),
        "rl/fit": cost(5.6e12, 801_000, trained=520_000),
    }


def write_run(folder: Path) -> Path:
    """Write a whole, finished run under `folder` and return it."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = steps(random.Random(0))
    (folder / "config.toml").write_text(CONFIG)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples()))
    (folder / "ledger.json").write_text(json.dumps(ledger()))
    (folder / "summary.json").write_text(json.dumps(summary()))
    return folder
