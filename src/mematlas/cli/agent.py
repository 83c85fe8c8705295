"""Observe all processes and cgroups of this host, for Prometheus, and keep what explains an OOM kill.

The agent injects nothing, but into processes that a rule of its settings chooses. Its budget is 1 % of one core and
64 MiB. SIGHUP reads the settings again, SIGUSR2 begins a new version in place, SIGTERM ends the recordings and the agent.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("agent --config /etc/mematlas/agent.toml", "agent --print systemd")
_FILES = {
    "settings": "agent.toml",
    "systemd": "mematlas-agent.service",
    "kubernetes": "daemonset.yaml",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas agent`."""
    from mematlas.agent.settings import DEFAULT_FILE

    parser.add_argument(
        "--config", metavar="FILE", help=f"read the settings from FILE (default {DEFAULT_FILE})"
    )
    parser.add_argument("--check", action="store_true", help="check the settings, and end")
    parser.add_argument(
        "--print",
        choices=tuple(_FILES),
        metavar="WHAT",
        help="print a file to begin with: settings, systemd (a unit), kubernetes (a DaemonSet)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Run the agent until it is told to end."""
    if arguments.print:
        from importlib import resources

        folder = resources.files("mematlas.agent").joinpath("files")
        sys.stdout.write(folder.joinpath(_FILES[arguments.print]).read_text("utf-8"))
        return 0
    from mematlas.agent.settings import DEFAULT_FILE, load_settings

    settings = load_settings(arguments.config)
    if arguments.check:
        from mematlas.serve.address import parse_address, protect
        from mematlas.units import format_count

        address = parse_address(settings.listen)
        protect(address, settings.token_file, settings.tls_cert, settings.tls_key)
        file = arguments.config or DEFAULT_FILE
        found = f"{file} is valid" if os.path.exists(file) else f"there is no {file}: the defaults"  # noqa: PTH110
        print(f"{found}; {format_count(len(settings.rules), 'rule')} for profiles")
        return 0
    from mematlas.agent.daemon import Agent

    return Agent(settings, arguments.config).run()
