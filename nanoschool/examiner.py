"""examiner: what is looked at of a stage under way, on dev, and what it is examined in at its end, on test."""

import time
from dataclasses import dataclass
from typing import Any

from nanoschool.core.policy import Policy
from nanoschool.evals.exam import Exam
from nanoschool.evals.measure import accuracy, answers, estimate
from nanoschool.folder import Folder
from nanoschool.judging import agreement, watch
from nanoschool.ledger import Ledger
from nanoschool.methods.base import Learner
from nanoschool.plan import Settings
from nanoschool.reading import Reading
from nanoschool.train import Show

Rows = dict[str, list[float]]  # a number a row, by what it is


@dataclass(frozen=True)
class Examiner:
    """Measures a run's policies; all of it is billed as `evaluation`."""

    settings: Settings
    reading: Reading
    folder: Folder
    ledger: Ledger
    show: Show

    def look(self, learner: Learner) -> tuple[float, dict[str, Any]]:
        """(score, measures) on the dev split.

        A stage is judged by greedy answers in its world; one without a world by its loss on rows of its file that were
        kept back, else by answers in the worlds that it is shown; reading by its loss; a reward model by comparisons.
        """
        name, policy = learner.stage, learner.policy
        plan, look = self.settings.stages[name], self.settings.evaluation
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-dev"):
            kept = plan.method.held_out(learner, "dev")
            told = {f"held_out_{what}": sum(rows) / len(rows) for what, rows in kept.items()}
            told |= {"rows": len(next(iter(kept.values())))} if kept else {}
            if not plan.method.trains_policy:
                return self._look_at_judge(learner, told)
            names = [plan.env] if plan.env else []
            if not names and not kept and plan.method.converses:
                names = [world for world, share in self.settings.taught.items() if share > 0]
            measures = self.reading.validate(policy) | told
            if learner.judge:
                numbers, warning = watch(learner, plan, look, self.folder)
                measures |= numbers
                if warning:
                    self.show.say(f"{name} {learner.step}: {warning}")
            for world in names:
                env = self.settings.worlds[world]
                tasks = env.tasks("dev", look.look)
                measures[world] = accuracy(answers(policy, env, tasks, max_tokens=look.max_tokens))["mean"]
                measures["problems"] = min(len(tasks), measures.get("problems", len(tasks)))  # of each world
        loss = "held_out_loss" if kept else "loss"
        score = sum(measures[w] for w in names) / len(names) if names else -measures[loss]
        return score, measures | {"score": score}

    def _look_at_judge(self, learner: Learner, told: dict[str, Any]) -> tuple[float, dict[str, Any]]:
        """Of a stage that trains a reward model: comparisons of its world, else rows of its file."""
        agreed = agreement(learner, "dev")
        if agreed is None:
            return -told["held_out_loss"], told | {"score": -told["held_out_loss"]}
        found = {"agreement": agreed["mean"], "score": agreed["mean"], "comparisons": agreed["n"]}
        return agreed["mean"], told | found

    def exam(self, name: str, learner: Learner) -> None:
        """Write exam-NAME.json and transcripts: the test split, read once, on the weights that are handed on."""
        policy, method = learner.policy, self.settings.stages[learner.stage].method
        self.show.say(f"{name}: the test split")
        started, samples, results = time.monotonic(), [], {}
        with self.ledger.account("evaluation"), self.ledger.account(f"{name}-test"):
            if method.trains_policy or name != learner.stage:
                results, samples = self._questions(name).sit(policy)
                results["compression"] = self.reading.compression(policy)
                results |= self._read(policy)
            else:  # the policy can do what it could
                results["agreement"] = agreement(learner, "test")
            results["held_out"] = {
                what: estimate(rows, rows) for what, rows in method.held_out(learner, "test").items()
            }
        results["seconds"] = time.monotonic() - started
        for sample in samples:
            self.folder.append("samples.jsonl", {"stage": name, **sample})
        self.folder.write_json(f"exam-{name}.json", results)

    def _questions(self, name: str) -> Exam:
        plan = self.settings.evaluation
        return Exam(
            {world: self.settings.worlds[world] for world in plan.worlds},
            plan.problems,
            plan.attempts,
            plan.pass_problems,
            practised=[
                s.env
                for s in self.settings.stages.values()
                if s.env and s.method.trains_policy and not s.judge  # by its own reward
            ],
            converses=self.settings.converses(name),
            max_tokens=plan.max_tokens,
            gate_books=plan.gate_books,
        )

    def _read(self, policy: Policy) -> dict[str, Any]:
        read = self.reading.validate(policy)
        return {"dev_bits_per_byte": read["bits_per_byte"], "dev_bytes": read["bytes"]} if read else {}
