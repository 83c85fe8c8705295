"""Settings of the agent: a TOML file with limits of its own cost, and rules that choose what is profiled."""

from __future__ import annotations

import fnmatch
import os
import pwd
import tomllib
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mematlas.errors import AccessError, TargetError, UsageError
from mematlas.units import parse_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_FILE = "/etc/mematlas/agent.toml"
DEFAULT_LISTEN = "127.0.0.1:9465"
DEFAULT_STATE = "/var/lib/mematlas"
_LEAST_MEMORY = 32 << 20
_LEAST_DISK = 4 << 20
_MOST_SERIES = 1000


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule that chooses processes to profile. Patterns are those of a shell; an empty one matches all."""

    name: str
    command: str = ""  # of the program's name or the command line
    cgroup: str = ""  # of the path of its memory cgroup
    user: str = ""
    processes: int = 4  # at most
    least_bytes: int = 0  # resident

    def matches(self, name: str, command: str, cgroup: str, uid: int) -> bool:
        """Return whether the rule chooses a process."""
        program, blank, rest = command.partition(" ")
        base = os.path.basename(program)  # noqa: PTH119
        commands = (name, command, base, base + blank + rest)
        return (
            (not self.command or any(fnmatch.fnmatchcase(x, self.command) for x in commands))
            and (not self.cgroup or fnmatch.fnmatchcase(cgroup, self.cgroup))
            and (not self.user or self.user in {str(uid), _user_name(uid)})
        )


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """Settings of the agent. `cpu` is a share of one core; sizes in bytes."""

    listen: str = DEFAULT_LISTEN
    token_file: str = ""
    tls_cert: str = ""
    tls_key: str = ""
    state: str = DEFAULT_STATE
    cpu: float = 0.01
    memory_bytes: int = 64 << 20
    disk_bytes: int = 1 << 30
    processes: int = 16  # profiled at once
    sample_bytes: int = 512 << 10
    groups: int = 50  # with series of their own
    commands: int = 25
    rules: tuple[Rule, ...] = field(default=())


def load_settings(path: str | None) -> AgentSettings:
    """Read the file of settings; None: the default file, which need not exist.

    Raises:
        TargetError, AccessError: the file cannot be read.
        UsageError: a setting is unknown or invalid.
    """
    _user_name.cache_clear()
    file = Path(path or DEFAULT_FILE)
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        if path is None:
            return AgentSettings()
        raise TargetError(f"there is no file {path}") from None
    except PermissionError:
        raise AccessError(f"permission denied: {file}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{file}: not UTF-8") from None
    return parse_settings(text, str(file))


def parse_settings(text: str, name: str = DEFAULT_FILE) -> AgentSettings:
    """Parse settings. Raises UsageError, which names the file and the setting."""
    try:
        whole = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{name}: {error}") from None
    try:
        return _settings(whole)
    except ValueError as error:
        raise UsageError(f"{name}: {error}") from None


def _settings(whole: dict[str, Any]) -> AgentSettings:
    values: dict[str, Any] = {}
    for key, value in whole.items():
        if key == "profile":
            values["rules"] = _rules(value)
        elif key in _TABLES:
            if not isinstance(value, dict):
                raise UsageError(f"[{key}] is a table")
            for inner, given in value.items():
                values.update(_value(_TABLES[key], inner, given, f"{key}."))
        else:
            values.update(_value(_PLAIN, key, value, ""))
    return AgentSettings(**values)


def _rules(found: object) -> tuple[Rule, ...]:
    if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
        raise UsageError("write a rule as [[profile]]")
    rules: list[Rule] = []
    for number, each in enumerate(found, 1):
        values: dict[str, Any] = {"name": f"rule-{number}"}
        for key, value in each.items():
            values.update(_value(_RULE, key, value, f"profile {number}: "))
        rule = Rule(**values)
        if not (rule.command or rule.cgroup or rule.user):
            raise UsageError(
                f'profile {number}: name a command, cgroup or user; write command = "*" for all'
            )
        if any(rule.name == other.name for other in rules):
            raise UsageError(f"two rules have the name {rule.name!r}")
        rules.append(rule)
    return tuple(rules)


_Reader = tuple[str, "Callable[[object], object]"]


def _value(known: dict[str, _Reader], key: str, value: object, where: str) -> dict[str, object]:
    if key not in known:
        from difflib import get_close_matches

        close = get_close_matches(key, list(known), n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; known are {', '.join(known)}"
        raise UsageError(f"{where}{key} is unknown{hint}")
    name, read = known[key]
    try:
        return {name: read(value)}
    except ValueError as error:
        raise UsageError(f"{where}{key}: {error}") from None


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise UsageError(f"{value!r} is not a text in quotes")
    return value


def _absolute(value: object) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise UsageError(f"{text!r} is not an absolute path")
    return text


def _rule_name(value: object) -> str:
    text = _text(value)
    if not text or len(text) > 63 or not all(each.isalnum() or each in "-_." for each in text):
        raise UsageError(f"{text!r} is no name; take letters, digits, - _ and ., 63 at most")
    return text


def _size(least: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        size = value if isinstance(value, int) else parse_bytes(_text(value))
        if isinstance(value, bool) or size < least:
            raise UsageError(
                f"{value!r} is less than {least >> 20} MiB" if least else f"{value!r} is not a size"
            )
        return size

    return read


def _count(most: int) -> Callable[[object], int]:
    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise UsageError(f"{value!r} is not a number from 1 to {most}")
        return value

    return read


def _share(value: object) -> float:
    """Parse a share of one core: "1%" or 1, in percent."""
    text = str(value).strip().removesuffix("%")
    try:
        share = float(text) / 100
    except ValueError:
        share = 0.0
    if not 0.0001 <= share <= 1:
        raise UsageError(f'{value!r} is not a percentage from 0.01 to 100; write it as "1%"')
    return share


@lru_cache(maxsize=256)  # the name service may be another host
def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return ""


_PLAIN: dict[str, _Reader] = {
    **{name: (name, _text) for name in ("listen", "token_file", "tls_cert", "tls_key")},
    "state": ("state", _absolute),
    "sample_bytes": ("sample_bytes", _size(1)),
}
_TABLES: dict[str, dict[str, _Reader]] = {
    "limits": {
        "cpu": ("cpu", _share),
        "memory": ("memory_bytes", _size(_LEAST_MEMORY)),
        "disk": ("disk_bytes", _size(_LEAST_DISK)),
        "processes": ("processes", _count(1000)),
    },
    "series": {
        "groups": ("groups", _count(_MOST_SERIES)),
        "commands": ("commands", _count(_MOST_SERIES)),
    },
}
_RULE: dict[str, _Reader] = {
    "name": ("name", _rule_name),
    "command": ("command", _text),
    "cgroup": ("cgroup", _text),
    "user": ("user", _text),
    "processes": ("processes", _count(1000)),
    "least": ("least_bytes", _size(0)),
}
