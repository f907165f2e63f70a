"""kept: what a policy that learned one rule-book still does with others: reads them in the question, and in its notes."""

from nanoschool.core.policy import Policy
from nanoschool.envs.hidden import Hidden, rule_book
from nanoschool.envs.rules import Rules
from nanoschool.evals.measure import answers, reading_gate
from nanoschool.rollout import rollout

BOOKS = 200
OTHERS = 100_000  # hidden rules from this number on are nobody's to learn


def kept(policy: Policy) -> dict[str, float]:
    """The share of entries read out of the question and out of notes (n = 200 books each), and the gate (1,000 books)."""
    asked = answers(policy, Rules(), Rules().tasks("test", BOOKS), max_tokens=48)
    noted = [reads_notes(policy, OTHERS + book) for book in range(BOOKS)]
    return {
        "book": sum(float(t.info["fraction"]) for t in asked) / BOOKS,
        "notes": sum(noted) / BOOKS,
        "gate": reading_gate(policy, Rules(), 1000)["accuracy"],
    }


def reads_notes(policy: Policy, rule: int) -> float:
    """The share of entries that are right where all of a hidden rule stands in the notes."""
    hidden = Hidden(rule=rule)
    name, rules = rule_book(rule, hidden.size)
    before, policy.prompt = policy.prompt, hidden.playbook([f"{name}: {key} {o}" for key, o in rules.items()])
    (t,) = rollout(policy, hidden, hidden.tasks("test", 1), temperature=0.0, max_tokens=32)
    policy.prompt = before
    return float(t.info["fraction"])
