"""The command line as a whole, the commands that start pytest, and what each says of a mistake."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from claimlens.ci import cli
from claimlens.ci.cli import COMMANDS, main
from claimlens.ci.commands import accept, check, new
from claimlens.ci.selftests.processes import RunClaims

EVIL = "\x1b[31m\u202e::error::"


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What pytest would be given, without running it."""
    found: list[list[str]] = []

    def run_pytest(given: list[str]) -> int:
        found.append([*given])
        return 7

    for module in (check, accept, new):
        monkeypatch.setattr(module, "run_pytest", run_pytest)
    return found


# --- every command -------------------------------------------------------------------------------


def examples() -> list[str]:
    """Every example that a command's help shows."""
    parser = cli.parser()
    (choices,) = [a.choices for a in parser._actions if isinstance(a.choices, dict)]
    texts = [str(each.epilog) for each in choices.values()]
    assert len(texts) == len(COMMANDS)
    return [line.strip() for text in texts for line in text.splitlines()[1:]]


@pytest.mark.parametrize("example", examples())
def test_the_examples_of_the_help_parse(example: str) -> None:
    words = shlex.split(example.partition(" > ")[0])
    assert words[0] == "claimlens"
    assert cli.parsed(words[1:]).command == words[1]


def test_an_example_that_does_not_parse_would_be_noticed() -> None:
    with pytest.raises(SystemExit):
        cli.parsed(["check", "--no-such-option"])


def test_every_command_is_in_the_documentation() -> None:
    page = (Path(cli.__file__).parents[1] / "docs" / "cli.md").read_text(encoding="utf-8")
    names = {module.__name__.rpartition(".")[2] for module in COMMANDS}
    assert set(re.findall(r"^### `claimlens (\w+)", page, re.MULTILINE)) == names
    shown = re.findall(r"^\$ claimlens (.*)$", page, re.MULTILINE)
    assert len(shown) >= len(names)
    for line in shown:
        cli.parsed(shlex.split(line.partition(" > ")[0]))


def test_what_is_pytests_is_refused_where_nothing_runs_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as left:
        main(["runs", "--", "-x"])
    assert left.value.code == 2
    assert "unrecognized arguments: " in capsys.readouterr().err


def test_dashes_end_the_options_of_a_command_that_runs_no_pytest() -> None:
    assert cli.parsed(["recover", "--store", "s", "--", "--odd"]).file == "--odd"
    assert cli.parsed(["revision", "--accepted=skip", "--", "org/name"]).model == "org/name"


def test_pytests_arguments_go_to_commands_that_run_it() -> None:
    parser = cli.parser()
    (choices,) = [a.choices for a in parser._actions if isinstance(a.choices, dict)]
    takes = {n for n, each in choices.items() if any(a.dest == "pytest" for a in each._actions)}
    assert takes == set(cli.PYTEST)


def test_ctrl_c_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run_pytest", interrupted)
    assert main(["check"]) == 130


# --- check, accept -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "there", "arguments"),
    [
        (["check"], True, ["claims"]),
        (["check"], False, ["--pyargs", "claimlens.claims"]),
        (["check", "--", "-k", "x"], True, ["claims", "-k", "x"]),
        (["check", "a/b", "--", "-x"], True, ["a/b", "-x"]),
        (
            ["check", "a", "--model", "m", "--", "-k", "x"],
            True,
            ["a", "-k", "x", "--claims-model", "m"],
        ),
        (["check", "--model", "m"], True, ["claims", "--claims-model", "m"]),
    ],
)
def test_check_runs_pytest_on_the_claims(
    given: list[str], there: bool, arguments: list[str], asked: list[list[str]]
) -> None:
    if there:
        Path("claims").mkdir()
    assert main(given) == 7
    assert asked == [arguments]


def test_accept_is_the_intent_of_pytest(asked: list[list[str]]) -> None:
    Path("claims").mkdir()
    assert main(["accept", "a/b", "c/d L1H1", "--reason", "why", "--model", "m"]) == 7
    (words,) = asked
    assert words[:3] == ["claims", "--claims-baseline", "accept"]
    assert [words[i + 1] for i, w in enumerate(words) if w == "--claims-accept"] == [
        "a/b", "c/d L1H1",
    ]  # fmt: skip
    assert words[-4:] == ["--claims-reason", "why", "--claims-model", "m"]


def test_accept_needs_a_reason() -> None:
    with pytest.raises(SystemExit) as left:
        main(["accept", "a/b"])
    assert left.value.code == 2


# --- new -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", new.KINDS)
def test_a_new_claim_holds(kind: str, run_claims: RunClaims) -> None:
    path = new.write_claim(f"mine/{kind}", kind, 'it\'s "here" \\ \n' + EVIL, Path("claims"))
    done = run_claims({path.name: path.read_text(encoding="utf-8")})
    assert done.code == 0, done.output
    assert re.search(rf"^holds\s+default mine/{kind}", done.output, re.MULTILINE), done.output


def test_new_runs_what_it_wrote(asked: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "mine/a-b", "--folder", "x"]) == 7
    assert asked == [[str(Path("x/test_mine_a_b.py"))]]
    assert "it names no source yet" in capsys.readouterr().out


def test_new_overwrites_nothing(asked: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    main(["new", "mine/a"])
    Path("claims/test_mine_a.py").write_text("my work")
    assert main(["new", "mine/a"]) == 2
    assert "is there already" in capsys.readouterr().err
    assert Path("claims/test_mine_a.py").read_text() == "my work"
    assert len(asked) == 1


@pytest.mark.parametrize("id", ["mine", "Mine/a", "../a/b", "mine/a\n", "mine/", f"a/{EVIL}"])
def test_new_refuses_an_id_that_is_none(id: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", id]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected lower-case words and a slash" in line
    assert "\x1b" not in line
    assert not Path("claims").exists()


# --- completion ----------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "tcsh"])
def test_a_shell_can_complete_every_command(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    told = capsys.readouterr().out
    assert all(module.__name__.rpartition(".")[2] in told for module in COMMANDS)
