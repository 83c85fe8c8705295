"""What an installation consists of: packages, manual pages, completions."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

from mematlas.cli.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
GENERATE = ROOT / "share" / "generate.py"
WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


@pytest.fixture(scope="module")
def share(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Generate the manual pages and completions once, as the build does."""
    folder = tmp_path_factory.mktemp("share")
    subprocess.run([sys.executable, GENERATE, folder], check=True, timeout=60)
    return folder


def test_wheels_serve_all_versions() -> None:
    """The wheel is abi3, and says so."""
    assert PROJECT["tool"]["meson-python"]["limited-api"] is True


def test_heavy_packages_are_extras() -> None:
    """What a default install takes stays below 40 MB besides NumPy: symbolic alone would take 78."""
    names = {each.partition(">")[0] for each in PROJECT["project"]["dependencies"]}
    assert names == {"cffi", "numpy", "rich", "multi-demangle"}


def test_parsers_need_no_package_and_no_core() -> None:
    """The build makes manual pages before the core exists and without NumPy and rich."""
    code = WITHOUT.format(names={"numpy", "rich", "cffi", "_cffi_backend", "symbolic", "textual"})
    code += f"import sys, runpy; sys.argv[1:] = ['list']; runpy.run_path({str(GENERATE)!r}, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["mematlas.1", *(f"mematlas-{each.name}.1" for each in COMMANDS)]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: each.name)
def test_manual_pages_tell_what_help_tells(share: Path, command: object) -> None:
    """Each command has a page with its summary and both examples."""
    from mematlas.cli.parser import command_parser

    page = (share / f"mematlas-{command.name}.1").read_text().replace("\\-", "-")  # type: ignore[attr-defined]
    _, module = command_parser(command)  # type: ignore[arg-type]
    assert command.summary in page  # type: ignore[attr-defined]
    assert all(f"mematlas {each}" in page.replace("\\e", "\\") for each in module.EXAMPLES)
    assert ".SH EXAMPLES" in page
    assert ".SH EXIT STATUS" in page


def test_bash_completes_commands_options_and_processes(share: Path) -> None:
    """The completions of bash are what bash makes of them."""

    def complete(*words: str) -> set[str]:
        script = (
            f"source {share}/mematlas.bash; COMP_WORDS=({' '.join(map(repr, words))}); COMP_CWORD={len(words) - 1}; "
            "$(complete -p mematlas | sed 's/.*-F \\([^ ]*\\).*/\\1/') mematlas; printf '%s\\n' \"${COMPREPLY[@]}\""
        )
        done = subprocess.run(
            ["bash", "-c", script], capture_output=True, text=True, check=True, timeout=60
        )
        return set(done.stdout.split())

    assert complete("mematlas", "rep") == {"report"}
    assert "--exact" in complete("mematlas", "run", "--e")
    assert "resident" in complete("mematlas", "report", "--by", "")
    assert "1" in complete("mematlas", "attach", "1")


def test_fish_completes_commands_options_and_processes(share: Path, tmp_path: Path) -> None:
    """The completions of fish are what fish makes of them."""
    if not shutil.which("fish"):
        pytest.skip("fish is not installed: apt-get install fish")
    (tmp_path / "one.atlas").touch()

    def complete(line: str) -> set[str]:
        script = f"source {share}/mematlas.fish; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", script],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            cwd=tmp_path,
        )
        return {each.partition("\t")[0] for each in done.stdout.splitlines()}

    assert complete("mematlas rep") == {"report"}
    assert "--exact" in complete("mematlas run --e")
    assert {"plan", "undo"} <= complete("mematlas tune ")
    assert "perfetto" in complete("mematlas export one.atlas --to p")
    assert "one.atlas" in complete("mematlas report ")
    assert "1" in complete("mematlas attach ")
    assert "gunzip" in complete("mematlas run -- gunz")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("rep", "mematlas report"),
        ("run --labe", "mematlas run --label"),
        ("report on", "mematlas report one.atlas"),
        ("export --to perf", "mematlas export --to perfetto"),
    ],
)
def test_zsh_completes_commands_options_and_files(
    share: Path, tmp_path: Path, typed: str, expected: str
) -> None:
    """A person's zsh in a terminal: what it writes after a tab."""
    if not shutil.which("zsh"):
        pytest.skip("zsh is not installed: apt-get install zsh")
    (tmp_path / "one.atlas").touch()
    (tmp_path / ".zshrc").write_text(
        "autoload -Uz compinit; compinit -u -D; unset zle_bracketed_paste; PS1='go> '\n"
        f'eval "$(cat {share}/completion.zsh)"\n'
    )
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.environ.update(ZDOTDIR=str(tmp_path), TERM="dumb", COLUMNS="200")
        os.execvp("zsh", ["zsh", "-i"])
    try:
        assert read_until(terminal, "go> ")
        os.write(terminal, f"mematlas {typed}\t".encode())
        assert read_until(terminal, expected)
    finally:
        os.close(terminal)
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)


def read_until(terminal: int, text: str, limit_s: float = 60) -> bool:
    """Read what a terminal shows until it shows a text; False if it does not in time."""
    seen, end = "", time.monotonic() + limit_s
    while text not in seen and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            seen += os.read(terminal, 1 << 16).decode(errors="replace")
            seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\r", "", seen)
    return text in seen


def test_reading_without_numpy_says_what_to_install() -> None:
    """A command whose package is missing ends with one line, not with a traceback."""
    code = WITHOUT.format(names={"numpy"})
    code += (
        "from mematlas.cli.main import main; import sys; sys.exit(main(['report', '/dev/null']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    wanted = "mematlas: reading a recording needs NumPy: pip install numpy\n"
    assert (done.returncode, done.stderr) == (1, wanted)


def test_a_run_needs_no_numpy(tmp_path: Path) -> None:
    """A program is recorded without NumPy, and its recording is read, with names, where there is one."""
    code = WITHOUT.format(names={"numpy"})
    code += (
        "import importlib.util as u; known = u.find_spec; "
        "u.find_spec = lambda name, *a: None if name == 'numpy' else known(name, *a); "
        "from mematlas.cli.main import main; import sys; sys.exit(main(sys.argv[1:]))"
    )
    path = tmp_path / "r.atlas"
    program = [sys.executable, "-c", "kept = [bytes(1000) for _ in range(20000)]"]
    done = subprocess.run(
        [sys.executable, "-c", code, "run", "-o", path, "--", *program],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    wanted = f"mematlas: {path} is recorded; reading a recording needs NumPy: pip install numpy\n"
    assert (done.returncode, done.stderr) == (0, wanted)

    import mematlas

    recording = mematlas.open(path)
    assert recording.complete
    assert any("<string>" in str(each) for each in recording.report().stacks[:50])


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "workflows").iterdir()), ids=lambda each: each.name
)
def test_workflows_pin_what_they_run(path: Path) -> None:
    """Actions are named by commit, tools by version, and each job ends."""
    text = path.read_text()
    used = re.findall(r"uses: (\S+)", text)
    assert not [each for each in used if not re.search(r"^\./|@[0-9a-f]{40}$", each)]
    tools = re.findall(r"pipx run (\S+)", text)
    assert not [each for each in tools if each != "build" and "==" not in each]
    assert text.count("runs-on:") == text.count("timeout-minutes:")
    assert "permissions: { contents: read }" in text
