"""subjects: a random model of ours, and transformers' model of the same weights, read from our own export."""

import tempfile
from pathlib import Path
from random import Random

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers.utils import logging

from nanoschool.core import checkpoint
from nanoschool.core.config import ModelConfig
from nanoschool.core.model import GPT
from nanoschool.core.policy import Policy
from nanoschool.core.tokenizer import Tokenizer
from nanoschool.envs import load
from nanoschool.ledger import Ledger

CLOSE = 1e-3  # of the logits, float32
WORLDS = ("rules", "chain", "sums", "facts", "stories")


def policy(depth: int, vocab: int, context: int) -> Policy:
    """A model by the one dial, float32, with a tokenizer of `vocab` pieces trained on the worlds' documents."""
    rng, worlds = Random(0), [load(name) for name in WORLDS]
    texts = ["".join(text for text, _ in world.document(rng)) for world in worlds for _ in range(300)]
    tokenizer = Tokenizer.train(texts, vocab)
    model = GPT(ModelConfig.from_depth(depth, tokenizer.vocab_size, context), seed=1).requires_grad_(False)
    return Policy(model, tokenizer, Ledger())


def exported(ours: Policy) -> PreTrainedModel:
    """The same weights in transformers, float32, SDPA attention. ValueError where its logits are not ours."""
    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as folder:
        path = checkpoint.write(
            Path(folder),
            "exported",
            config=ours.model.config.to_hf(),
            weights=ours.model.state_dict(),
            tokenizer=ours.tokenizer,
            training={},
            state={},
        )
        theirs = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="sdpa")
    tokens = torch.arange(1, 25)[None]
    with torch.inference_mode():
        apart = (theirs(tokens).logits - ours.model.logits(ours.model(tokens))).abs().max()
    if apart > CLOSE:
        raise ValueError(f"transformers' logits are {apart} from ours")
    return theirs.eval()


def size(ours: Policy) -> str:
    c = ours.model.config
    count = sum(p.numel() for p in ours.model.parameters())
    return f"{count / 1e6:.2f}M parameters, vocabulary {c.vocab}, context {c.context}, {ours.sampling.dtype}"
