"""Answers from a graph: dominators, paths, unreachable blocks, differences, waste."""
