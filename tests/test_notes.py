"""Learning in the prompt, one review's four uses, and sleep: notes act and no weight does, and what they may know."""

import json
import sys
from dataclasses import dataclass, replace

import pytest
import torch
from tiny import same, tiny, tokenizer, weights

from nanoschool.core import checkpoint
from nanoschool.core.chat import render
from nanoschool.core.files import write_atomic
from nanoschool.core.memo import Memo
from nanoschool.core.policy import Policy
from nanoschool.envs.hidden import OUTPUTS, Hidden, rule_book
from nanoschool.envs.noted import Noted
from nanoschool.envs.rules import Rules, problem
from nanoschool.envs.taste import Taste
from nanoschool.evals.learned import learned_bits
from nanoschool.lab import bandwidth
from nanoschool.lab.bandwidth import Arm, Study
from nanoschool.lab.study import once
from nanoschool.ledger import Cost, Ledger
from nanoschool.methods.base import Learner
from nanoschool.methods.critique import Blame, blame, blamed_token, corrected, reviewed
from nanoschool.methods.gepa import Gepa
from nanoschool.methods.notes import Notes
from nanoschool.methods.notes_oracle import NotesOracle
from nanoschool.methods.playbook import PlainNotes, Playbook
from nanoschool.methods.process_grpo import to_come
from nanoschool.methods.review_imitation import ReviewImitation
from nanoschool.methods.review_pairs import ReviewPairs
from nanoschool.methods.review_reward import ReviewReward
from nanoschool.methods.sleep import Sleep, forget, without_prompt
from nanoschool.rollout import rollout
from nanoschool.saving import Progress, restore, write
from nanoschool.types import Ask, Episode, Message, Outcome, Task, Trajectory, UserError

WORLD = Hidden(rule=3)
NAME, RULE = rule_book(3, 8)
KEYS = list(RULE)


@dataclass(frozen=True)
class Sealed(Hidden):
    """Nobody may ask it for the truth."""

    def oracle(self, *_):
        raise AssertionError("the truth was asked for")

    lesson = step_rewards = secrets = demonstration = oracle


def learner_of(env=WORLD, seed: int = 1) -> Learner:
    policy = tiny(context=160)
    return Learner(policy, env, {"rules": Rules()}, {}, {"rules": 1.0}, seed, "stage")


def attempt(reply: str, review: str) -> Trajectory:
    task = Task("hidden", "", {"name": NAME, "map": dict(RULE), "asked": KEYS[:3]})
    said = [Message("user", f"{NAME}? {' '.join(KEYS[:3])}"), Message("assistant", reply)]
    tokens, mask = render(tokenizer(), said)
    n = len(tokens)
    return Trajectory(tokens, mask, [0.0] * n, [0.0] * n, 0.0, task, feedback=review, replies=[reply])


def wrong(key: str) -> str:
    return next(output for output in OUTPUTS if output != RULE[key])


FIRST, SECOND = f"{KEYS[0]} {RULE[KEYS[0]]}", f"{KEYS[1]} {wrong(KEYS[1])}"
REPLY = f"{NAME}: {FIRST}, {SECOND}, {KEYS[2]} {wrong(KEYS[2])}"
REVIEW = f"wrong: {SECOND}, right: {KEYS[1]} {RULE[KEYS[1]]}"


# The world


def test_the_hidden_rule_is_told_nowhere_and_was_read_nowhere():
    assert (
        len(RULE) == 8 and set(RULE.values()) <= set(OUTPUTS) and problem(RULE) != problem(rule_book(4, 8)[1])
    )
    for task in WORLD.tasks("test", 50):
        assert next(WORLD.play(task)).text == f"{NAME}? {' '.join(task.data['asked'])}"
    secrets = WORLD.secrets()
    assert len({s.about for s in secrets}) == 8 and all(len(s.options) == 8 for s in secrets)
    assert all(s.options[s.truth] == f" {RULE[s.about]}" and s.begun == f"{NAME}: {s.about}" for s in secrets)


def test_steps_are_paid_for_themselves():
    assert WORLD.step_rewards(attempt(REPLY, "").task, [REPLY]) == [1.0, 0.0, 0.0]
    assert WORLD.step_rewards(attempt("", "").task, ["nonsense,"]) == [0.0, 0.0]
    assert WORLD.step_rewards(attempt(REPLY, "").task, [f"{NAME}: {FIRST}, {FIRST}"]) == [1.0, 0.0]
    assert WORLD.steps(REPLY)[0] == REPLY.index(","), "going on is of the next entry"
    assert to_come([1.0, 0.0, 2.0], 1.0) == [3.0, 2.0, 2.0] and to_come([1.0, 0.0, 2.0], 0.0) == [
        1.0,
        0.0,
        2.0,
    ]


def test_notes_are_read_back_as_they_were_written():
    items = WORLD.items("tam: a k, b m\nnonsense\n bob: c no.\n")
    assert items == {"tam a": "tam: a k", "tam b": "tam: b m", "bob c": "bob: c no"}
    assert WORLD.playbook(list(items.values())) == "tam: a k, b m.\nbob: c no."
    assert WORLD.items(WORLD.playbook(list(items.values()))) == items
    kinds = {"said" in task.data: Noted().demonstration(task) for task in Noted().tasks("train", 40)}
    assert kinds[True][0].content.endswith("\nnote") and kinds[False][-2].role == "user"


def test_a_playbook_is_edited_and_never_rewritten():
    book = Playbook()
    assert book.edit({"a": "a 1", "b": "b 1"}) == 2 and book.edit({"a": "a 1"}) == 0
    assert book.edit({"b": "b 2"}) == 1 and book.texts() == ["a 1", "b 2"]
    book.edit({"c": "c 1"})
    assert book.shrink(lambda items: len(items) <= 2) == 1 and book.texts() == ["a 1", "c 1"], (
        "a was confirmed"
    )
    assert Playbook.from_json(json.loads(json.dumps(book.to_json()))) == book
    plain = PlainNotes(WORLD)
    assert plain.items("look twice\n") == {"look twice": "- look twice"} and plain.items("\n") == {}
    assert plain.items(plain.playbook(["- one", "- two"])) == {"one": "- one", "two": "- two"}
    assert REPLY in plain.invite(attempt(REPLY, "").task, [REPLY], REVIEW).text


# Learning in the prompt


@pytest.mark.parametrize("method", [Notes(temperature=1.0), NotesOracle(temperature=1.0)])
def test_notes_leave_every_weight_bitwise_equal(method):
    learner = learner_of()
    method.begin(learner)
    before = weights(learner.policy)
    for _ in range(6):
        method.step(learner)
        learner.step += 1
    assert same(before, weights(learner.policy)) and learner.policy.optimizer is None
    assert learner.policy.ledger.total().trained == 0
    wrote = learner.policy.ledger.total("credit/notes")
    assert (wrote.sampled > 0) == isinstance(method, Notes) ^ isinstance(method, NotesOracle), (
        "its own notes are billed"
    )


def test_the_oracles_notes_hold_what_the_feedback_told_and_are_right():
    learner = learner_of()
    method = NotesOracle(temperature=1.0, problems=8)
    method.begin(learner)
    for _ in range(6):
        method.step(learner)
        learner.step += 1
    held = WORLD.items(learner.policy.prompt)
    assert held and held.items() <= {f"{NAME} {k}": f"{NAME}: {k} {o}" for k, o in RULE.items()}.items()
    assert WORLD.lesson(attempt(REPLY, "").task, [REPLY]) == f"{NAME}: {KEYS[1]} {RULE[KEYS[1]]}"


@pytest.mark.parametrize("method", [Notes(), ReviewImitation(problems=2, samples=2, max_tokens=10, replay=0)])
def test_who_learns_from_reviews_never_asks_for_the_truth(method):
    learner = learner_of(Sealed(rule=3))
    method.check(learner.env)
    method.begin(learner)
    method.step(learner)


def test_notes_act_where_the_policy_speaks_and_are_saved_with_it(tmp_path):
    policy = tiny(context=160)
    task = WORLD.tasks("train", 1)
    bare = rollout(policy, WORLD, task, temperature=0.0, max_tokens=8)[0]
    policy.prompt = "tam: a k."
    noted = rollout(policy, WORLD, task, temperature=0.0, max_tokens=8)[0]
    system = [tokenizer().role_id("system"), *tokenizer().encode("tam: a k."), tokenizer().end]
    assert noted.tokens[1 : 1 + len(system)] == system and bare.tokens[1] == tokenizer().user
    assert forget(tokenizer(), noted).tokens[: bare.mask.index(True)] == bare.tokens[: bare.mask.index(True)]
    assert forget(tokenizer(), bare).tokens == bare.tokens and policy.snapshot().prompt == policy.prompt
    name = write(policy, tmp_path, Progress("notes"))
    other = tiny(context=160, seed=5)
    restore(other, checkpoint.read(tmp_path / name))
    assert other.prompt == "tam: a k." and same(weights(other), weights(policy))
    old = checkpoint.read(tmp_path / name)
    old.state.pop("prompt")
    restore(other, old)
    assert other.prompt == ""


def test_what_cannot_work_is_refused_before_anything_is_spent():
    @dataclass(frozen=True)
    class Silent(Hidden):
        def play(self, task: Task) -> Episode:
            yield Ask("?")
            return Outcome((0.0,))

    for method in (Notes(), ReviewPairs(), ReviewImitation()):
        with pytest.raises(UserError, match="'hidden' gives no feedback"):
            method.check(Silent())
        replace(method, own_reviews=1.0).check(Silent())
    for method in (ReviewPairs(), ReviewImitation(), ReviewReward()):
        with pytest.raises(UserError, match=r"'taste' names no wrong place .* it says '0 words, not \d+'"):
            method.check(Taste())
        method.check(Hidden())
    with pytest.raises(UserError, match=r"own_reviews=1\.5 must be"):
        Notes(own_reviews=1.5)
    with pytest.raises(UserError, match="room=200 must be below the context"):
        Notes(room=200).begin(learner_of())
    learner = learner_of()
    learner.reference = learner.policy.snapshot()
    with pytest.raises(UserError, match="method sleep: the prompt holds no notes"):
        Sleep().begin(learner)
    with pytest.raises(UserError, match="has no lessons"):
        NotesOracle().check(type("Bare", (), {"name": "bare", "replayable": True})())


# One review, four uses


def test_a_review_blames_a_place_and_says_what_is_right_there():
    t = attempt(REPLY, REVIEW)
    assert blame(t) == Blame(0, REPLY.index(SECOND), SECOND, f"{KEYS[1]} {RULE[KEYS[1]]}")
    at = blamed_token(tokenizer(), t)
    before = tokenizer().decode(t.tokens[t.mask.index(True) : at])
    assert REPLY.startswith(before.rstrip()) and len(REPLY.split(SECOND)[0]) - len(before) in (0, 1)
    assert blame(attempt(REPLY, "")) is None and blame(attempt(REPLY, "bad")) is None
    assert blamed_token(tokenizer(), attempt(REPLY, "")) == len(attempt(REPLY, "").tokens)
    assert blame(attempt("a 15, 5 b", "wrong: 5, right: 6")).at == 6, "a whole word"
    assert blame(attempt("x", "wrong: nothing, right: a b")) == Blame(0, 1, "", "a b")


def test_a_correction_is_a_pair_and_its_known_part_a_lesson():
    chosen, rejected = corrected(tokenizer(), attempt(REPLY, REVIEW))
    better = REPLY.replace(SECOND, f"{KEYS[1]} {RULE[KEYS[1]]}")
    first = chosen.mask.index(True)
    assert tokenizer().decode(chosen.tokens[first:-1]) == better and chosen.tokens[-1] == tokenizer().end
    assert rejected.tokens == attempt(REPLY, "").tokens[: len(rejected.tokens)] and rejected.mask[first]
    known = [t for t, k in zip(chosen.tokens, chosen.extra["known"], strict=True) if k]
    assert tokenizer().decode(known) == better[: better.index(f", {KEYS[2]}")]
    assert corrected(tokenizer(), attempt(REPLY, "wrong: nothing, right: a b")) is None
    assert corrected(tokenizer(), attempt(REPLY, "")) is None


def test_the_models_own_review_takes_the_feedbacks_place_and_is_billed():
    learner, attempts = learner_of(), [attempt(REPLY, REVIEW) for _ in range(20)]
    assert reviewed(learner, attempts, 0.0) == attempts
    spent = learner.policy.ledger.total()
    assert spent == Cost(bits=spent.bits) and spent.bits > 0, "the world's words cost nothing to have"
    reviewed(learner, attempts, 0.5)
    own = sum(t.feedback != REVIEW for t in attempts)
    assert 4 <= own <= 16 and learner.policy.ledger.total("review").sampled >= own


# Sleep


def test_sleep_draws_the_bare_self_to_the_noted_one():
    learner = learner_of()
    learner.policy.prompt = WORLD.playbook([f"{NAME}: {key} {RULE[key]}" for key in KEYS])
    learner.reference = learner.policy.snapshot()
    method = Sleep(problems=6, replay=4, max_tokens=12, lr=4e-3, warmup=0.0, cooldown=0.0)
    method.begin(learner)
    losses = []
    for _ in range(14):
        losses.append(method.step(learner)["loss"])
        learner.step += 1
    assert learner.policy.prompt == "" != learner.reference.prompt
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    ledger = learner.policy.ledger
    assert ledger.total("fit/teacher").flops > 0 and ledger.total("collect").rollouts == 14 * 10
    assert without_prompt(learner.reference).prompt == "" and learner.reference.prompt
    first = learner_of()
    first.policy.prompt = learner.reference.prompt
    first.reference = first.policy.snapshot()
    replayed = replace(method, problems=1, replay=6)
    replayed.begin(first)
    rows = replayed.collect(first)[1:]
    students = [forget(tokenizer(), t) for t in rows]
    assert [s.tokens for s in students] == [t.tokens for t in rows], "replay never had notes"


# Borrowed loops


def test_gepa_evolves_notes_and_a_killed_step_ends_in_the_same_bits(tmp_path):
    pytest.importorskip("gepa")
    method = Gepa(problems=6, validation=4, evaluations=30, max_tokens=8, temperature=1.0)

    def run(folder, calls=None):
        learner = learner_of()
        learner.scratch = folder
        method.begin(learner)
        before = weights(learner.policy)
        if calls is not None:
            learner.over = lambda: learner.policy.ledger.total().rollouts >= calls
        metrics = method.step(learner)
        assert same(before, weights(learner.policy))
        return learner.policy.prompt, metrics, learner.policy.ledger.to_json()

    whole = run(None)
    assert run(tmp_path) == whole and whole[1]["evaluations"] >= 20
    (kept,) = tmp_path.iterdir()
    lines = kept.read_bytes().splitlines(keepends=True)
    write_atomic(kept, b"".join(lines[: len(lines) // 2]) + lines[-1][:10])  # a kill inside a line
    assert run(tmp_path) == whole and len(kept.read_bytes().splitlines()) == len(lines)
    assert run(None, calls=12)[1]["evaluations"] < whole[1]["evaluations"], (
        "it stops when the budget is spent"
    )


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "gepa", None)
    with pytest.raises(UserError, match=r"pip install 'nanoschool\[gepa\]'"):
        Gepa().check(WORLD)


def test_a_memo_charges_what_it_remembers(tmp_path):
    def costly():
        ledger.charge(flops=7.0, rollouts=1)
        made.append(1)
        return [1.5, "a"]

    made = []
    for _ in range(2):
        ledger = Ledger()
        assert Memo(tmp_path / "memo.jsonl", ledger).call("x", {"a": 1}, costly) == [1.5, "a"]
        assert ledger.total("x") == Cost(flops=7.0, rollouts=1)
    assert made == [1]


def test_a_study_is_made_once_and_needs_a_start_that_reads(tmp_path, monkeypatch):
    for setting, value in (("HABIT", 1), ("NIGHT", 6), ("kept", lambda policy: {"gate": 0.5})):
        monkeypatch.setattr(bandwidth, setting, value)
    arm = Arm(NotesOracle(problems=4, max_tokens=8), 16)
    study = Study(
        tmp_path, tiny(context=160), {"oracle": arm}, {"night": Sleep(problems=2, replay=2, max_tokens=8)}
    )
    with pytest.raises(UserError, match=r"fails the reading gate \(0\.5000\)"):
        study.page([1])
    start = study.start()
    assert not same(weights(start), weights(tiny(context=160))), "it has a habit"
    policy, course = study.learn(arm, start, 1)
    assert course["points"][-1]["episodes"] == 16 and course["points"][-1]["flops"] > 0
    assert course["recalled"] is None and course["notes"] == policy.prompt != "", "censored"
    assert 0 <= course["points"][0]["bits"] <= 24 and same(weights(policy), weights(start))
    slept = study.sleep(study.nights["night"], start, 1)
    assert slept["after"]["flops"] > slept["before"]["flops"] == 0.0
    assert once(study.out, "x", lambda: {"a": 1}) == once(study.out, "x", lambda: {"a": 2}) == {"a": 1}


def test_bits_learned_are_none_at_chance_and_all_of_them_for_one_who_is_sure():
    class Sure(Policy):
        def whole(self, batch):
            return torch.stack([self.sure(secret) for secret in WORLD.secrets()])

        def sure(self, secret):
            logits = torch.zeros(self.model.config.vocab)
            logits[self.tokenizer.encode(secret.options[secret.truth])] = self.belief
            return torch.log_softmax(logits, dim=0)

    policy = tiny(context=160)
    policy.__class__ = Sure
    for belief, bits in ((0.0, 0.0), (50.0, 24.0), (-50.0, 0.0)):
        policy.belief = belief
        assert learned_bits(policy, WORLD)["bits"] == pytest.approx(bits, abs=1e-4)
