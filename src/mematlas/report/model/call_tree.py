"""Model of call trees."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mematlas.recording.model import Frame


@dataclass(slots=True, eq=False)
class TreeNode:
    """A node of a call tree; `label` is a frame, the name of a package, or words for what is no code.

    sum(children) + own_bytes == bytes
    """

    label: Frame | str
    parent: TreeNode | None
    own_bytes: int = 0
    own_variance: float = 0.0  # in bytes squared; 0 if exact
    bytes: int = 0
    variance: float = 0.0
    children: dict[Frame | str, TreeNode] = field(default_factory=dict)  # largest first

    def child(self, label: Frame | str) -> TreeNode:
        """Return the child with a label, a new one if there is none."""
        found = self.children.get(label)
        if found is None:
            found = self.children[label] = TreeNode(label, self)
        return found


@dataclass(frozen=True, slots=True)
class CallTree:
    """The stacks of one metric, from the roots or, inverted, from the leaves."""

    by: str
    inverted: bool
    by_package: bool
    root: TreeNode
    folded: float  # stacks below this fraction count for their caller
