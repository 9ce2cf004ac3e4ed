"""Prints of any graph: equal only if whoever walks both, step by step, can never tell which one it is in."""

from __future__ import annotations

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jmr.checkpoint.printing import Parts, Printer, new_hash

pytestmark = pytest.mark.slow


class Node:
    """A name, and others in an order."""

    def __init__(self, name):
        self.name = name
        self.others = []


@st.composite
def graphs(draw, acyclic=False):
    """Up to seven nodes, of two names, with up to three ways on from each."""
    n = draw(st.integers(1, 7))
    nodes = [Node(draw(st.sampled_from("ab"))) for _ in range(n)]
    for position, node in enumerate(nodes):
        first = position + 1 if acyclic else 0
        if first < n:
            node.others = [nodes[to] for to in draw(st.lists(st.integers(first, n - 1), max_size=3))]
    return nodes


def by_name(node):
    return Parts("node", [node.name, *node.others])


def by_others(node):
    """As an object's class comes before its state."""
    return Parts("node", [*node.others, node.name], n_apart=len(node.others))


WAYS = st.sampled_from([by_name, by_others])


def print_of(node, way):
    return Printer(way).print_of(node)


def walks_apart(nodes):
    """A number for each node: equal if no walk from one and the other, by the same turns, meets different names."""
    kinds = {id(node): node.name for node in nodes}
    for _ in nodes:
        seen = {id(node): (node.name, tuple(kinds[id(other)] for other in node.others)) for node in nodes}
        numbers = {kind: number for number, kind in enumerate(sorted(set(map(repr, seen.values()))))}
        kinds = {at: numbers[repr(kind)] for at, kind in seen.items()}
    return [kinds[id(node)] for node in nodes]


@settings(deadline=None, max_examples=500)
@given(graphs(), graphs(), WAYS)
def test_nodes_with_the_same_print_cannot_be_told_apart(some, others, way):
    nodes = [*some, *others]
    kinds, prints = walks_apart(nodes), [print_of(node, way) for node in nodes]
    assert len(set(zip(prints, kinds, strict=True))) == len(set(prints))


@settings(deadline=None, max_examples=500)
@given(graphs(), graphs(), WAYS)
def test_a_list_of_nodes_has_the_same_print_only_if_its_nodes_cannot_be_told_apart(some, others, way):
    """In a list, what was met in one node may be met again in the next."""

    def print_of_list(nodes):
        root = Node("root")
        root.others = nodes
        return print_of(root, way)

    nodes = [*some, *others]
    kinds = dict(zip(map(id, nodes), walks_apart(nodes), strict=True))
    lists = [[a, b, c] for a in some[:3] for b in nodes[-3:] for c in some[-2:]]
    prints = [(print_of_list(each), tuple(kinds[id(node)] for node in each)) for each in lists]
    assert len(set(prints)) == len({printed for printed, _ in prints})


@settings(deadline=None)
@given(graphs(acyclic=True), graphs(acyclic=True), WAYS)
def test_without_cycles_nodes_that_cannot_be_told_apart_have_the_same_print(some, others, way):
    nodes = [*some, *others]
    kinds, prints = walks_apart(nodes), [print_of(node, way) for node in nodes]
    assert len(set(zip(prints, kinds, strict=True))) == len(set(kinds)) == len(set(prints))


@settings(deadline=None)
@given(graphs(), WAYS)
def test_a_copy_of_a_graph_has_its_print(nodes, way):
    assert [print_of(node, way) for node in nodes] == [print_of(node, way) for node in copy.deepcopy(nodes)]


@settings(deadline=None, max_examples=300)
@given(graphs(), WAYS)
def test_what_was_printed_before_does_not_matter(nodes, way):
    """Also if it was a part of the same cycle."""
    together, apart, printer = new_hash(), new_hash(), Printer(way)
    printer.write([*nodes, *nodes[::-1]], together)
    for node in [*nodes, *nodes[::-1]]:
        Printer(way).write([node], apart)
    assert together.digest() == apart.digest()


def test_what_leads_out_of_a_cycle_is_known_when_all_of_that_is_done():
    """The third is met in the first, by way of the second; it leads back to the first only by way of itself."""
    first, second, third, fourth = (Node(name) for name in "baaa")
    first.others, second.others, third.others, fourth.others = [third, fourth], [third], [first, second], [second]
    printer = Printer(by_name)
    assert [printer.print_of(node) for node in (first, second)] == [print_of(node, by_name) for node in (first, second)]


@settings(deadline=None, max_examples=300)
@given(graphs(), WAYS)
def test_whether_objects_are_written_at_once_does_not_matter(nodes, way):
    prints = [print_of(node, way) for node in nodes]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Printer, "_as_leaf", lambda *_: None)
        assert [print_of(node, way) for node in nodes] == prints
