"""A picture of what was made of what: boxes in layers from top to bottom, as wide as every other picture of a page.

Layers are the longest ways from the top; a source stands right above what first reads it. Edges that a longer way says
already are left out, and the others run around the boxes between (Sugiyama et al. 1981: layers, order, then places).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from markupsafe import Markup

from tasks.reporting.figures import WIDTH, _n, _svg, _text, fit

PITCH, HEIGHT, MARGIN = 58, 34, 5  # of a layer; of a box; between boxes
PASSING = 0.3  # room that an edge takes among the boxes of a layer, of a box's
WIDEST = 96.0
SWEEPS = 8

Links = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Node:
    """A box: its name, a remark below, and its CSS class; `key` is unique, and edges name it."""

    key: str
    name: str
    remark: str = ""
    kind: str = ""


def graph(nodes: Sequence[Node], sources: Links, alt: str) -> Markup:
    """Draw `nodes`, each after its `sources` (key → keys)."""
    links = reduced([node.key for node in nodes], sources)
    layers, lines = layered([node.key for node in nodes], links)
    at = placed(layers, set(links))
    parts = [_edge([at[key] for key in line]) for line in lines]
    parts += [_box(node, *at[node.key]) for node in nodes]
    return _svg(parts, len(layers) * PITCH - (PITCH - HEIGHT) + 2, alt)


def reduced(keys: Sequence[str], sources: Links) -> dict[str, list[str]]:
    """Sources without those that another source comes from (transitive reduction)."""
    above: dict[str, set[str]] = {}
    links: dict[str, list[str]] = {}
    for key in keys:
        direct = [source for source in dict.fromkeys(sources.get(key, ())) if source in above]
        links[key] = [source for source in direct if not any(source in above[other] for other in direct)]
        above[key] = {*direct, *(far for source in direct for far in above[source])}
    return links


def layered(keys: Sequence[str], links: Mapping[str, Sequence[str]]) -> tuple[list[list[str]], list[list[str]]]:
    """Keys by layer, with a place for each edge that passes one, and the edges as lines through these places."""
    depth: dict[str, int] = {}
    for key in keys:
        depth[key] = 1 + max((depth[source] for source in links[key]), default=-1)
    readers = {key: [depth[reader] for reader in keys if key in links[reader]] for key in keys}
    depth |= {key: min(readers[key]) - 1 for key in keys if not links[key] and readers[key]}
    layers: list[list[str]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
    for key in keys:
        layers[depth[key]].append(key)
    lines = []
    for key in keys:
        for source in links[key]:
            passed = [f"{source}\0{key}\0{n}" for n in range(depth[source] + 1, depth[key])]
            for n, place in enumerate(passed, depth[source] + 1):
                layers[n].append(place)
            lines.append([source, *passed, key])
    return _ordered(layers, lines), lines


def _ordered(layers: list[list[str]], lines: Sequence[Sequence[str]]) -> list[list[str]]:
    """Each layer in the order of what its members hang on, above and below in turn, so that few edges cross."""
    above: dict[str, list[str]] = {}
    below: dict[str, list[str]] = {}
    for line in lines:
        for one, two in pairwise(line):
            below.setdefault(one, []).append(two)
            above.setdefault(two, []).append(one)
    for sweep in range(SWEEPS):
        near = below if sweep % 2 else above
        place = {key: (n + 0.5) / len(layer) for layer in layers for n, key in enumerate(layer)}
        for layer in reversed(layers) if sweep % 2 else layers:
            mean = {key: sum(place[of] for of in near[key]) / len(near[key]) if key in near else place[key] for key in layer}
            layer.sort(key=mean.__getitem__)
            place |= {key: (n + 0.5) / len(layer) for n, key in enumerate(layer)}
    return layers


def placed(layers: Sequence[Sequence[str]], boxes: set[str]) -> dict[str, tuple[float, float, float]]:
    """Key → middle, top and width of its place."""
    at = {}
    for n, layer in enumerate(layers):
        shares = [1.0 if key in boxes else PASSING for key in layer]
        unit = WIDTH / sum(shares)
        left = 0.0
        for key, share in zip(layer, shares, strict=True):
            room = unit * share
            at[key] = (left + room / 2, n * PITCH + 1.0, min(room - MARGIN, WIDEST))
            left += room
    return at


def _edge(places: Sequence[tuple[float, float, float]]) -> Markup:
    """A smooth line down from box to box; it passes a layer straight."""
    (x, top, _), *others = places
    y, path = top + HEIGHT, f"M{_n(x)} {_n(top + HEIGHT)}"
    for n, (to, below, _) in enumerate(others, 1):
        half = (y + below) / 2
        path += f"C{_n(x)} {_n(half)} {_n(to)} {_n(half)} {_n(to)} {_n(below)}"
        x, y = to, below
        if n < len(others):
            path, y = f"{path}V{_n(below + HEIGHT)}", below + HEIGHT
    return Markup('<path class="edge" d="{}"/>').format(path)


def _box(node: Node, x: float, y: float, width: float) -> Markup:
    hint = f"{node.name}: {node.remark}" if node.remark else node.name
    body = [
        Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="4"/>').format(_n(x - width / 2), _n(y), _n(width), HEIGHT),
        _text(x, y + (15 if node.remark else 21), fit(node.name, width - 4), "name"),
        *([_text(x, y + 28, fit(node.remark, width), "tick")] if node.remark else []),
    ]
    title = Markup("<title>{}</title>").format(hint)
    return Markup('<g class="{}">{}{}</g>').format(f"node {node.kind}".strip(), title, Markup("").join(body))
