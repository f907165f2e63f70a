"""Who may import whom, read with `ast` from every module: the table of the design, enforced."""

import ast
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "nanoschool"
ANY = None
ALLOWED: dict[
    str, set[str] | None
] = {  # a module or folder of the package, and what it may import of the package
    "types": set(),
    "ledger": set(),
    "credit": {"types"},
    "bits": set(),
    "preference": set(),
    "stepwise": set(),
    "userfile": {"types"},
    "envs": {"types", "userfile"},
    "core": {"types", "ledger"},
    "rollout": {"types", "ledger", "core"},
    "probe": {"types", "core", "rollout"},
    "methods": {
        "types",
        "ledger",
        "credit",
        "stepwise",
        "core",
        "rollout",
        "probe",
        "preference",
        "bits",
        "userfile",
    },
    "evals": {"types", "core", "rollout", "probe"},
    "exposure": {"types", "core", "envs", "evals"},
    "folder": {"types", "core"},
    "interrupt": set(),
    "saving": {"types", "core", "folder"},
    "judging": {"types", "ledger", "core", "folder", "methods", "evals", "plan"},
    "machine": {"types", "ledger", "core", "folder", "plan"},
    "checks": {"types", "core", "envs", "plan"},
    "examiner": {
        "types",
        "ledger",
        "core",
        "evals",
        "methods",
        "folder",
        "judging",
        "plan",
        "reading",
        "train",
    },
    "start": {"types", "ledger", "core", "settings", "plan", "places", "saving"},
    "reading": {"types", "core", "methods", "evals", "plan", "checks"},
    "summary": {"types", "evals", "folder", "plan", "saving"},
    "train": {"types", "ledger", "core", "rollout", "methods", "evals", "folder", "saving", "interrupt"},
    "lab": {
        *("types", "ledger", "core", "envs", "rollout", "methods", "evals", "train"),
        # `compare` trains runs of its own: what they are, where they start and where they are kept
        *("folder", "saving", "interrupt", "machine", "plan", "start", "training", "userfile"),
    },
    "report": {"types", "ledger"},
    "web": {"types", "core", "envs", "rollout"},
    "options": {"types"},
    "plan": {"types", "ledger", "core", "options"},
    "settings": {"types", "ledger", "envs", "methods", "options", "plan"},
    "progress": {"types"},
    "places": {"types", "options", "settings"},
    "training": {"types", "core", "envs", "methods", "options", "plan", "places", "settings", "start"},
    "finished": {"types", "ledger", "core", "envs", "evals", "lab", "saving", "settings"},
    "talk": {"types", "core", "settings"},
    "papers": {"methods"},
    "cli": ANY,
    "commands": ANY,
    "__main__": {"cli"},
    "__init__": set(),
}
ALLOWED["run"] = set(ALLOWED) - {
    "report",
    "web",
    "cli",
    "commands",
    "finished",
    "lab",
    "talk",
    "training",
    "papers",
    "__main__",
    "__init__",
}
WITHOUT_TORCH = (
    "types",
    "ledger",
    "envs",
    "options",
    "plan",
    "settings",
    "progress",
    "cli",
    "report",
    "folder",
    "interrupt",
    "places",
    "commands",
    "__main__",
)
MODULES = sorted(PACKAGE.rglob("*.py"))


def part(path: Path) -> str:
    """The row of the table that a file belongs to: its folder, or its own name at the top."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> set[str]:
    """Every module that a file imports, anywhere in it, by full name."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import, line {node.lineno}"
            assert node.module is not None
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def ours(path: Path) -> set[str]:
    return {name.split(".")[1] for name in imports(path) if name.startswith("nanoschool.")}


def test_the_reader_sees_imports_inside_functions(tmp_path):
    file = tmp_path / "x.py"
    file.write_text(
        "def f():\n    from nanoschool.web import page\n    import nanoschool.cli\n    from nanoschool import lab\n"
    )
    assert ours(file) == {"web", "cli", "lab"}


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_are_in_the_table(path):
    row = part(path)
    assert row in ALLOWED, f"{row} has no row in the table: say what it may import"
    allowed = ALLOWED[row]
    if allowed is not ANY:
        names = {
            name for name in ours(path) if (PACKAGE / name).is_dir() or (PACKAGE / f"{name}.py").is_file()
        }
        assert names <= allowed | {row}, f"{path.name} imports {sorted(names - allowed - {row})}"


def test_every_row_is_there():
    assert set(ALLOWED) == {part(path) for path in MODULES}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) == "envs"], ids=lambda path: path.name)
def test_worlds_need_nothing_but_python(path):
    roots = {name.partition(".")[0] for name in imports(path)}
    assert roots <= sys.stdlib_module_names | {"nanoschool"}


@pytest.mark.parametrize("path", [p for p in MODULES if part(p) in WITHOUT_TORCH], ids=lambda path: path.name)
def test_no_torch_where_only_words_and_files_are_handled(path):
    assert not any(name.partition(".")[0] == "torch" for name in imports(path))


def test_every_module_says_what_it_is():
    for path in MODULES:
        if path.name == "__init__.py" and not path.read_text().strip():
            continue
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{path} has no docstring"
