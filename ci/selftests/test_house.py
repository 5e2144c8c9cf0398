"""The rules of the house, read from the source: who imports whom, sizes, and what is not written.

Each rule is a function from a file to its faults, and each has a test in which it finds one.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("circuits", "fixtures", "ci", "claims")
UNBOUND = ("selftests", "benchmarks", "faults")
"""What looks at every part, and is not shipped."""
TEXTS = (".py", ".sh", ".md", ".toml", ".txt", ".yml", ".yaml", "")
LONGEST_FILE, LONGEST_FUNCTION = 300, 40
NAMELESS = ("utils", "util", "helpers", "misc", "common")
MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|home|root|Users|tmp)/[\w.-]+")
OUR_MODULE = re.compile(r"claimlens(\.\w+)+")

Rule = Callable[[Path, str], Iterator[str]]


def imports(tree: ast.AST) -> Iterator[str]:
    """Every module that is named in an import, or as a string that is one of our modules."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            whole = base == "claimlens"
            yield from (f"{base}.{alias.name}" if whole else base for alias in node.names)
        elif isinstance(node, ast.Constant) and OUR_MODULE.fullmatch(str(node.value)):
            yield str(node.value)


def star_of_imports(path: Path, source: str) -> Iterator[str]:
    """Parts import circuits and themselves; circuits imports no other part and no pytest."""
    own = path.parts[0]
    if own not in PARTS or set(UNBOUND) & set(path.parts):
        return
    for module in imports(ast.parse(source)):
        top, _, rest = module.partition(".")
        part = rest.split(".")[0]
        if top == "claimlens" and part not in (own, "circuits"):
            yield f"{own} imports {module}; it may import claimlens.circuits and itself"
        if own == "circuits" and top in ("pytest", "_pytest"):
            yield "circuits imports pytest"


def full_names(path: Path, source: str) -> Iterator[str]:
    """Our modules are imported as claimlens.…: neither bare nor by leading dots."""
    for module in imports(ast.parse(source)):
        if module.split(".")[0] in ("", *PARTS):
            yield f"imports {module!r}; write it as claimlens.…"


def size_of_file(path: Path, source: str) -> Iterator[str]:
    """A file fits on a few screens."""
    lines = len(source.splitlines())
    if lines > LONGEST_FILE:
        yield f"{lines} lines; at most {LONGEST_FILE}"


def size_of_functions(path: Path, source: str) -> Iterator[str]:
    """A function fits on one screen."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > LONGEST_FUNCTION:
                yield f"{node.name} has {lines} lines; at most {LONGEST_FUNCTION}"


def nothing_caught_blindly(path: Path, source: str) -> Iterator[str]:
    """No `except Exception`; what catches everything else hands it on."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.ExceptHandler):
            continue
        caught = (
            {n.id for n in ast.walk(node.type) if isinstance(n, ast.Name)} if node.type else {""}
        )
        last = node.body[-1]
        hands_on = isinstance(last, ast.Raise) and last.exc is None
        if "Exception" in caught or (caught & {"", "BaseException"} and not hands_on):
            yield f"line {node.lineno} catches everything"


def name_says_something(path: Path, source: str) -> Iterator[str]:
    """A module is named after what is in it."""
    if path.stem in NAMELESS:
        yield f"a module named {path.stem!r}; name what it holds"


def no_machine_paths(path: Path, source: str) -> Iterator[str]:
    """Nothing refers to the disk of one machine."""
    for number, line in enumerate(source.splitlines(), 1):
        if found := MACHINE_PATH.search(line):
            yield f"line {number} names a path of one machine: {found[0]}"


def what_is_offered_is_typed(path: Path, source: str) -> Iterator[str]:
    """A lazy package imports for type checkers exactly the names that it loads on demand."""
    typed: dict[str, str] = {}
    loaded: dict[str, str] = {}
    for node in ast.parse(source).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            for one in (n for n in node.body if isinstance(n, ast.ImportFrom)):
                module = str(one.module).removeprefix("claimlens.circuits.")
                typed |= {alias.name: module for alias in one.names}
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "_HOME":
            loaded = ast.literal_eval(node.value)
    if loaded:
        odd = {name for name, _ in typed.items() ^ loaded.items()}
        yield from (f"{name} is not typed as it is loaded" for name in sorted(odd))


CODE_RULES: tuple[Rule, ...] = (
    star_of_imports,
    full_names,
    size_of_file,
    size_of_functions,
    nothing_caught_blindly,
    name_says_something,
    what_is_offered_is_typed,
)


def files(*suffixes: str) -> Iterator[Path]:
    """The repository's files with these suffixes, relative to its root."""
    tops = [ROOT / part for part in (*PARTS, ".ci")]
    for path in [*ROOT.iterdir(), *(p for top in tops for p in top.rglob("*"))]:
        if path.suffix in suffixes and path.is_file() and "__pycache__" not in path.parts:
            yield path.relative_to(ROOT)


def faults(rule: Rule, paths: Iterator[Path]) -> list[str]:
    return [f"{p}: {fault}" for p in sorted(paths) for fault in rule(p, (ROOT / p).read_text())]


@pytest.mark.parametrize("rule", CODE_RULES, ids=lambda rule: rule.__name__)
def test_the_code_keeps_the_rule(rule: Rule) -> None:
    assert faults(rule, files(".py")) == []


def test_no_text_names_a_path_of_one_machine() -> None:
    assert faults(no_machine_paths, files(*TEXTS)) == []


def test_the_rules_look_at_every_part() -> None:
    seen = {path.parts[0] for path in files(".py")}
    assert seen >= {*PARTS, "conftest.py"}
    assert {Path("ci/claims"), Path(".ci/run"), Path("pyproject.toml")} <= set(files(*TEXTS))


LAZY = "if TYPE_CHECKING:\n    from claimlens.circuits.parts import Head as Head\n_HOME = {}"
LONG = "\n".join(["def long():", *["    x = 1"] * LONGEST_FUNCTION])
RED = [
    (star_of_imports, "claims/a.py", "from claimlens.fixtures.models import Registry"),
    (star_of_imports, "claims/a.py", "from claimlens import ci"),
    (star_of_imports, "ci/a.py", "def f():\n    import claimlens.fixtures.hub"),
    (star_of_imports, "fixtures/a.py", "if TYPE_CHECKING:\n    from claimlens.ci import store"),
    (star_of_imports, "fixtures/a.py", "import_module('claimlens.ci.store')"),
    (star_of_imports, "circuits/a.py", "from claimlens.fixtures import models"),
    (star_of_imports, "circuits/kernels/a.py", "import pytest"),
    (full_names, "ci/a.py", "from circuits.parts import Head"),
    (full_names, "ci/a.py", "import fixtures"),
    (full_names, "circuits/a.py", "from .parts import Head"),
    (size_of_file, "ci/a.py", "x = 1\n" * (LONGEST_FILE + 1)),
    (size_of_functions, "ci/a.py", LONG),
    (size_of_functions, "ci/a.py", LONG.replace("def", "async def")),
    (nothing_caught_blindly, "ci/a.py", "try:\n    f()\nexcept Exception:\n    raise"),
    (nothing_caught_blindly, "ci/a.py", "try:\n    f()\nexcept (OSError, Exception):\n    pass"),
    (nothing_caught_blindly, "ci/a.py", "try:\n    f()\nexcept BaseException:\n    pass"),
    (nothing_caught_blindly, "ci/a.py", "try:\n    f()\nexcept:\n    pass"),
    (name_says_something, "circuits/utils.py", ""),
    (what_is_offered_is_typed, "circuits/a.py", "_HOME = {'Head': 'parts'}"),
    (what_is_offered_is_typed, "circuits/a.py", LAZY.replace("{}", "{'Head': 'metrics'}")),
    (no_machine_paths, "ci/a.sh", "cd /" + "home/someone/models"),
    (no_machine_paths, "a.md", "see `/" + "tmp/x`"),
]
GREEN = [
    (star_of_imports, "claims/a.py", "from claimlens.circuits import Head"),
    (star_of_imports, "ci/a.py", "from claimlens.ci.store import RunFile"),
    (star_of_imports, "ci/selftests/a.py", "from claimlens.fixtures.models import Registry"),
    (star_of_imports, "ci/benchmarks/a.py", "from claimlens.fixtures.loading import boot"),
    (full_names, "ci/a.py", "from claimlens.circuits.parts import Head"),
    (size_of_file, "ci/a.py", "x = 1\n" * LONGEST_FILE),
    (size_of_functions, "ci/a.py", LONG.replace("    x = 1\n", "", 1)),
    (nothing_caught_blindly, "ci/a.py", "try:\n    f()\nexcept OSError:\n    pass"),
    (nothing_caught_blindly, "ci/a.py", "try:\n    f()\nexcept BaseException:\n    raise"),
    (name_says_something, "circuits/metrics.py", ""),
    (what_is_offered_is_typed, "circuits/a.py", LAZY.replace("{}", "{'Head': 'parts'}")),
    (no_machine_paths, "a.md", "https://host/work/it and ./tmp/x"),
]


@pytest.mark.parametrize(("rule", "path", "source"), RED)
def test_the_rule_finds_a_fault(rule: Rule, path: str, source: str) -> None:
    assert list(rule(Path(path), source))


@pytest.mark.parametrize(("rule", "path", "source"), GREEN)
def test_the_rule_lets_good_code_pass(rule: Rule, path: str, source: str) -> None:
    assert not list(rule(Path(path), source))
