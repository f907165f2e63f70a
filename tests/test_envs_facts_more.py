"""What the worlds around facts owe: two hops, abstention and its price, the register, and what must be made up."""

import re
from collections import Counter
from dataclasses import replace
from hashlib import sha256
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scripted import perform, score, text_of
from tiny import tiny

from nanoschool import envs
from nanoschool.envs import closedbook, twohop
from nanoschool.envs.common import split_of
from nanoschool.evals import singleton
from nanoschool.exposure import exposure
from nanoschool.types import Reply, UserError

IDK = "Answer: I don't know."
RECALL, LOOK, TWOHOP, FACTS = (envs.load(name) for name in ("recall", "look", "twohop", "facts"))
NAME = re.compile(rf"\b((?:{'|'.join(closedbook.FIRST)}) (?:{'|'.join(closedbook.LAST)}))\b")


def tasks_of(world, kind, count=40, split="test"):
    return replace(world, kinds=(kind,)).tasks(split, count)


def outcome(world, task, *replies):
    return perform(world.play(task), list(replies))[1]


# facts itself stays as it is: runs that are compared have read it


def test_the_stream_of_facts_is_what_it_was():
    digest = sha256()
    for seed in range(4):
        rng = Random(seed)
        digest.update("".join(repr(FACTS.document(rng)) for _ in range(500)).encode())
    for split in ("train", "dev", "test"):
        digest.update(repr(FACTS.tasks(split, 100)).encode())
    assert digest.hexdigest()[:16] == "872a2149fa793a49"


# Two hops


def test_both_hops_of_a_closed_question_are_true_and_read_but_never_together():
    world = replace(TWOHOP, kinds=("closed",), town_share=1.0)
    rng = Random(3)
    stream = "".join(text_of(world.document(rng)) for _ in range(6000))
    town = {person.name: person for person in world.facts.residents()}
    held_out = [task for split in ("dev", "test") for task in world.tasks(split, 60)]
    stated = 0
    for task in held_out:
        data = task.data
        person, bridge = town[data["person"]], town[data["bridge"]]
        assert bridge.values[data["attribute"]] == data["answer"] and bridge is not person
        assert (person.exposure, bridge.exposure) == (data["exposure"], data["bridge_exposure"])
        assert min(person.exposure, bridge.exposure) > 0
        assert {split_of(person.name), split_of(bridge.name)} == {"train"}
        ways = [w.format(r=data["relation"], n=person.name, v=bridge.name) for w in twohop.WORDINGS]
        if person.exposure >= 16:
            assert any(way in stream for way in ways)
            stated += 1
        assert data["question"] not in stream
    assert stated > 40
    asked = set(re.findall(r"What is the (\w+) of the (\w+) of (\w+ \w+)\?", stream))
    assert len(asked) > 300
    for attribute, relation, name in asked:
        assert split_of(f"twohop {name} {relation} {attribute}") == "train"


def test_an_open_question_follows_from_its_prompt_by_both_hops_only():
    misled = 0
    for task in tasks_of(TWOHOP, "open", 150):
        data, text = task.data, task.data["text"]
        r, n = data["relation"], data["person"]
        found = [
            re.search(w.format(r=r, n=n, v=r"(\w+ \w+)").replace(".", r"\."), text) for w in twohop.WORDINGS
        ]
        bridge = next(match[1] for match in found if match)
        told = [s for s in text.split(".") if bridge in s and n not in s]
        assert len(told) == 1 and data["answer"] in told[0].split()
        values = [s.split()[-1] for s in text.split(".") if s and n not in s]
        misled += len(set(values)) > 1
        assert len(text.split()) < 60 and TWOHOP.oracle(task, []).entropy_bits == 0.0
    assert misled > 140


def test_a_hop_is_as_often_read_as_its_person():
    world = replace(TWOHOP, town_share=1.0)
    rng, counts = Random(0), {}
    for _ in range(4000):
        for name in set(re.findall(r"(?:friend|boss|neighbour) of (\w+ \w+)", text_of(world.document(rng)))):
            counts[name] = counts.get(name, 0) + 1
    for often, seldom in ((512, 128), (128, 16)):
        means = [
            [
                counts.get(p.name, 0)
                for p in world.facts.residents()
                if p.exposure == e and split_of(p.name) == "train"
            ]
            for e in (often, seldom)
        ]
        assert sum(means[0]) / len(means[0]) > 2 * sum(means[1]) / len(means[1])


# Who is asked about


@pytest.mark.parametrize("world", [RECALL, LOOK], ids=["recall", "look"])
def test_kinds_are_what_they_say(world):
    town = {person.name: person for person in world.facts.residents()}
    for kind in closedbook.KINDS:
        for task in tasks_of(world, kind, 150, "train"):
            data = task.data
            assert data["kind"] == kind and (data["person"] in town) == (kind == "town")
            assert bool(data["answer"]) == (kind != "nobody")
            if kind == "town":
                assert data["answer"] == town[data["person"]].values[data["attribute"]]
                assert data["exposure"] == town[data["person"]].exposure
            else:
                assert data["exposure"] == 0
    exposures = {task.data["exposure"] for task in tasks_of(world, "town", 200, "train")}
    assert exposures == {0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512}


def test_names_that_abstaining_is_tested_on_are_taught_and_read_nowhere():
    rng = Random(11)
    read = {name for _ in range(6000) for name in NAME.findall(text_of(FACTS.document(rng)))}
    rng = Random(12)
    read |= {name for _ in range(3000) for name in NAME.findall(text_of(TWOHOP.document(rng)))}
    taught = {
        task.data["person"] for kind in closedbook.KINDS for task in tasks_of(RECALL, kind, 200, "train")
    }
    taught |= {n for t in TWOHOP.tasks("train", 500) for n in NAME.findall(text_of([(t.data["text"], True)]))}
    for kind in ("stranger", "nobody"):
        tested = {
            task.data["person"] for split in ("dev", "test") for task in tasks_of(RECALL, kind, 150, split)
        }
        assert len(tested) > 60 and not tested & (read | taught)
    untold = {p.name for p in RECALL.facts.residents() if p.exposure == 0}
    assert untold and not untold & read
    assert {p.name for p in RECALL.facts.residents() if p.exposure >= 16} <= read


@pytest.mark.parametrize("world", [RECALL, LOOK], ids=["recall", "look"])
def test_no_half_of_a_name_says_whom_one_knows(world):
    """Of every split's strangers both halves are of people of the train split who are told of often and not asked about."""
    often = [p for p in world.unasked() if p.exposure >= 16 and split_of(p.name) == "train"]
    firsts, lasts = ({p.name.split()[half] for p in often} for half in (0, 1))
    for split in ("train", "dev", "test"):
        for kind in ("stranger", "nobody"):
            names = {task.data["person"] for task in tasks_of(world, kind, 60, split)}
            assert len(names) > 20 and all(split_of(name) == split for name in names)
            assert {n.split()[0] for n in names} <= firsts and {n.split()[1] for n in names} <= lasts


def test_facts_of_lists_the_towns_questions_once():
    listed = {split: [t.problem for t in RECALL.facts_of(split)] for split in ("train", "dev", "test")}
    everything = [problem for problems in listed.values() for problem in problems]
    asked = sum(map(RECALL.facts.asked, (person.name for person in RECALL.facts.residents())))
    assert len(everything) == len(set(everything)) == 5 * (RECALL.facts.people - asked)
    assert 0.3 * RECALL.facts.people < asked < 0.5 * RECALL.facts.people
    assert set(listed["test"]) == {t.problem for t in tasks_of(RECALL, "town", len(listed["test"]))}
    assert {t.problem for t in LOOK.facts_of("test")} == set(
        listed["test"]
    )  # one set of known facts serves both
    assert score(RECALL, RECALL.facts_of("test")[0], "Answer: x.") == 0.0


# Abstention


def test_right_abstaining_and_wrong_are_priced_and_counted():
    world = replace(RECALL, abstain=0.25, wrong=-0.5)
    task = next(task for task in tasks_of(world, "town", 30) if task.data["exposure"])
    answer = task.data["answer"]
    other = next(word for word in world.choices(task) if word != answer)
    for reply, reward, act, hallucinated, wellformed in (
        (f"Answer: {answer}.", 1.0, "answer", False, True),
        (f"Answer: {other}.", -0.5, "answer", True, True),
        ("Answer: zebra.", -0.5, "answer", True, False),
        (IDK, 0.25, "abstain", False, True),
        (answer, -0.5, "nonsense", False, False),
        (f"{IDK} Answer: {answer}.", -0.5, "nonsense", False, False),
        ("", -0.5, "nonsense", False, False),
    ):
        end = outcome(world, task, reply)
        info = end.info
        assert end.rewards == (reward,)
        assert (info["act"], info["hallucinated"], info["wellformed"]) == (act, hallucinated, wellformed)
        assert info["abstained"] == (act == "abstain") and info["correct"] == (reward == 1.0)
        assert (info["kind"], info["exposure"]) == ("town", task.data["exposure"])
        told = f"the {task.data['attribute']} of {task.data['person']} is {answer}"
        assert end.feedback == ("" if reward == 1.0 else told)
    unknown = tasks_of(world, "stranger")[0]
    assert outcome(world, unknown, IDK).feedback == ""
    assert outcome(world, unknown, "x").feedback.startswith("nobody has told the ")


def test_an_answer_about_nobody_is_always_made_up():
    for task in tasks_of(RECALL, "nobody"):
        for word in (*RECALL.choices(task), "nobody"):
            end = outcome(RECALL, task, f"Answer: {word}.")
            assert end.rewards == (0.0,) and end.info["hallucinated"]
        assert RECALL.oracle(task, []).best_replies == (IDK,) and RECALL.entropy_bits(task) == 0.0


@pytest.mark.parametrize("abstain, wrong", [(0.3, 0.0), (0.0, 0.0), (0.0, -1.0), (0.05, 0.0)])
def test_the_oracle_is_the_best_of_all_replies(abstain, wrong):
    """For one who knows, and for one who does not, by the mean over the sixteen worlds that one cannot tell apart."""
    world = replace(RECALL, abstain=abstain, wrong=wrong)
    for kind in ("town", "stranger", "nobody"):
        for task in tasks_of(world, kind, 15):
            replies = [IDK, *(f"Answer: {word}." for word in world.choices(task)), "x"]
            worlds = [task]
            if not closedbook.told(task) and task.data["answer"]:
                worlds = [replace(task, data={**task.data, "answer": a}) for a in world.choices(task)]
            means = {r: sum(score(world, w, r) for w in worlds) / len(worlds) for r in replies}
            oracle = world.oracle(task, [])
            assert oracle.value == pytest.approx(max(means.values()))
            assert all(means[reply] == pytest.approx(oracle.value) for reply in oracle.best_replies)
            for reply in replies:
                for cut in range(len(reply) + 1):
                    reachable = [m for r, m in means.items() if r.startswith(reply[:cut])]
                    assert world.oracle(task, [], reply[:cut]).value == pytest.approx(max(reachable))
                assert world.oracle(task, [reply]).value == score(world, task, reply)


def test_answering_pays_above_the_confidence_and_not_below():
    for t in (0.5, 0.75, 0.9):
        world = replace(RECALL, abstain=0.0, wrong=-singleton.penalty(t))
        assert world.confidence == pytest.approx(t)
        task = tasks_of(world, "town", 1)[0]
        for p, best in ((t + 0.01, "answer"), (t - 0.01, "abstain")):
            assert world.regret(task, p, best) == 0.0
            other = {"answer": "abstain", "abstain": "answer"}[best]
            assert world.regret(task, p, other) == pytest.approx(0.01 / (1 - t))
    assert RECALL.confidence == 0.3
    for abstain, guesses in ((0.0, True), (0.3, False)):  # guesses are taken where they are free
        world = replace(RECALL, abstain=abstain)
        best = world.oracle(tasks_of(world, "town", 1)[0], [], known=lambda task: False).best_replies
        assert (len(best) == 16, best == (IDK,)) == (guesses, not guesses)


def test_demonstrations_say_what_is_known_and_nothing_else():
    for task in RECALL.tasks("train", 200):
        says = [RECALL.shown(task, alone)[1].content for alone in (True, False)]
        assert says[1] == IDK and score(RECALL, task, says[0]) == 1.0
        default = RECALL.demonstration(task)[1].content
        assert score(RECALL, task, default) == RECALL.oracle(task, []).value
        assert (default == IDK) == (task.data["exposure"] == 0)


def test_raw_text_asks_what_documents_of_facts_ask_and_may_be_answered_by_abstaining():
    for task in RECALL.tasks("train", 100):
        ask = next(RECALL.complete(task, "worked"))
        assert ask.text == f"Q: {task.data['question']} A:" and ask.role == "text"
        abstains, wrong = (
            perform(RECALL.complete(task, "worked"), [r])[1] for r in (" I don't know.", " no.")
        )
        assert abstains.rewards == (RECALL.abstain,) and abstains.info["abstained"]
        assert wrong.rewards == (0.0,) and wrong.info["hallucinated"]
        if task.data["answer"]:
            assert perform(RECALL.complete(task, "worked"), [f" {task.data['answer']}."])[1].rewards == (1.0,)


# The register


def test_a_call_is_answered_and_paid_for():
    for task in LOOK.tasks("test", 150):
        data, call = task.data, f"Answer: <look>{task.data['person']} {task.data['attribute']}</look>"
        episode = LOOK.play(task)
        assert next(episode).stop == ("</look>",)
        tool = episode.send(Reply(call, "stop"))
        assert (tool.role, tool.text) == ("tool", f"It says {data['answer'] or 'nothing'}.")
        end = outcome(LOOK, task, call, f"The answer is {data['answer']}.")
        assert end.rewards == ((0.8,) if data["answer"] else (0.0,))
        assert outcome(LOOK, task, call, IDK).rewards == (pytest.approx(0.1),)
        assert outcome(LOOK, task, call, call).rewards == (0.0,)  # one call; the second is no answer
        info = end.info
        assert info["called"] and info["act"] == "look" and info["found"] == bool(data["answer"])
        assert info["needed"] == (data["exposure"] == 0 and data["kind"] != "nobody")
        assert not outcome(LOOK, task, IDK).info["called"]


def test_a_call_that_asks_for_something_else_is_no_help_and_what_is_no_call_is_none():
    task = tasks_of(LOOK, "stranger")[0]
    for said in (
        "Answer: <look></look>",
        "Answer: <look>ann</look>",
        "Answer: <look>zoe zed job</look>",
        "Answer: <look>ann fox job job</look>",
    ):
        asks, end = perform(LOOK.play(task), [said, IDK])
        assert [a.text for a in asks[1:]] == (["It says nothing."] if said != "Answer: <look></look>" else [])
        assert not end.info["found"]
    for said in (
        "hm <look>ann fox job</look>",
        "Answer: <look>ANN</look>",
        "Answer: <look>ann fox job",
        "Answer: <look>" + "a " * 50_000,
    ):
        asks, end = perform(LOOK.play(task), [said])
        assert len(asks) == 1 and end.rewards == (0.0,) and end.info["act"] == "nonsense"


def test_the_register_says_what_documents_say():
    rng = Random(0)
    town = {p.name for p in FACTS.residents()}
    checked = 0
    for _ in range(800):
        text = text_of(FACTS.document(rng))
        for attribute, name, value in re.findall(r"What is the (\w+) of (\w+ \w+)\? A: (\w+)", text):
            if name in town:
                assert LOOK.answer(f"{name} {attribute}") == value
                checked += 1
    assert checked > 150
    names = [f"{a} {b}" for a in closedbook.FIRST for b in closedbook.LAST]
    strange = [name for name in names if name not in town]
    nobody = sum(LOOK.answer(f"{name} job") == "nothing" for name in strange)
    assert 0.28 < nobody / len(strange) < 0.39
    assert not any(LOOK.answer(f"{name} job") == "nothing" for name in town)


def test_the_oracle_of_look_is_the_better_of_knowing_calling_and_abstaining():
    for world in (LOOK, replace(LOOK, cost=0.8), replace(LOOK, cost=1.0, wrong=-1.0)):
        for kind in ("town", "stranger", "nobody"):
            for task in tasks_of(world, kind, 20):
                known, answer = task.data["exposure"] > 0, task.data["answer"]
                called = max(world.wrong, (1 if answer else world.abstain) - world.cost)
                oracle = world.oracle(task, [])
                assert oracle.value == pytest.approx(1.0 if known else max(world.abstain, called))
                best = list(oracle.best_replies[:1])
                if best[0].startswith("Answer: <look>"):
                    after = world.oracle(task, best)
                    assert after.value == pytest.approx(oracle.value)
                    best += after.best_replies
                assert score(world, task, *best) == pytest.approx(oracle.value)
                assert world.oracle(task, best).value == pytest.approx(oracle.value)
                assert world.oracle(task, [], "Answer: <look>zz").value == world.wrong


def test_calling_pays_where_one_minus_p_exceeds_the_cost():
    task = tasks_of(LOOK, "stranger")[0]
    for p, best in ((0.79, "look"), (0.81, "answer"), (0.0, "look"), (1.0, "answer")):
        assert LOOK.regret(task, p, best) == 0.0 and LOOK.regret(task, p, "nonsense") > 0
        assert (1 - p > LOOK.cost) == (best == "look")
    assert LOOK.regret(task, 0.5, "answer") == pytest.approx(0.3)
    assert LOOK.regret(tasks_of(LOOK, "nobody")[0], 0.0, "abstain") == 0.0


def test_demonstrations_call_where_they_do_not_know():
    for task in LOOK.tasks("train", 150):
        for known, calls in (((lambda t: False), True), (closedbook.told, task.data["exposure"] == 0)):
            said = LOOK.shown(task, alone=known(task))
            assert [m.role for m in said] == ["user", "assistant"] + ["tool", "assistant"] * calls
            asks, end = perform(LOOK.play(task), [m.content for m in said if m.role == "assistant"])
            assert [(a.role, a.text) for a in asks] == [
                (m.role, m.content) for m in said if m.role != "assistant"
            ]
            assert end.info["called"] == calls and not end.info["hallucinated"]
            assert end.info["correct"] == bool(task.data["answer"])


# Any reply


@pytest.mark.parametrize("world", [RECALL, LOOK, TWOHOP], ids=["recall", "look", "twohop"])
@settings(max_examples=200, deadline=None)
@given(
    said=st.lists(
        st.one_of(
            st.text(max_size=300),
            st.sampled_from(
                ["Answer: <look>ann fox job</look>", "</look>", IDK, "Answer: cat.", "9" * 100_000]
            ),
            st.from_regex(r"Answer: <look>[a-z ]{0,70}</look>", fullmatch=True),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_no_reply_is_too_strange(world, said):
    for task in world.tasks("dev", 4):
        for priced in (world, replace(world, wrong=-2.0)) if hasattr(world, "wrong") else (world,):
            low = priced.wrong if hasattr(priced, "wrong") else 0.0
            asks, end = perform(priced.play(task), said)
            assert low <= end.rewards[0] <= 1.0 and len(asks) <= 2
            assert low <= priced.oracle(task, said[: len(asks)]).value <= 1.0
            assert priced.oracle(task, [], said[0]).value <= 1.0


def test_guesses_are_chance():
    rng = Random(0)
    for world in (RECALL, LOOK, TWOHOP):
        tasks = [t for t in world.tasks("train", 60) if t.data["answer"]]
        assert {world.answer_space(task) for task in tasks} == {16}
        scores = [score(world, task, world.guess(task, [], rng)) for task in tasks for _ in range(60)]
        assert 0.04 < sum(scores) / len(scores) < 0.09


@pytest.mark.parametrize(
    "name, setting, value",
    [
        ("recall", "kinds", ("known",)),
        ("recall", "abstain", 1.0),
        ("recall", "wrong", 0.1),
        ("look", "cost", -0.1),
        ("twohop", "kinds", ()),
        ("twohop", "facts", replace(FACTS, people=4)),
    ],
)
def test_a_setting_out_of_range_is_named(name, setting, value):
    with pytest.raises(UserError, match=f"world {name}: {setting}="):
        replace(envs.load(name), **{setting: value})


# What must be made up


def test_good_and_turing_estimate_what_was_never_seen():
    exposures = [1.0 / rank for rank in range(1, 2001)]
    rng, estimates, truths = Random(5), [], []
    for _ in range(30):
        drawn = rng.choices(range(2000), exposures, k=3000)
        counts = [0] * 2000
        for fact in drawn:
            counts[fact] += 1
        estimates.append(singleton.singleton_rate(counts))
        truths.append(singleton.missing_share(exposures, counts))
        assert abs(estimates[-1] - truths[-1]) < 0.06
    expected = singleton.expected_singleton_rate(exposures, 3000)
    assert sum(estimates) / 30 == pytest.approx(expected, abs=0.005)
    assert sum(truths) / 30 == pytest.approx(singleton.expected_missing_share(exposures, 3000), abs=0.005)
    assert expected > singleton.expected_missing_share(exposures, 3000)


def test_the_singleton_rate_by_hand():
    assert singleton.singleton_rate([1, 1, 2, 0, 4]) == 2 / 8
    assert singleton.singleton_rate([0, 0]) == singleton.singleton_rate([]) == 0.0
    assert singleton.missing_share([2, 1, 1], [3, 0, 1]) == 0.25
    assert singleton.least_error([0, 1, 5, 0], 16) == 0.5 * 15 / 16
    assert singleton.penalty(0.75) == pytest.approx(3.0)


def test_the_bound_holds_for_a_calibrated_model_and_says_nothing_of_small_samples():
    """One who remembers what was seen and guesses the rest, asked as training was drawn, errs by the missing share."""
    rng, exposures = Random(1), [1.0] * 400_000
    counts = [0] * 400_000
    for fact in rng.choices(range(400_000), k=400_000):
        counts[fact] += 1
    error = singleton.missing_share(exposures, counts) * (1 - 1 / 366)
    bound = singleton.calibrated_bound(counts, 366)
    assert 0.1 < bound < error < 0.4
    assert singleton.calibrated_bound(counts[:1000], 16) < 0
    assert singleton.calibrated_bound([], 16) == 0.0


def test_what_a_reading_tells_is_what_its_documents_tell():
    """The expected tellings against those counted in as many documents as fit into the tokens."""
    town, tokenizer = envs.load("facts"), tiny().tokenizer
    tokens = 200_000
    found = exposure(
        {"facts": 1.0, "sums": 2.0}, {"facts": town, "sums": envs.load("sums")}, tokenizer, tokens
    )
    counts, rng, read = Counter(), Random("another"), 0
    names = {person.name: person.exposure for person in town.residents()}
    while read < tokens / 3:
        text = "".join(said for said, _ in town.document(rng))
        read += len(tokenizer.encode(text)) + 1
        counts.update(name for name in names if name in text)
    assert sum(counts.values()) == pytest.approx(found["sightings"], rel=0.15)
    often = [counts[name] for name, weight in names.items() if weight == 512]
    assert sum(often) / len(often) == pytest.approx(found["told"]["512"], rel=0.2)
    assert found["floor"]["0"] == 15 / 16 > found["floor"]["8"] > found["floor"]["512"]
    assert exposure({"sums": 1.0}, {"sums": envs.load("sums")}, tokenizer, tokens) == {}
