"""What all tests share: one thread each, a way to say that none may be skipped, and a finished run of `nano`."""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: xdist's workers would fight over the cores

from pathlib import Path

import forked
import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-skips", action="store_true", help="a skipped test is a failure (make peers)")


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a good exit status into a bad one where tests were skipped."""
    reporter = session.config.pluginmanager.getplugin("terminalreporter")
    if session.config.getoption("--no-skips") and reporter is not None and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def nano_done(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, forked.Done]:
    """The folder of a finished `nanoschool run nano`, and how the command ended."""
    runs = tmp_path_factory.mktemp("runs")
    done = forked.command(["run", "nano", "--runs-dir", str(runs)], forked.Trouble("/checkpoints/"))
    assert done.status == 0, done.err
    return runs / "nano", done


@pytest.fixture(scope="session")
def nano(nano_done: tuple[Path, forked.Done]) -> Path:
    """The folder of a finished run. Look, do not touch: `forked.copy` gives one to change."""
    return nano_done[0]
