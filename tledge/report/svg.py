"""Diagrams drawn by pygal and coloured by the page's own style sheet.

pygal, because its import and two diagrams take about 40 ms, where matplotlib takes 400 ms of a run that lasts 3 s.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tledge.errors import MissingExtra

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    import pygal

_WIDTH, _HEIGHT = 440, 330


def chart(*, extra: str = "train", **settings: Any) -> pygal.XY:
    """Return an empty diagram of points and lines. Raises MissingExtra, which names `extra`, without pygal."""
    try:
        import pygal
    except ImportError as error:
        raise MissingExtra("pygal", extra) from error
    style = pygal.style.Style(label_font_size=12, major_label_font_size=12, title_font_size=13)
    plain = {"width": _WIDTH, "height": _HEIGHT, "show_legend": False, "margin": 6, "margin_right": 22, "style": style}
    return pygal.XY(**plain | settings)


def render(chart: pygal.XY, title: str) -> str:
    """Return `chart` as an SVG element without style, script or address, whose accessible name is `title`."""
    chart.add_xml_filter(lambda root: _bare(root, title))
    return chart.render(is_unicode=True, disable_xml_declaration=True)


def _bare(root: Element, title: str) -> Element:
    """Leave shapes and texts only: pygal adds scripts, styles, the date, its address and a random id."""
    root.attrib.pop("id", None)
    root.set("role", "img")
    root.set("aria-label", title)
    for child in list(root):
        if child.tag != "g":
            root.remove(child)
    for dots in root.iterfind(".//g[@class='dots']"):
        name_dot(dots)
    for layer in root.findall("g/g"):
        if layer.get("class") in ("plot text-overlay", "plot tooltip-overlay"):
            root[0].remove(layer)
    return root


def name_dot(dots: Element) -> None:
    """Turn what pygal notes for its script beside a dot into a title, which browsers show by themselves."""
    label = dots.findtext("desc[@class='label']", "")
    for note in dots.findall("desc"):
        dots.remove(note)
    title = dots.makeelement("title", {})  # pygal's elements are lxml's where that is installed
    title.text = label
    dots[0].append(title)
