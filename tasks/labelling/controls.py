"""Which controls a labelling page has, to see whether another page can stand for it."""

from __future__ import annotations

from xml.etree import ElementTree

Controls = dict[str, tuple[str, frozenset[str]]]  # name → tag, and the values it can give


def controls(page: str) -> Controls:
    """Every control of a page. ParseError (xml.etree) for what is no XML."""
    found = [node for node in ElementTree.fromstring(page).iter() if node.get("toName") and node.get("name")]
    return {node.get("name", ""): (node.tag, frozenset(filter(None, (child.get("value") for child in node)))) for node in found}


def fits(old: str, new: str) -> bool:
    """Whether `new` can show every judgement made on `old`: it has the same controls with at least the same values."""
    try:
        before = controls(old)
    except ElementTree.ParseError:
        return False
    after = controls(new)
    return all(name in after and after[name][0] == tag and after[name][1] >= values for name, (tag, values) in before.items())
