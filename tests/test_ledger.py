"""The ledger and budgets: accounts add up, survive JSON, and a budget that makes no sense is told in one line."""

import json
import math

import pytest

from nanoschool.ledger import Budget, Cost, Ledger


def test_charges_land_in_the_open_account():
    ledger = Ledger()
    ledger.charge(flops=1.0)
    with ledger.account("rl"):
        with ledger.account("sample"):
            ledger.charge(flops=10.0, tokens=5, sampled=3)
            ledger.charge(tokens=2, rollouts=1)
        ledger.charge(flops=100.0, trained=7)
    with ledger.account("rlx"):
        ledger.charge(bits=0.5)
    assert ledger.accounts == {
        "unnamed": Cost(flops=1.0),
        "rl/sample": Cost(flops=10.0, tokens=7, sampled=3, rollouts=1),
        "rl": Cost(flops=100.0, trained=7),
        "rlx": Cost(bits=0.5),
    }
    assert ledger.total("rl") == Cost(flops=110.0, tokens=7, sampled=3, trained=7, rollouts=1)
    assert ledger.total("rl/sample").tokens == 7 and ledger.total("rl/s") == Cost()
    assert ledger.total() == Cost(111.0, 7, 3, 7, 1, 0.5)
    assert ledger.total() - ledger.total("rl") == Cost(flops=1.0, bits=0.5)


def test_an_account_closes_when_its_work_fails():
    ledger = Ledger()
    with pytest.raises(KeyError), ledger.account("rl"), ledger.account("fit"):
        raise KeyError
    ledger.charge(tokens=1)
    assert list(ledger.accounts) == ["unnamed"]


def test_only_costs_can_be_charged():
    with pytest.raises(TypeError, match="seconds"):
        Ledger().charge(seconds=3)  # ty: ignore[unknown-argument]


def test_a_ledger_survives_json():
    ledger = Ledger()
    with ledger.account("sft"):
        ledger.charge(flops=1.5e12, tokens=7, trained=3)
    ledger.charge(bits=0.1, rollouts=2)
    again = Ledger.from_json(json.loads(json.dumps(ledger.to_json())))
    assert again.accounts == ledger.accounts and again.total() == ledger.total()
    again.charge(tokens=1)
    assert ledger.total().tokens == 7
    assert Ledger.from_json({}).total() == Cost()


@pytest.mark.parametrize(
    "text, budget",
    [
        ("flops=2e12", Budget("flops", 2e12)),
        ("tokens=2_000_000", Budget("tokens", 2e6)),
        (" rollouts = 16e3 ", Budget("rollouts", 16_000)),
        ("bits=0.5", Budget("bits", 0.5)),
        ("sampled=1", Budget("sampled", 1)),
    ],
)
def test_a_budget_is_read(text, budget):
    assert Budget.parse(text) == budget


def test_seconds_become_flops_once():
    assert Budget.parse("seconds=60", flops_per_second=2e9) == Budget("flops", 1.2e11)
    with pytest.raises(ValueError, match=r"seconds need a measured rate; write flops=… or tokens=… here"):
        Budget.parse("seconds=60")


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("tokens=0", "must be above 0 and finite"),
        ("tokens=-5", "must be above 0 and finite"),
        ("tokens=nan", "must be above 0 and finite"),
        ("flops=inf", "must be above 0 and finite"),
        ("tokens=", "'' is not a number"),
        ("tokens", "'' is not a number"),
        ("tokens=many", "'many' is not a number"),
        ("hours=3", "unknown unit 'hours'; write one of flops=…, tokens=…"),
        ("2e6", "unknown unit '2e6'"),
        ("", "unknown unit ''"),
    ],
)
def test_a_budget_that_makes_no_sense_is_told_in_one_line(text, complaint):
    with pytest.raises(ValueError) as error:
        Budget.parse(text)
    assert complaint in str(error.value) and repr(text) in str(error.value) and "\n" not in str(error.value)


def test_what_is_left():
    budget = Budget("tokens", 200)
    assert budget.left(Cost()) == 1.0 and budget.left(Cost(flops=9e9)) == 1.0
    assert budget.left(Cost(tokens=50)) == 0.75 and budget.left(Cost(tokens=200)) == 0.0
    assert math.isclose(budget.left(Cost(tokens=250)), -0.25)
