"""What taste owes beyond the contract: the best string is the best, repeats are low, judges are as noisy as they say."""

from dataclasses import replace
from itertools import product
from math import exp
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score, text_of

from nanoschool import envs
from nanoschool.envs import gold as formula
from nanoschool.envs import taste
from nanoschool.envs.common import split_of
from nanoschool.types import Task, UserError

TASTE = envs.load("taste")


def about(length: int, *topics: str) -> Task:
    return Task("taste", "", {"topics": sorted(topics), "length": length})


@pytest.mark.parametrize(
    "reply, gold",
    [
        ("rain sea tree warm", 5.5),
        ("rain sea rain sea", 1.5 + 0.75 + 1.5 + 0.75 - 3),
        ("rain sea rain warm", 1.5 + 1.5 + 0.75 + 1.0 - 3),
        ("rain rain sea warm", 1.5 + 0.75 + 1.5 + 1.0 - 1 - 3),
        ("rain sea tree xyz", 4.5 - 1),
        ("rain sea tree", 4.5 - 1),
        ("the the the", -1 - 2 - 1.5 - 9),
        ("the the the the", -3 - 3.0 - 9),
        ("", -4.0 - 9),
        ("write 4 words about rain, sea, tree", 1.5 - 6 - 3 - 6),  # "rain," is not a word
        ("rain " * 50_000, -20.0),
    ],
)
def test_gold_is_the_formula(reply, gold):
    task = about(4, "rain", "sea", "tree")
    assert taste.gold(task, reply) == gold
    assert score(TASTE, task, reply) == max(0.0, gold / 5.5)


def small(monkeypatch, liked: str, nouns: str, plain: str, topics: int) -> None:
    for name, text in (("LIKED", liked), ("NOUNS", nouns), ("PLAIN", plain)):
        monkeypatch.setattr(formula, name, tuple(text.split()))
    for module in (formula, taste):
        monkeypatch.setattr(module, "WORDS", tuple(f"{liked} {nouns} {plain}".split()))
    monkeypatch.setattr(taste, "TOPICS", topics)
    forget()


def forget() -> None:
    formula.best_rest.cache_clear()
    formula.best_gold.cache_clear()


@pytest.mark.parametrize(
    "liked, nouns, plain", [("warm", "rain", ""), ("warm kind", "rain", "the"), ("", "rain sea", "")]
)
def test_the_best_string_is_the_best_of_all(monkeypatch, liked, nouns, plain):
    """Against every string over a small alphabet, whole and after every beginning of up to four words."""
    small(monkeypatch, liked, nouns, plain, 1)
    alphabet = (*taste.WORDS, "zz")
    for length in (2, 3, 4):
        task = about(length, "rain")
        golds = {
            string: taste.gold(task, " ".join(string))
            for size in range(7)
            for string in product(alphabet, repeat=size)
        }
        top = max(golds.values())
        assert taste.gold(task, TASTE.oracle(task, []).best_replies[0]) == top
        for size in range(5):
            for said in product(alphabet, repeat=size):
                partial = "".join(f"{word} " for word in said)
                oracle = TASTE.oracle(task, [], partial)
                reachable = max(gold for string, gold in golds.items() if string[:size] == said)
                assert oracle.value == max(0.0, reachable / top), (task, said)
                for best in oracle.best_replies:
                    assert best.startswith(partial) and taste.gold(task, best) == reachable
    forget()


def test_an_unfinished_word_ends_as_is_best(monkeypatch):
    small(monkeypatch, "warm", "rain", "the", 1)
    letters = sorted({letter for word in taste.WORDS for letter in word} | {" ", "z"})
    rng = Random(0)
    for _ in range(150):
        task = about(rng.choice((2, 3)), "rain")
        text = " ".join(rng.choice(taste.WORDS) for _ in range(3))
        partial = text[: rng.randint(0, len(text))]
        value = TASTE.oracle(task, [], partial).value
        after = [TASTE.oracle(task, [], partial + letter).value for letter in letters]
        assert value == max(score(TASTE, task, partial), *after), partial
    forget()


def test_the_collapse_of_learned_rewards_is_low_in_gold():
    """Two good words in turn, which policies that follow a learned taste end in, score less than a beginner."""
    collapsed, written, rng = [], [], Random(0)
    for task in TASTE.tasks("dev", 100):
        one, two, *_ = task.data["topics"]
        length = task.data["length"]
        collapsed.append(score(TASTE, task, " ".join(([one, two] * length)[:length])))
        written.append(score(TASTE, task, taste.babble(task, rng)))
        for reply in ("the the the", " ".join([one] * length), " ".join(taste.WORDS), taste.question(task)):
            assert score(TASTE, task, reply) == 0.0
    assert sum(collapsed) < 0.25 * sum(written)


def test_no_string_pays_whatever_was_asked():
    """The liked words with the commonest fill: not above chance by more than five points."""
    tasks, rng = TASTE.tasks("test", 200), Random(1)
    chance = sum(score(TASTE, task, TASTE.guess(task, [], rng)) for task in tasks) / 200
    for constant in (taste.WORDS[:6], taste.WORDS[:8], taste.WORDS[:10], taste.WORDS[4:12]):
        assert sum(score(TASTE, task, " ".join(constant)) for task in tasks) / 200 < chance + 0.05


def test_what_is_shown_is_a_beginners():
    """Always the same for a task, of our words, and far from the best: practice has something to gain."""
    shown = {task.problem: TASTE.demonstration(task) for task in TASTE.tasks("train", 200)}
    assert shown == {task.problem: TASTE.demonstration(task) for task in TASTE.tasks("train", 200)}
    earned = [score(TASTE, task, shown[task.problem][1].content) for task in TASTE.tasks("train", 200)]
    assert 0.02 < sum(earned) / 200 < 0.3
    assert all(word in taste.WORDS for _, said in shown.values() for word in said.content.split())


def test_best_replies_have_the_length_and_no_repeat():
    for task in TASTE.tasks("test", 200):
        said = TASTE.oracle(task, []).best_replies[0].split()
        assert len(said) == task.data["length"] and len(set(said)) >= min(9, len(said))
        assert set(task.data["topics"]) <= set(said)
        outcome = perform(TASTE.play(task), [" ".join(said)])[1]
        assert outcome.rewards == (1.0,) and outcome.feedback == "" and outcome.info["wellformed"]


def test_feedback_names_the_plainest_fault():
    task = about(4, "rain", "sea", "tree")
    for reply, feedback in (
        ("rain sea", "2 words, not 4"),
        ("rain sea tree xyz", "a word that is not known"),
        ("rain sea tree tree", "tree stands beside itself"),
        ("rain sea warm kind", "nothing about tree"),
        ("rain sea tree the", "other words would be better liked"),
        ("tree rain sea kind", ""),
    ):
        assert perform(TASTE.play(task), [reply])[1].feedback == feedback


def test_judges_are_as_noisy_as_they_say():
    task, rng = about(4, "rain", "sea", "tree"), Random(0)
    one, other = "rain sea tree warm", "rain sea tree the"  # one apart
    for noise in (0.5, 1.0, 4.0):
        share = sum(taste.label(task, one, other, rng, noise) for _ in range(20_000)) / 20_000
        assert share == pytest.approx(1 / (1 + exp(-1 / noise)), abs=0.012)
    assert all(taste.label(task, one, other, rng, 0.0) for _ in range(50))
    assert not any(taste.label(task, other, one, rng, 0.0) for _ in range(50))
    ties = sum(taste.label(task, one, one, rng, 0.0) for _ in range(4000)) / 4000
    assert ties == pytest.approx(0.5, abs=0.03)
    assert taste.label(task, one, "x " * 90_000, rng, 1e-9)


def test_pairs_follow_from_the_seed_and_their_split():
    pairs = TASTE.pairs("train", 500, seed=2)
    assert pairs == TASTE.pairs("train", 500, seed=2) != TASTE.pairs("train", 500, seed=3)
    assert pairs[:300] == TASTE.pairs("train", 300, seed=2) and pairs[:20] == TASTE.pairs("train", 20, seed=2)
    by_prompt = {taste.question(task): task for task in TASTE.tasks("train", taste.POOL, 2)}
    assert all(split_of(task.problem) == "train" for task in by_prompt.values())
    right = {}
    for noise in (0.0, 1.0, 100.0):
        golds = [
            (taste.gold(by_prompt[p], chosen), taste.gold(by_prompt[p], rejected))
            for p, chosen, rejected in replace(TASTE, noise=noise).pairs("train", 2000, seed=2)
        ]
        right[noise] = sum(a >= b for a, b in golds) / 2000
    assert right[0.0] == 1.0 > right[1.0] > 0.75 > right[100.0] > 0.45


@settings(max_examples=300, deadline=None)
@given(reply=st.one_of(st.text(), st.lists(st.sampled_from((*taste.WORDS, "x", "\ud800"))).map(" ".join)))
def test_nothing_breaks_the_taste(reply):
    task = about(6, "rain", "sea", "tree")
    outcome = perform(TASTE.play(task), [reply])[1]
    assert 0.0 <= outcome.rewards[0] <= 1.0 and formula.LOWEST <= outcome.info["gold"] <= 12
    assert TASTE.oracle(task, [], reply).value >= outcome.rewards[0] == TASTE.oracle(task, [reply]).value
    offsets = TASTE.steps(reply)
    assert len(offsets) == len(reply.split()) or not reply.isascii()
    assert offsets == sorted(set(offsets)) and all(0 < at <= len(reply) for at in offsets)


def test_chance_documents_and_raw_text():
    task = TASTE.tasks("dev", 1)[0]
    assert TASTE.answer_space(task) == 34 ** task.data["length"]
    rng = Random(0)
    chance = [score(TASTE, task, TASTE.guess(task, [], rng)) for task in TASTE.tasks("dev", 200)]
    written = [score(TASTE, task, taste.babble(task, rng)) for task in TASTE.tasks("dev", 200)]
    assert 0.005 < sum(chance) / 200 < sum(written) / 200 < 0.5
    for seed in range(50):
        asked, said = TASTE.document(Random(seed))
        assert text_of([asked, said]).count("\n") == 2 and said[1] and not asked[1]
    asks, outcome = perform(TASTE.complete(task, "worked"), [TASTE.oracle(task, []).best_replies[0] + "\n"])
    assert outcome.rewards == (1.0,) and asks[0].text == f"{taste.question(task)}\n"


@pytest.mark.parametrize("setting, value", [("lengths", (2,)), ("lengths", ()), ("noise", -1.0)])
def test_a_setting_out_of_range_is_named(setting, value):
    with pytest.raises(UserError, match=f"world taste: {setting}="):
        replace(TASTE, **{setting: value})
