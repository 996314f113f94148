"""Figures as bars: an SVG by itself, with the ratios, and whiskers for their middle half."""

from __future__ import annotations

from html import escape

from .harness import Figure

_WIDTH = 820
_ROW = 44
_TOP = 56
_LEFT, _RIGHT = 336, 64
"""What the names take, and the ratios."""
STYLE = """
  .ground { fill: #ffffff } .name, .ratio { fill: #1f2328 } .note { fill: #59636e }
  .bar { fill: #8c9bab } .bar.ours { fill: #0969da } .whisker, .one { stroke: #1f2328 }
  .one { stroke-dasharray: 3 3; opacity: .6 }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #151b23 } .name, .ratio { fill: #f0f6fc } .note { fill: #9198a1 }
    .bar { fill: #656c76 } .bar.ours { fill: #4493f8 } .whisker, .one { stroke: #f0f6fc }
  }
  text { font: 13px system-ui, sans-serif } .note { font-size: 11px }
  .title, .ratio, .name.ours { font-weight: 600 }
"""


def drawn(figures: list[Figure], *, title: str, note: str, ours: str) -> str:
    """Draw a bar for each figure; those whose name begins with ``ours`` stand out.

    The drawing brings its ground with it, in light and dark, whatever the page around it has.
    """
    longest = max(_upper(figure) for figure in figures)
    unit = (_WIDTH - _LEFT - _RIGHT) / max(1.0, longest)
    height = _TOP + _ROW * len(figures) + 12
    one = _LEFT + unit
    rows = [
        _row(figure, _TOP + _ROW * number, unit, figure.name.startswith(ours))
        for number, figure in enumerate(figures)
    ]
    size = f'width="{_WIDTH}" height="{height}"'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {_WIDTH} {height}">',
            f"<title>{escape(title)}</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="ground" {size} rx="8"/>',
            f'<text class="name title" x="16" y="24">{escape(title)}</text>',
            f'<text class="note" x="16" y="42">{escape(note)}</text>',
            f'<line class="one" x1="{one:.1f}" x2="{one:.1f}" y1="{_TOP}" y2="{height - 8}"/>',
            *rows,
            "</svg>\n",
        ]
    )


def _row(figure: Figure, top: float, unit: float, is_ours: bool) -> str:
    name, _, about = figure.name.partition(": ")
    end = _LEFT + figure.ratio * unit
    middle = top + 18
    ours = " ours" if is_ours else ""
    width = end - _LEFT
    parts = [
        f'<text class="name{ours}" x="16" y="{top + 16}">{escape(name)}</text>',
        f'<text class="note" x="16" y="{top + 31}">{escape(about)}</text>',
        f'<rect class="bar{ours}" x="{_LEFT}" y="{middle - 10}" width="{width:.1f}" height="20"/>',
    ]
    if figure.middle_half is not None:
        lower, upper = (_LEFT + ratio * unit for ratio in figure.middle_half)
        parts.append(
            f'<path class="whisker" fill="none" d="M{lower:.1f} {middle - 4}v8m0 -4'
            f'H{upper:.1f}m0 -4v8"/>'
        )
    after = _LEFT + _upper(figure) * unit + 8
    parts += [
        f'<rect class="ground" x="{after - 3:.1f}" y="{middle - 8}" width="38" height="16"/>',
        f'<text class="ratio" x="{after:.1f}" y="{middle + 5}">{figure.ratio:.2f}</text>',
    ]
    return "\n".join(parts)


def _upper(figure: Figure) -> float:
    """Return how far to the right a row reaches."""
    return max(figure.ratio, figure.middle_half[1] if figure.middle_half else 0.0)
