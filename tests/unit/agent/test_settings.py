"""Settings of the agent: what they say, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from mematlas.agent import settings as module
from mematlas.agent.settings import AgentSettings, Rule, parse_settings
from mematlas.errors import UsageError

EXAMPLE = Path(module.__file__).parent / "files" / "agent.toml"


def test_the_example_has_the_defaults() -> None:
    """The file that `mematlas agent --print settings` prints says what holds without it."""
    assert parse_settings(EXAMPLE.read_text()) == AgentSettings()


def test_the_rule_of_the_example_is_valid() -> None:
    """The rule that is a comment there."""
    text = EXAMPLE.read_text()
    rule = text[text.index("# [[profile]]") :].replace("# ", "", 1).replace("\n# ", "\n")
    (found,) = parse_settings(rule).rules
    assert found == Rule("web", "gunicorn*", "/system.slice/web*", "www-data", 4, 100 << 20)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1", "x is unknown"),
        ("lissen = 'a:1'", "did you mean 'listen'?"),
        ("listen = 1", "listen: 1 is not a text"),
        ("limits = 1", r"\[limits\] is a table"),
        ("[limits]\ncpu = '0%'", "limits.cpu: '0%' is not a percentage"),
        ("[limits]\ncpu = 'nan'", "limits.cpu"),
        ("[limits]\nmemory = '1M'", "limits.memory: '1M' is less than 32 MiB"),
        ("[limits]\nprocesses = true", "limits.processes"),
        ("[series]\ngroups = 0", "series.groups: 0 is not a number from 1"),
        ("[profile]\ncommand = 'x'", r"write a rule as \[\[profile\]\]"),
        ("profile = [1]", r"write a rule as \[\[profile\]\]"),
        ("[[profile]]\nname = 'a'", "name a command, cgroup or user"),
        ("[[profile]]\nname = 'a b'\nuser = 'x'", "is no name"),
        ("[[profile]]\nname='a'\nuser='x'\n[[profile]]\nname='a'\nuser='y'", "have the name 'a'"),
        ("x = ", "agent.toml: "),
        ("sample_bytes = 0", "sample_bytes"),
        ("state = 'here'", "state: 'here' is not an absolute path"),
    ],
)
def test_a_mistake_is_named(text: str, said: str) -> None:
    """One line with the file and the setting."""
    with pytest.raises(UsageError, match=said) as raised:
        parse_settings(text)
    assert "\n" not in str(raised.value)
    assert "agent.toml" in str(raised.value)


def test_what_a_rule_matches() -> None:
    """Patterns of the program's name, its path or the command line, of the cgroup; a user by name or number."""
    rule = Rule("a", command="gun*")
    assert rule.matches("gunicorn: master", "", "/", 0)
    assert rule.matches("python3", "gunicorn app:app", "/", 0)
    assert rule.matches("python3", "/usr/bin/gunicorn app:app", "/", 0)
    assert not rule.matches("python3", "python3 gunicorn", "/", 0)
    assert Rule("a", command="python3 *app.py").matches("p", "/opt/bin/python3 /srv/app.py", "/", 0)
    assert Rule("a", cgroup="*kubepods*").matches("x", "", "/kubepods/pod1", 0)
    assert not Rule("a", cgroup="/a", command="x").matches("x", "", "/b", 0)
    assert Rule("a", user="root").matches("x", "", "/", 0)
    assert Rule("a", user="0").matches("x", "", "/", 0)
    assert not Rule("a", user="root").matches("x", "", "/", 4294967294)
