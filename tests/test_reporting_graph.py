"""The picture of what was made of what: the arithmetic of its layers, and that nothing leaves the picture."""

from __future__ import annotations

import re
from itertools import pairwise

from tasks.reporting import graph
from tasks.reporting.figures import WIDTH

NIGHT = {
    "prepare": ["data"],
    "sft": ["prepare", "base"],
    "align": ["prepare", "base", "sft"],
    "merge": ["base", "sft", "align", "prepare"],
    "evaluate": ["merge", "prepare"],
    "embed": ["data"],
    "release": ["merge", "evaluate", "embed"],
}
KEYS = ["data", "base", *NIGHT]


def test_what_a_longer_way_says_is_left_out():
    """merge reads base, sft, align and prepare; align comes from all of them."""
    links = graph.reduced(KEYS, NIGHT)
    assert links == {"data": [], "base": [], "prepare": ["data"], "sft": ["prepare", "base"], "align": ["sft"],
                     "merge": ["align"], "evaluate": ["merge"], "embed": ["data"], "release": ["evaluate", "embed"]}  # fmt: skip
    assert graph.reduced(["a", "b"], {"b": ["a", "a", "elsewhere"]}) == {"a": [], "b": ["a"]}


def test_layers_are_the_longest_ways():
    """data 0, prepare and embed 1, sft 2 … release 6; base stands right above sft; embed → release passes layers 2 to 5."""
    layers, lines = graph.layered(KEYS, graph.reduced(KEYS, NIGHT))
    named = [sorted(key for key in layer if key in KEYS) for layer in layers]
    assert named == [["data"], ["base", "embed", "prepare"], ["sft"], ["align"], ["merge"], ["evaluate"], ["release"]]
    (long,) = [line for line in lines if len(line) > 2]
    assert (long[0], long[-1], len(long)) == ("embed", "release", 6)
    assert all(place in layers[n] for n, place in enumerate(long, 1))


def test_boxes_share_their_layer_and_stay_inside():
    """Three boxes share 320 units, a passing edge takes 0.3 of a box's room: 320 / 1.3 = 246.2, box no wider than 96."""
    layers = [["a", "b", "c"], ["d", "a\0e\0"], ["e"]]
    at = graph.placed(layers, {"a", "b", "c", "d", "e"})
    assert [at[key][0] for key in layers[0]] == [WIDTH / 6, WIDTH / 2, WIDTH * 5 / 6] and at["a"][2] == graph.WIDEST
    assert (round(at["d"][0], 1), round(at["a\0e\0"][0], 1)) == (123.1, 283.1)
    many = graph.placed([list("abcdefgh")], set("abcdefgh"))
    edges = [(x - width / 2, x + width / 2) for x, _, width in many.values()]
    assert edges[0][0] >= 0 and edges[-1][1] <= WIDTH and all(left[1] < right[0] for left, right in pairwise(edges))


def test_the_picture_is_drawn_alike_each_time_and_escapes_names():
    """One box a node, one line an edge; hostile names are text; an empty graph is an empty picture."""
    nodes = [graph.Node(key, f"<b>{key}", "1 kB", "part" if key == "merge" else "") for key in KEYS]
    svg = graph.graph(nodes, NIGHT, 'nine "stages"')
    assert svg == graph.graph(nodes, NIGHT, 'nine "stages"')
    assert svg.count("<rect ") == 9 and svg.count('class="edge"') == 9 and svg.count('class="node part"') == 1
    assert "<b>" not in svg and "&lt;b&gt;" in svg and 'aria-label="nine &#34;stages&#34;"' in svg
    numbers = [float(n) for path in re.findall(r' d="M([^"]+)"', svg) for n in re.findall(r"[\d.]+", path)]
    assert numbers and min(numbers) >= 0 and "<rect" not in graph.graph([], {}, "nothing")


def test_edges_seldom_cross():
    """Two chains side by side stay side by side, whatever order they came in."""
    keys = ["a1", "b1", "b2", "a2", "a3", "b3"]
    layers, _ = graph.layered(keys, {"a1": [], "b1": [], "b2": ["b1"], "a2": ["a1"], "a3": ["a2"], "b3": ["b2"]})
    assert [[key[0] for key in layer] for layer in layers] in ([["a", "b"]] * 3, [["b", "a"]] * 3)
