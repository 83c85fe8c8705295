"""Make a graph and keep it."""

import time

import networkx as nx


def make():
    """Return a graph with attributes."""
    graph = nx.barabasi_albert_graph(30_000, 4, seed=1)
    nx.set_node_attributes(graph, nx.pagerank(graph, max_iter=50), "rank")
    return graph


graph = make()
time.sleep(1.5)
print(graph.number_of_edges())
