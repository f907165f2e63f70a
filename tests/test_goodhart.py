"""The experiment on over-optimisation: its estimator and its fits are exact, and it goes on where it was."""

import json
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from test_preference import SURE
from tiny import tiny

from nanoschool.lab import frontier
from nanoschool.lab.goodhart import BEST_OF, Arm, Experiment, Plan, best_of
from nanoschool.methods.dpo import DPO
from nanoschool.methods.rloo import RLOO
from nanoschool.report.goodhart import page
from nanoschool.report.goodhart_text import markdown
from nanoschool.types import UserError


def test_best_of_n_is_the_mean_over_all_subsets():
    gold = [3.0, -1.0, 2.0, 0.5, 4.0]  # in the order of the judge's scores, the worst first
    for n in (1, 2, 4, 5):
        subsets = list(combinations(range(5), n))
        mean = sum(gold[max(some)] for some in subsets) / len(subsets)
        assert sum(c * g for c, g in zip(best_of(n, 5), gold, strict=True)) == pytest.approx(mean)


@pytest.mark.parametrize("form, inner", frontier.FORMS.items())
def test_a_form_is_found_where_it_holds_and_refused_where_it_does_not(form, inner):
    rng, d_L = np.random.default_rng(1), np.linspace(0.4, 4, 10)
    exact = d_L * (1.5 - 0.3 * inner(d_L))
    gains_LP = exact[:, None] + rng.normal(0, 0.3, size=(10, 64))
    found = frontier.fit(d_L, gains_LP, inner)
    for name, true in (("alpha", 1.5), ("beta", 0.3)):
        assert found[name]["low"] < true < found[name]["high"] and abs(found[name]["mean"] - true) < 0.05
    assert found["holds"] and found["r2"] > 0.9
    cliff = frontier.fit(d_L, np.where(d_L < 2.5, exact, -4.0)[:, None] + gains_LP - exact[:, None], inner)
    assert not cliff["holds"] and cliff["residual"] > found["residual"]


def test_units_are_made_once_and_summed_up(tmp_path):
    arms = {"rloo": Arm(RLOO(problems=2, samples=2, lr=1e-3), 2, 1.0), "dpo": Arm(DPO(pairs=2))}
    plan = Plan(
        sizes=(8,), seeds=(1,), steps=2, every=1, problems=4, samples=2, pool=4, longest=8, compared=10
    )
    experiment = Experiment(tiny(context=96), SURE, arms, plan, tmp_path)
    units = list(experiment.run())
    assert [unit["arm"] for unit in units] == [BEST_OF, "rloo", "dpo"]
    for unit in units[1:]:
        assert unit["points"][0]["kl"] == pytest.approx([0] * 4, abs=1e-4) and len(unit["points"]) == 3
    begun = {path: path.read_bytes() for path in tmp_path.glob("*.json")}
    (tmp_path / "dpo-8-1.json").unlink()
    assert list(Experiment(tiny(context=96), SURE, arms, plan, tmp_path).run()) == units, "to the same bits"
    assert {path: path.read_bytes() for path in tmp_path.glob("*.json")} == begun
    with pytest.raises(UserError, match="was made with other settings"):
        list(replace(experiment, plan=replace(plan, steps=3)).run())
    told = json.loads(json.dumps(frontier.summarise(units)))
    assert told[0]["form"] == "d(a - b d)" and told[1]["form"] == "d(a - b log d)"
    written = page(told)
    assert "8 comparisons" in written and "<svg" in written
    in_words = markdown(told)
    assert "### 8 comparisons (1 seeds, 4 test problems)" in in_words
    assert all(len(row.split("|")) == 12 for row in in_words.splitlines() if row.startswith("|"))
