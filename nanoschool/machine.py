"""machine: the machine that a run was begun on, kept in its folder, and what that machine computes in a second."""

import copy
import time

import torch

from nanoschool.core import device
from nanoschool.core.batch import Batch
from nanoschool.core.optim import adamw
from nanoschool.core.policy import Policy
from nanoschool.folder import Folder
from nanoschool.ledger import Ledger
from nanoschool.plan import Settings
from nanoschool.types import UserError


def settle(settings: Settings, folder: Folder) -> device.Machine:
    """The machine as the run began on it. Another one cannot repeat its numbers to the bit.

    Raises UserError on another one, unless `settings.allow_inexact`: then machine.json says from what it moved.
    """
    known = folder.read_json("machine.json") if folder.begun else {}
    if folder.begun and "device" not in known:
        raise UserError(
            f"{folder.path / 'machine.json'}: is missing or empty; restore it, or give the run another --name"
        )
    wanted = known or {"device": settings.device, "threads": settings.threads}
    gone = known and known["device"] not in device.available()
    machine = device.choose("auto" if gone else wanted["device"], wanted["threads"])
    now = machine.to_json()
    changed = [key for key, value in now.items() if known and known.get(key) != value]
    if changed and not settings.allow_inexact:
        told = "; ".join(f"{key}: {known.get(key)}, now {now[key]}" for key in changed)
        raise UserError(
            f"{folder.path}: was begun on another machine ({told}), so it cannot go on to the bit; "
            "--allow-inexact goes on all the same and writes that down"
        )
    if changed or not known:
        moved = [*known.get("moved", []), {key: known.get(key) for key in changed}] if known else []
        folder.write_json("machine.json", now | {"moved": moved})
    return machine


def flops_per_second(policy: Policy, folder: Folder) -> float:
    """Measured once and kept, so that a budget in seconds is the same FLOPs after a resume."""
    known = folder.read_json("rate.json")
    if not known:
        known = {"flops_per_second": measured_rate(policy)}
        folder.write_json("rate.json", known)
    return known["flops_per_second"]


def measured_rate(policy: Policy) -> float:
    """FLOP/s of fitting on this machine. Median of five steps; a copy is fitted, so the weights stay as they are."""
    tokens = torch.randint(policy.model.config.vocab, (32, policy.model.config.context))
    ones = torch.ones(tokens.shape)
    mask = ones.bool()
    mask[:, 0] = False
    batch = Batch(tokens, mask, ones, ones * 0, torch.full((32,), tokens.shape[1]), torch.ones(32))
    rates, ledger = [], Ledger()
    twin = Policy(copy.deepcopy(policy.model), policy.tokenizer, ledger)
    twin.optimizer = adamw(twin.model, lr=0.0, betas=(0.9, 0.99))
    for _ in range(5):
        before, clock = ledger.total().flops, time.monotonic()
        twin.fit(batch)
        rates.append((ledger.total().flops - before) / (time.monotonic() - clock))
    return sorted(rates)[2]
