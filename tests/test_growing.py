"""Practice on longer problems: what is measured before and after, once, and told by size."""

from dataclasses import replace

from tiny import tiny

from nanoschool.envs.chain import Chain
from nanoschool.envs.rules import Rules
from nanoschool.evals.measure import answers, rewards
from nanoschool.lab.growing import Arm, Exam, Study
from nanoschool.methods.rloo import RLOO


def study(out, **changes) -> Study:
    arm = Arm(RLOO(problems=2, samples=2, max_tokens=4, replay=2), sizes=(1, 2), rollouts=12)
    exam = Exam(sizes=(2, 1), problems=4, sampled=2, attempts=3, max_tokens=4)
    made = Study(
        out,
        {"base": tiny(context=96), "start": tiny(context=96)},
        lambda size: Chain(lengths=(size,), name=f"chain of {size}"),
        {"arm": arm},
        exam,
        {"rules": Rules()},
    )
    return replace(made, **changes)


def test_an_arm_practises_each_size_in_turn_and_is_paid_for(tmp_path):
    found = study(tmp_path)
    told = found.practise(found.arms["arm"], seed=1)
    assert [size for size, _ in told["course"]] == [1, 1, 2, 2], "six rollouts a size, four a step"
    assert told["rollouts"] == 16 and told["flops"] > 0
    assert set(told["can"]) == {"1", "2"}
    assert [len(told["can"]["2"][m]) for m in ("greedy", "pass@1", "pass@k")] == [4, 2, 2]


def test_the_exam_asks_a_way_greedily_and_by_samples(tmp_path):
    exam, env, policy = Exam((2,), 6, 3, 4, 8), Chain(lengths=(1,)), tiny(context=96)
    sat = exam.sit(policy, env, "direct")
    assert sat["greedy"] == rewards(answers(policy, env, env.tasks("test", 6), "direct", max_tokens=8))
    assert all(one <= many for one, many in zip(sat["pass@1"], sat["pass@k"], strict=True))


def test_the_page_holds_arms_against_the_best_of_every_format_before(tmp_path):
    found = study(tmp_path)
    page = found.page([1, 2])
    assert page.index("### Size 2 (4 test problems, 2 for pass@k; 2 seeds)") < page.index("### Size 1")
    for row in ("| base, worked |", "| base, direct |", "| start, chat |", "| arm |", "less the best before"):
        assert page.count(row) == 2, row
    made = sorted(path.name for path in tmp_path.iterdir())
    assert made == ["arm-1.json", "arm-2.json", "base.json", "start.json"]
    assert study(tmp_path, found={"base": None, "start": None}).page([1, 2]) == page, "nothing is made twice"


def test_a_difference_is_to_the_best_way_of_each_measure(tmp_path):
    sat = {"greedy": [0.0, 1.0], "pass@1": [0.0, 0.5], "pass@k": [0.0, 1.0]}
    before = {"base": {"9": {"chat": {m: [0.0, 0.0] for m in sat}, "worked": sat}}}
    runs = [{"can": {"9": {"greedy": [1.0, 1.0], "pass@1": [1.0, 0.5], "pass@k": [1.0, 1.0]}}}] * 2
    lines = study(tmp_path, exam=Exam((9,), 2, 2, 3))._table("9", before, {"arm": runs})
    least = next(line for line in lines if "less the best" in line)
    assert [cell.split()[0] for cell in least.split("|")[2:5]] == ["+0.500", "+0.500", "+0.500"]
