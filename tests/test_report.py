"""The report: one offline page that says what the run's files say, that they are unfinished, or that they are broken."""

import ast
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from synthetic_run import estimate, ledger, summary, write_run

from nanoschool import report
from nanoschool.report.picture import picture
from nanoschool.report.reading import read
from nanoschool.report.scores import Score, interval, ns, percent
from nanoschool.report.style import LIGHT, spread
from nanoschool.types import UserError

VOID = {"meta", "br", "link", "img", "hr"}


class Page(HTMLParser):
    """Checks that tags close in order, and collects what a reader would see and what a browser would fetch."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.text, self.headings, self.titles, self.fetched = [], [], [], []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        values = dict(attrs)
        self.titles += [values["title"]] if "title" in values else []
        self.fetched += [v for k, v in attrs if k in ("src", "href", "xlink:href") and not v.startswith("#")]
        assert tag != "script"

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)
        if self.open and self.open[-1] == "h2":
            self.headings.append(data)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "synthetic")


@pytest.fixture(scope="module")
def html(run):
    path = report.write(run)
    assert path == run / "report.html"
    return path.read_text(encoding="utf-8")


def svgs(html):
    return re.findall(r"<svg .*?</svg>", html, flags=re.S)


def test_the_page_is_whole_and_offline(html):
    page = Page(html)
    assert page.fetched == []
    assert "@import" not in html and "url(http" not in html
    assert page.headings == [
        "What it can do", "What practice changed", "How it learned", "Does it read?", "Against compressors",
        "In its own words", "What it cost", "Settings",
    ]  # fmt: skip
    assert "Not finished" not in html
    assert len(html) < 600_000


def test_charts_are_vector_themed_and_do_not_share_ids(html):
    drawn = svgs(html)
    assert (
        len(drawn) == 9
    )  # accuracy, gain, pass@k, length, exposure, practice, loss, bits per byte, compression
    ids = []
    for one in drawn:
        root = ElementTree.fromstring(one)
        own = {e.attrib["id"] for e in root.iter() if "id" in e.attrib}
        used = set(re.findall(r"#([mp][0-9a-f]{10})", one))
        assert used <= own
        ids += own
        assert not re.search(r"#[0-9a-f]{6}\b", one), "a colour that would not turn dark with the page"
        assert root.attrib["aria-label"] and "width" not in root.attrib and "viewBox" in root.attrib
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"var\(--([a-z]+)\)", html)) <= {*LIGHT, "unsure", "font", "hue", "share", "u"}


def test_every_caption_states_its_n(html):
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert len(captions) == 9
    for caption in captions:
        assert "n = " in caption or "one seed" in caption, caption


def test_the_numbers_are_those_of_the_files(html):
    text = " ".join("".join(Page(html).text).split())
    for number in (
        "+57.5 points", "[52.5, 62.4]", "34.0 % → 91.5 %",  # gain
        "99.85 %", "[99.37, 99.96], n = 1,000", "12.7 %", "12.5 %", "1,000",  # gate
        "8 → 61 → 98 %", "pretrain worked → sft chat → rl chat", "rl [95.3, 100.0], n = 100 problems",  # pass@16
        "chain · pretrain · worked1.0 %", "pretrain · worked 8", "rl · chat 98",
        "well-formed 99.8 %", "chain chains of assignments, worked out <step> by step.",
        "n = 400 problems a world", "n = 4,012 bytes", "black: dev, n = 2,048 tokens", "dev, greedy, n = 64",
        "dev problems, n = 64 a look",
        "1 → 99.8 → 100 %",  # chat format
        "1.412", "1.20 M parameters", "vocabulary 1,024", "9 min 54 s", "16,128", "4,587,520",
        "Beyond the base.", "pretrain, worked, 86.0 %", "+5.5 points [1.1, 9.8]", "n = 50", "n = 1,843,221 bytes",
    ):  # fmt: skip
        assert number in text, number


def test_the_ledger_adds_up(html):
    flops = sum(account["flops"] for account in ledger().values())
    text = "".join(Page(html).text)
    assert f"{flops:.3g}".replace("e+", "e") in text
    shares = [float(s) for s in re.findall(r'class="bar" style="--share:([\d.]+)%"', html)]
    assert len(shares) == len(ledger()) + 2 + 1  # sums of pretrain and rl, and of all
    assert sum(shares[i] for i in (0, 1, 3, 4, 5)) == pytest.approx(100, abs=0.3) and shares[-1] == 100


def test_transcripts_carry_each_tokens_probability_and_escape_the_text(html):
    page = Page(html)
    assert "'<|end|>': 0." in " ".join(page.titles)
    assert "<b>47+38=?</b> & more" in "".join(page.text)  # shown as written, not as markup
    assert len(page.titles) > 80 and all(re.search(r": [01]\.\d{4}$", title) for title in page.titles)
    assert 'a <b> & "c"' in "".join(page.text).replace("\\", "")  # the settings too


def test_a_kind_of_question_is_scored_in_each_stages_best_format_which_is_named(tmp_path):
    folder, told = write_run(tmp_path / "kinds"), summary()
    base = told["stages"]["pretrain"]["worlds"]["facts"]
    base["worked"] = estimate(0.7) | {"by_kind": {"closed": estimate(0.64, 90)}}
    (folder / "summary.json").write_text(json.dumps(told))
    said = "".join(Page(report.write(folder).read_text()).text)
    assert re.search(r"facts · closed64\.0 %worked · \[54\.1, 73\.9\] · n = 9074\.4 %chat · ", said)


def test_what_nobody_spent_has_no_column(run, html, tmp_path):
    assert "<th>bits</th>" in html
    folder, spent = write_run(tmp_path / "bitless"), ledger()
    spent["rl/sample"]["bits"] = 0.0
    (folder / "ledger.json").write_text(json.dumps(spent))
    page = report.write(folder).read_text()
    assert "<th>bits</th>" not in page and "<th>rollouts</th>" in page


def test_every_stage_is_heard_on_the_same_problems_the_practised_world_first(html):
    talks = html[html.index("In its own words") : html.index("What it cost")]
    said = re.findall(r"<details( open)?><summary>(.*?)</summary>", talks)
    assert said == [(" open", "chain (practised)"), ("", "sums")]
    heads = re.findall(
        r'<div class="note">after <span class="stage \w+">(\w+)</span>, test split, (.*?)</div><pre>(\d)',
        talks,
    )
    round = [("pretrain", "worked, reward 1"), ("sft", "chat, reward 1"), ("rl", "chat, reward 1")]
    assert heads == [(*each, problem) for problem in "01" for each in round] + [
        (*each, "0") for each in round
    ]
    assert "step" not in talks


def test_elicitation_is_called_so(run, tmp_path):
    folder = write_run(tmp_path / "run")
    data = summary()
    data["gain"] |= {
        "verdict": "elicitation",
        "beyond": {"mean": -0.01, "low": -0.05, "high": 0.03, "n": 200},
    }
    (folder / "summary.json").write_text(json.dumps(data))
    html = report.write(folder).read_text()
    assert (
        "<span>elicitation</span><span>best before: 86.0 %, pretrain worked</span>" in html
    )  # in the headline too
    assert (
        "<b>Elicitation.</b> Practice beats the stage before, but not the best of any earlier stage" in html
    )
    assert "-1.0 points [-5.0, 3.0] against the best before (pretrain, worked, 86.0 %)" in html
    data["gain"] |= {
        "verdict": "no gain shown",
        "difference": {"mean": 0.0, "low": -0.02, "high": 0.02, "n": 400},
    }
    (folder / "summary.json").write_text(json.dumps(data))
    html = report.write(folder).read_text()
    assert "<b>No gain shown.</b>" in html and "brings out" not in html


def acts(**shares: float) -> dict:
    return {act: estimate(share, 40) for act, share in shares.items()}


def test_what_it_knows_stands_beside_what_it_was_told(tmp_path):
    folder = write_run(tmp_path / "knowing")
    told = summary()
    asked = {"knowledge": {"known": acts(right=0.9, wrong=0.1), "unknown": acts(wrong=1.0, right=0.0)}}
    base = {"exposure": {"0": acts(wrong=0.95, right=0.05), "8": acts(wrong=0.25, right=0.75)}}
    for stage, form, found in (
        ("pretrain", "chat", asked),
        ("pretrain", "worked", asked | base),
        ("sft", "chat", {"knowledge": {"unknown": acts(abstain=0.8, wrong=0.2)}}),
    ):
        measured = {f"acts_by_{by}": groups for by, groups in found.items()}
        measured |= estimate(0.3) | {
            "regret": estimate(0.1234),
            "format_rate": float(form != "chat" or stage == "sft"),
        }
        told["stages"][stage]["worlds"].setdefault("recall", {})[form] = measured
    told["exposure"] = {
        "sightings": 7000, "singleton_rate": 0.0055, "told": {"0": 0.0, "8": 6.3}, "floor": {"0": 0.9375, "8": 0.0018}
    }  # fmt: skip
    (folder / "summary.json").write_text(json.dumps(told))
    page = Page(report.write(folder).read_text())
    said = " ".join(" ".join(page.text).split())
    assert "Does it know what it knows?" in page.headings
    assert "80.0 % says it does not know" in said and "0.123" in said and "recall · unknown" in said
    assert (
        "errs on 25.0 % (n = 40)" in said and "Of 7,000 tellings 0.55 %" in said
    )  # by exposure: 0 weighs nothing
    assert re.search(r"8 6\.3 25\.0 % .* n = 40 0\.2 %", said)
    assert "recall · pretrain (%)" in said and "n = 40 a bar" in said, "by exposure there is a chart"
    assert "recall · 8" not in said and "proportion" not in said
    del told["exposure"]
    (folder / "summary.json").write_text(json.dumps(told))
    assert "tellings" not in report.write(folder).read_text()


def test_the_picture_stands_alone_and_turns_dark(run):
    drawn = picture(run)
    root = ElementTree.fromstring(drawn)
    assert "prefers-color-scheme: dark" in drawn and "+57.5 points" in drawn and "beyond the base" in drawn
    assert "One run, seed 1; held-out problems, n = 200 to 400 a dot" in drawn
    bottom = float(root.attrib["viewBox"].split()[3])
    charts = root.findall("{http://www.w3.org/2000/svg}svg")
    assert len(charts) == 4  # accuracy, pass@k, length, practice
    assert all(float(one.attrib["y"]) + float(one.attrib["height"]) < bottom for one in charts)


def test_same_files_same_page_and_nothing_else_is_touched(run, html):
    before = {p.name: p.read_bytes() for p in run.iterdir()}
    report.write(run)
    assert {p.name: p.read_bytes() for p in run.iterdir()} == before


def test_what_is_missing_is_said(tmp_path):
    folder = write_run(tmp_path / "going")
    for name in ("summary.json", "ledger.json"):
        (folder / name).unlink()
    lines = (folder / "metrics.jsonl").read_text().splitlines(keepends=True)
    (folder / "metrics.jsonl").write_text("".join(lines[:100]) + lines[100][:25])
    html = report.write(folder).read_text()
    Page(html)
    assert "Not finished." in html and "torn off" in html
    for name in ("summary.json", "ledger.json", "the evaluation after pretrain", "the stage sft"):
        assert name in html
    assert len(svgs(html)) == 2  # loss and bits per byte are there already
    assert len(read(folder).steps) == 100


def test_a_run_that_has_only_settings_has_a_page(tmp_path):
    (tmp_path / "config.toml").write_text("seed = 1\n")
    assert "Not finished." in report.write(tmp_path).read_text()


def test_a_few_steps_and_odd_numbers_are_drawn(tmp_path):
    folder = write_run(tmp_path / "tiny")
    rows = [
        {
            "stage": "pretrain",
            "step": 1,
            "progress": 0.5,
            "metrics": {"loss": 2.0},
            "dev": {"bits_per_byte": 2.0},
        },
        {"stage": "pretrain", "step": 2, "progress": 1.0, "metrics": {"loss": float("nan")}},
        {"stage": "rl", "step": 1, "progress": 1.0, "metrics": {"reward": 0.0, "entropy": 0, "loss": None}},
        {"stage": "dpo", "step": 1, "progress": 1.0, "metrics": {"loss": 0.7}},
    ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read(folder).stages == ["pretrain", "sft", "rl", "dpo"]
    assert len(svgs(report.write(folder).read_text())) == 9


def test_a_look_at_dev_is_placed_by_the_steps_around_it(tmp_path):
    rows = [
        {"stage": "sft", "step": 0, "dev": {"bits_per_byte": 3}},
        {"stage": "sft", "step": 1, "progress": 0.4, "metrics": {"loss": 2}},
        {"stage": "sft", "step": 2, "progress": 0.8, "metrics": {"loss": 1}},
        {"stage": "sft", "step": 2, "dev": {"bits_per_byte": 2}},
    ]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = read(tmp_path)
    assert run.curve("sft", "loss") == ([1, 2], [2, 1]) and run.curve("sft", "bits_per_byte", "dev") == (
        [0, 2],
        [3, 2],
    )
    assert [run.fraction("sft", step) for step in (0, 1, 2)] == [0, 0.4, 0.8]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("metrics.jsonl", '{"stage": "rl", "step": 1}\n{"stage": \n', "metrics.jsonl, line 2, column 11: not JSON"),
        ("metrics.jsonl", '{"step": 1}\n', "metrics.jsonl, line 1: a step needs a stage"),
        ("metrics.jsonl", '\n[1]\n', "metrics.jsonl, line 2: expected an object, found [1]"),
        ("metrics.jsonl", '{"stage": "rl", "step": 1, "metrics": {"kl": "x"}}\n', "line 1: metrics.kl: expected a number"),
        ("samples.jsonl", '{"tokens": ["a"], "probabilities": []}\n', "samples.jsonl, line 1: 1 tokens but 0 prob"),
        ("samples.jsonl", '{"tokens": [7], "probabilities": [1]}\n', "line 1: tokens: an entry of this list has the wrong"),
        ("ledger.json", '{"rl": {"flop": 1}}', "ledger.json: rl: unknown cost 'flop'"),
        ("ledger.json", '{"rl": \n {"flops" 1}}', "ledger.json, line 2, column 11: not JSON"),
        ("ledger.json", "", "ledger.json, line 1, column 1: not JSON"),
        ("config.toml", "seed = \n", "config.toml: not TOML: Invalid value (at line 1"),
        ("summary.json", '{"stages": {"rl": {"gate": {"passed": 1}}}}', "stages.rl.gate.passed: expected true or false"),
        ("summary.json", '{"stages": {"rl": {"worlds": {"sums": {"chat": {"n": 3}}}}}}', "sums.chat: a score needs a mean"),
        ("summary.json", '{"stages": {"rl": {"passk": {"sums": {"best": {"mean": 3}}}}}}', "sums.best: expected pass@"),
        ("summary.json", '{"parameters": true}', "summary.json: parameters: expected a number, found True"),
    ],
)  # fmt: skip
def test_a_broken_file_is_named_with_its_place_and_the_old_report_stays(tmp_path, name, content, said):
    folder = write_run(tmp_path / "run")
    (folder / "report.html").write_text("old")
    (folder / name).write_text(content)
    with pytest.raises(UserError) as error:
        report.write(folder)
    assert said in str(error.value) and "\n" not in str(error.value)
    assert (folder / "report.html").read_text() == "old"
    assert not list(folder.glob(".report-*"))


def test_what_is_no_run_folder_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such run folder"):
        report.write(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a run folder"):
        report.write(tmp_path)
    (tmp_path / "metrics.jsonl").write_bytes(b'{"stage": "\xff"}\n')
    with pytest.raises(UserError, match="not UTF-8 at byte 11"):
        report.write(tmp_path)


def test_percent_never_rounds_to_certainty():
    assert percent(0.9996) == "99.96 %" and percent(1.0) == "100.0 %" and percent(0.0001) == "0.01 %"
    assert percent(None) == "–" and percent(0.999, 0) == "99.9 %"
    assert interval(Score(0.5, 0.4, 0.6)) == "[40.0, 60.0]" and interval(Score(0.5)) == ""
    assert ns([Score(1, n=400), Score(1, n=50)]) == "n = 50 to 400" and ns([]) == "n not stated"


def test_labels_keep_their_distance_and_order():
    placed = spread([1.0, 1.1, 50.0, 0.9], 5)
    order = [placed[i] for i in (3, 0, 1, 2)]
    assert order == sorted(order) and min(b - a for a, b in itertools.pairwise(order)) > 4.99
    assert placed[2] == 50.0


def test_the_report_is_a_leaf():
    """It imports only types, ledger and itself of ours."""
    for path in Path(report.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("nanoschool"):
                assert re.match(r"nanoschool\.(types|ledger|report)\b", node.module), path
