"""Stacks of a recording as frames, and whose code each frame is."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import TYPE_CHECKING

from mematlas.model.recording import Frame

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mematlas.model.recording import Recording, Rows

NO_STACK = (Frame("[stack not recorded]", None, None, None, "native"),)

OWN, PACKAGE, SYSTEM = 0, 1, 2
"""Whose code: the user's, an installed package's, the system's or the language's own."""

_PYTHON_INSTALLED = re.compile(r"/(?:site|dist)-packages/")
_PYTHON_SYSTEM = re.compile(
    r"/lib(?:64)?/python3(?:\.\d+)?/|^<frozen |^<(?:attrs|dataclass)|\.zip/"
)
_NATIVE_PACKAGE = re.compile(r"/\.cargo/|/node_modules/|/vcpkg")
_NATIVE_SYSTEM = re.compile(
    r"^/rustc/|/rustlib/|^/usr/(?:include|lib|src)/|^/build/|/gcc-\d|^\.\./|^\./"
)
_SYSTEM_FOLDERS = ("/usr/lib", "/lib", "/nix/store", "/snap/", "/usr/local/lib")
_INTERPRETER = re.compile(r"(?:lib)?python\d?(?:[.\d]|$)")


class Stacks:
    """The stacks of one process: frames by node, shared between stacks as far as they are alike."""

    def __init__(self, nodes: Rows | None, frames: Mapping[int, tuple[Frame, ...]]) -> None:
        """Look at one process's trie and resolved words."""
        self._parents = [] if nodes is None else nodes["parent"].tolist()
        self._words = [] if nodes is None else nodes["word"].tolist()
        self._frames = frames
        self._known: dict[int, tuple[Frame, ...]] = {0: ()}

    def frames(self, stack: int) -> tuple[Frame, ...]:
        """Frames of a stack, leaf first."""
        known, path = self._known, []
        while stack not in known:
            path.append(stack)
            stack = self._parents[stack]
        whole = known[stack]
        for node in reversed(path):
            whole = known[node] = self._at(node) + whole
        return whole or NO_STACK

    def _at(self, node: int) -> tuple[Frame, ...]:
        word = self._words[node]
        found = self._frames.get(word)
        if found is None:
            found = (Frame(f"{word:#x}", None, None, None, "native"),)
        return found


class Owners:
    """Tells whose code a frame is; which modules are the user's comes from the recording."""

    def __init__(self, recording: Recording) -> None:
        """Look at what was run and what it loaded."""
        self._own = {PurePath(each.executable).name for each in recording.processes}
        self._system: set[str] = {"[vdso]"}
        self._package: set[str] = set()
        for modules in recording.modules.values():
            for module in modules:
                name = PurePath(module.path).name
                if _PYTHON_INSTALLED.search(module.path):
                    self._package.add(name)
                elif module.path.startswith(_SYSTEM_FOLDERS):
                    self._system.add(name)
        self._ranks: dict[int, int] = {}  # by id(): frames are few objects in many stacks

    def find(self, frames: tuple[Frame, ...]) -> int:
        """Index of the frame a stack is put down to: the first among those nearest to the user."""
        ranks, best, at = self._ranks, SYSTEM, 0
        for index, frame in enumerate(frames):
            rank = ranks.get(id(frame))
            if rank is None:
                rank = ranks[id(frame)] = self.rank(frame)
            if rank == OWN:
                return index
            if rank < best:
                best, at = rank, index
        return at

    def rank(self, frame: Frame) -> int:
        """Whose code a frame is."""
        if frame.kind == "python":
            return _python_rank(frame.file or "")
        return self._native_rank(frame)

    def _native_rank(self, frame: Frame) -> int:
        module = PurePath(frame.module or "").name
        if not module or _INTERPRETER.match(module):
            return SYSTEM
        if module in self._package:
            return PACKAGE
        if module in self._system and module not in self._own:
            return SYSTEM
        if frame.file and _NATIVE_PACKAGE.search(frame.file):
            return PACKAGE
        if frame.file and _NATIVE_SYSTEM.search(frame.file):
            return SYSTEM
        return OWN


def _python_rank(file: str) -> int:
    if _PYTHON_INSTALLED.search(file):
        return PACKAGE
    if not file or _PYTHON_SYSTEM.search(file):
        return SYSTEM
    return OWN
