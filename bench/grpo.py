"""grpo: a whole step of GRPO, sampling and training, beside TRL's GRPOTrainer on the same weights, prompts and lengths.

16 prompts x 16 samples; replies stop anywhere from 4 to 128 tokens, given so that both do the same work; rewards are
random, so that no advantage is 0. The paper's loss on both sides: a KL term to a reference, one update of AdamW, gradients
clipped to norm 1. TRL trains on rows padded to the longest, in micro-batches; ours is the method's own `step`.
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random

import torch
from transformers import PreTrainedModel, StoppingCriteriaList

from bench import subjects
from bench.duel import Duel
from bench.given import Given
from bench.sampling import CONTEXT, DEPTH, VOCAB, AtLengths
from nanoschool.core.endings import Endings
from nanoschool.core.engine import Session
from nanoschool.core.policy import Policy
from nanoschool.core.row import Row
from nanoschool.methods.base import Learner
from nanoschool.methods.grpo import GRPO

PROMPTS, SAMPLES, LONGEST = 16, 16, 128
KL, LR = 0.04, 1e-6  # so low that the weights stay what they are
MICRO = 64  # rows of TRL's micro-batches


def duels() -> Iterator[Duel]:
    rng = Random(0)
    prompts = ["".join(rng.choices("abcdefgh ", k=rng.randrange(8, 57))) for _ in range(PROMPTS)]
    # log-uniform: half of the replies end within 22 tokens, some run to the limit
    limits = [min(LONGEST, int(4 * 32 ** rng.random())) for _ in range(PROMPTS * SAMPLES)]
    policy = subjects.policy(DEPTH, VOCAB, CONTEXT)
    theirs = subjects.exported(policy)
    step, other = ours(policy, prompts, limits), trl(policy, theirs, prompts, limits)
    mean = sum(limits) / len(limits)
    about = f"{PROMPTS} prompts x {SAMPLES}, replies of 4 to {LONGEST}, mean {mean:.0f}; {subjects.size(policy)}, AdamW"
    yield Duel("GRPO step", about, step, other, "TRL's GRPOTrainer", 5, unit="replies/s")


# -- ours --------------------------------------------------------------------------------------------------------------


class Limited(Session):
    """No token ends a reply; the i-th fork ends at the i-th length."""

    def __init__(self, policy: Policy, seed: int, temperature: float, limits: Sequence[int]) -> None:
        super().__init__(policy.model, policy.tokenizer, policy.ledger, seed, temperature)
        self.endings, self.limits = Endings(policy.tokenizer, policy.model.config.vocab, ()), iter(limits)

    def fork(self, row: Row, *, key: int) -> Row:
        twin = super().fork(row, key=key)
        twin.end = twin.turn + next(self.limits)
        return twin


class Bounded(Policy):
    limits: Sequence[int] = ()

    def open(self, seed: int = 0, temperature: float = 1.0) -> Session:
        return Limited(self, seed, temperature, self.limits)


def ours(policy: Policy, prompts: Sequence[str], limits: Sequence[int]):
    bounded = Bounded(policy.model.requires_grad_(True), policy.tokenizer, policy.ledger)
    bounded.limits = limits
    method = GRPO(problems=PROMPTS, samples=SAMPLES, max_tokens=LONGEST, lr=LR, kl=KL, replay=0)
    learner = Learner(
        bounded, Given(prompts, LONGEST), {}, {}, {}, seed=1, stage="bench", reference=policy.snapshot()
    )
    method.begin(learner)

    def step() -> int:
        before = bounded.ledger.total().sampled
        method.step(learner)
        learner.step += 1
        if bounded.ledger.total().sampled - before != sum(limits):
            raise ValueError("a reply ended elsewhere than it should")
        return len(limits)

    return step


# -- theirs ------------------------------------------------------------------------------------------------------------


def trl(policy: Policy, theirs: PreTrainedModel, prompts: Sequence[str], limits: Sequence[int]):
    from datasets import Dataset
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    folder = tempfile.mkdtemp()
    policy.tokenizer.save(Path(folder))
    theirs.save_pretrained(folder)
    theirs.name_or_path = theirs.config._name_or_path = folder  # where its reference is read from
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, padding_side="left")
    tokenizer.pad_token = (
        tokenizer.eos_token
    )  # what follows a row that was stopped is then its end, and masked
    rng = Random(0)
    config = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=MICRO,
        gradient_accumulation_steps=PROMPTS * SAMPLES // MICRO,
        num_generations=SAMPLES,
        max_completion_length=LONGEST,
        beta=KL,
        learning_rate=LR,
        loss_type="grpo",
        temperature=1.0,
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
        report_to=[],
        logging_strategy="no",
        save_strategy="no",
        disable_tqdm=True,
        generation_kwargs={"suppress_tokens": [policy.tokenizer.end, policy.tokenizer.bos]},
    )
    trainer = GRPOTrainer(
        model=theirs.train(),
        reward_funcs=lambda completions, **_: [rng.random() for _ in completions],
        args=config,
        train_dataset=Dataset.from_dict({"prompt": list(prompts)}),
        processing_class=tokenizer,
    )
    trainer.create_optimizer_and_scheduler(num_training_steps=1000)
    trainer.current_gradient_accumulation_steps = config.gradient_accumulation_steps
    batch = [{"prompt": text} for text in prompts for _ in range(SAMPLES)]
    width = max(len(ids) for ids in tokenizer(list(prompts))["input_ids"])
    stop = StoppingCriteriaList([AtLengths(torch.tensor(limits) + width)])
    generate, asked = theirs.generate, []

    def stopped(*args: object, **how: object) -> torch.Tensor:
        whole = generate(*args, stopping_criteria=stop, **how)
        asked.append(int((whole[:, width:] != tokenizer.pad_token_id).sum()))
        return whole

    theirs.generate = stopped

    def step() -> int:
        for _ in range(config.gradient_accumulation_steps):
            trainer.training_step(theirs, batch, None)
        torch.nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
        trainer.optimizer.step()
        theirs.zero_grad(set_to_none=True)
        if asked.pop() != sum(limits):
            raise ValueError("a reply of TRL's ended elsewhere than it should")
        return len(limits)

    return step
