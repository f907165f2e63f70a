"""gepa: notes by reflective evolution on a Pareto front of problems, through the package `gepa` (GEPA, 2507.19457).

A step is one whole run of `gepa.optimize`, of at most `evaluations` attempts or what the budget has left, from the notes
that the step before left. A candidate is a playbook; the policy attempts problems with it in its prompt, and edits it by a
note on each attempt of a minibatch that a review found wrong; it lives on if the minibatch's rewards rise. What we changed
from the paper: the reflector is the policy itself, billed as `notes`, and edits items where theirs rewrites the whole;
problems are the train split's, those of validation too. Attempts and notes are kept in a file (core/memo.py), so that a
step that was killed runs again without their cost in time. No weight changes.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from nanoschool import bits
from nanoschool.core.memo import Memo
from nanoschool.methods.base import Learner, require
from nanoschool.methods.critique import offered, write
from nanoschool.methods.notes import Notes
from nanoschool.methods.playbook import Playbook, form_of
from nanoschool.rollout import alone, rollout
from nanoschool.types import Environment, Task, UserError

COMPONENT = "notes"  # the one text that a candidate is made of


@dataclass(frozen=True)
class Gepa(Notes):
    problems: int = 32  # that minibatches are drawn from
    validation: int = 16  # problems that make the Pareto front
    evaluations: int = 400  # attempts a step, at most
    minibatch: int = 3  # attempts that a reflection is about

    def __post_init__(self) -> None:
        super().__post_init__()
        for setting in ("validation", "evaluations", "minibatch"):
            value = getattr(self, setting)
            require(value >= 1, self, f"{setting}={value} must be at least 1")
        require(
            self.own_reviews == 0,
            self,
            f"own_reviews={self.own_reviews} must be 0: it reviews by the world's feedback",
        )

    def check(self, env: Environment) -> None:
        super().check(env)
        package()

    def step(self, learner: Learner) -> dict[str, float]:
        assert learner.env is not None, "the stage names a world"
        name = f"gepa-{learner.stage}-{learner.step:06d}.jsonl"
        memo = Memo(learner.scratch / name if learner.scratch else None, learner.policy.ledger)
        tasks = learner.env.tasks("train", self.problems + self.validation, seed=learner.draw_seed("tasks"))
        system = System(self, learner, memo)
        found = package().optimize(
            seed_candidate={COMPONENT: learner.policy.prompt},
            trainset=list(tasks[: self.problems]),
            valset=list(tasks[self.problems :]),
            adapter=system,
            custom_candidate_proposer=system.propose,
            reflection_minibatch_size=self.minibatch,
            max_metric_calls=self.evaluations,
            stop_callbacks=lambda state: learner.over(),
            logger=Silence(),
            seed=learner.draw_seed("gepa") % 2**32,
        )
        learner.policy.prompt = found.best_candidate[COMPONENT]
        learner.sample = learner.policy.prompt
        scores = found.val_aggregate_scores
        return {"reward": max(scores), "before": scores[0], "candidates": float(len(scores)),
                "evaluations": float(found.total_metric_calls or 0)}  # fmt: skip


class System:
    """What GEPA evolves: the policy with a candidate's notes in its prompt (`GEPAAdapter`)."""

    propose_new_texts = None  # `propose` is handed over beside it

    def __init__(self, method: Gepa, learner: Learner, memo: Memo) -> None:
        self.method, self.learner, self.memo = method, learner, memo

    def evaluate(self, batch: list[Task], candidate: Mapping[str, str], capture_traces: bool = False) -> Any:
        """Attempt each task once with the candidate's notes; what was attempted before is remembered."""
        about = [candidate[COMPONENT], [task.problem for task in batch]]
        attempts = self.memo.call("collect", about, lambda: self._attempt(batch, candidate[COMPONENT]))
        scores = [attempt["reward"] for attempt in attempts]
        return package().EvaluationBatch(
            [a["replies"] for a in attempts], scores, attempts if capture_traces else None
        )

    def make_reflective_dataset(
        self, candidate: Mapping[str, str], evaluated: Any, components: Sequence[str]
    ) -> dict[str, list[dict[str, Any]]]:
        return dict.fromkeys(components, evaluated.trajectories)

    def propose(
        self,
        candidate: Mapping[str, str],
        reflections: Mapping[str, Sequence[Mapping]],
        components: list[str],
    ) -> dict[str, str]:
        """The candidate with a note on every attempt that was found wrong."""
        learner, method = self.learner, self.method
        assert learner.env is not None, "the stage names a world"
        form, book = form_of(learner.env), Playbook()
        book.edit(form.items(candidate[COMPONENT]))
        wrong = [dict(a) for a in reflections[COMPONENT] if a["feedback"]]
        tasks = [Task(**a["task"]) for a in wrong]
        asks = [form.invite(t, a["replies"], a["feedback"]) for t, a in zip(tasks, wrong, strict=True)]
        written = self.memo.call(
            "notes",
            [[ask.role, ask.text] for ask in asks],
            lambda: write(learner.policy, asks, learner.draw_seed("notes")),
        )
        for note in written:
            book.edit(form.items(note))
        encode = learner.policy.tokenizer.encode
        book.shrink(lambda items: len(encode(form.playbook(items))) <= method.room)
        return {COMPONENT: form.playbook(book.texts())}

    def _attempt(self, batch: list[Task], notes: str) -> list[dict[str, Any]]:
        learner, method = self.learner, self.method
        assert learner.env is not None, "the stage names a world"
        before, learner.policy.prompt = learner.policy.prompt, notes
        attempts = rollout(
            learner.policy,
            learner.env,
            batch,
            temperature=method.temperature,
            max_tokens=method.max_tokens,
            seed=learner.draw_seed("rollout"),
            play=alone(learner.env, learner.env.play),
        )
        learner.policy.prompt = before
        paid = bits.of_groups([0] * len(attempts), [t.rewards for t in attempts])
        learner.policy.ledger.charge(bits=paid + offered(learner.policy, attempts))
        return [
            {"task": {"world": task.world, "problem": task.problem, "data": dict(task.data)},
             "replies": t.replies, "reward": float(t.rewards or 0.0), "feedback": t.feedback}
            for task, t in zip(batch, attempts, strict=True)
        ]  # fmt: skip


class Silence:
    """GEPA's logger: what it does is in our metrics."""

    def log(self, message: str) -> None:
        pass


def package() -> Any:
    """The package. Raises UserError that names the extra where it is not installed."""
    try:
        return importlib.import_module("gepa")
    except ImportError:
        raise UserError("method gepa: needs the package gepa; pip install 'nanoschool[gepa]'") from None


METHOD = Gepa
