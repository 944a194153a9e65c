"""Drawings of the figures, as SVG that follows the reader's colours."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

WIDTH = 860
BAR, GAP = 16, 26
LEFT, RIGHT = 400, 770

STYLE = """
    .paper { fill: #ffffff; }
    .used { fill: #2f6f5e; }
    .missed { fill: #b9703a; }
    .goal { stroke: #5d6b65; stroke-dasharray: 4 3; }
    text { fill: #1d2723; font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
    .small { fill: #5d6b65; font-size: 12px; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #1c2320; }
      .used { fill: #7fc4ae; }
      .missed { fill: #d99a6b; }
      .goal { stroke: #9baaa3; }
      text { fill: #e6ece9; }
      .small { fill: #9baaa3; }
    }
"""


def goals_drawing(rows: Sequence[Mapping[str, Any]]) -> str:
    """A bar for each row: how much of its goal it reaches, the goal being a line."""
    goal_x = LEFT + (RIGHT - LEFT) / 2
    bars = [
        (row["what"], min(_share(row), 2) / 2, "used" if row["is_met"] else "missed", _note(row))
        for row in rows
    ]
    bottom = 60 + GAP * len(bars)
    line = f'<line class="goal" x1="{goal_x:g}" y1="40" x2="{goal_x:g}" y2="{bottom}"/>'
    label = f'<text class="small" x="{goal_x:g}" y="32" text-anchor="middle">goal</text>'
    return _drawing("How much of its goal each figure reaches", bars, [line, label])


def layers_drawing(layers: Mapping[str, float]) -> str:
    """A bar for each layer: microseconds of processor time that it adds to a read."""
    most = max(layers.values())
    bars = [(name, value / most, "used", f"{value:.0f} µs") for name, value in layers.items()]
    return _drawing("Processor time that each layer adds to reading a row", bars, [])


def _share(row: Mapping[str, Any]) -> float:
    goal = row["goal"]
    figure = float(row["ratio"] if goal["of_ratio"] else row["value"])
    bound = float(goal["bound"])
    return figure / bound if goal["at_least"] else bound / figure


def _note(row: Mapping[str, Any]) -> str:
    if row["goal"]["of_ratio"]:
        return f"{row['ratio']:.3g}×"
    return f"{row['value']:.3g} {row['unit']}".strip()


def _drawing(title: str, bars: Iterable[tuple[str, float, str, str]], extras: Sequence[str]) -> str:
    parts = list(extras)
    height = 56
    for name, share, style, note in bars:
        length, base = share * (RIGHT - LEFT), height + 13
        parts += [
            f'<text x="{LEFT - 12}" y="{base}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{style}" x="{LEFT}" y="{height}" width="{length:.1f}" height="{BAR}"/>',
            f'<text class="small" x="{LEFT + length + 8:.1f}" y="{base}">{escape(note)}</text>',
        ]
        height += GAP
    height += 14
    body = "\n  ".join(parts)
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" role="img"'
    return f"""<svg xmlns="http://www.w3.org/2000/svg" {size} aria-label="{escape(title)}">
  <title>{escape(title)}</title>
  <style>{STYLE}  </style>
  <rect class="paper" width="{WIDTH}" height="{height}" rx="10"/>
  {body}
</svg>
"""
