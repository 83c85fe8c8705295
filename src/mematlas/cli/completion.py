"""Print the completions of a shell.

Packages of a distribution install them where the shell looks. Otherwise, add one line to the shell's start file:

  ~/.bashrc                   eval "$(mematlas completion bash)"
  ~/.zshrc                    eval "$(mematlas completion zsh)"
  ~/.config/fish/config.fish  mematlas completion fish | source
"""

from __future__ import annotations

import sys
from importlib import resources
from typing import TYPE_CHECKING

from mematlas.errors import MematlasError

if TYPE_CHECKING:
    import argparse

EXAMPLES = ("completion bash", "completion fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `mematlas completion`."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell that completes")


def run(arguments: argparse.Namespace) -> int:
    """Print the completions that the build made from the argument parsers."""
    name = f"completion.{arguments.shell}"
    try:
        text = resources.files("mematlas").joinpath(name).read_text("utf-8")
    except FileNotFoundError:
        raise MematlasError(
            f"{name} is missing in this installation; install mematlas again"
        ) from None
    sys.stdout.write(text)
    return 0
