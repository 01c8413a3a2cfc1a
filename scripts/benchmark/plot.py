"""A plot of curves over two logarithmic scales, as an SVG that needs nothing to be shown."""

import math
from html import escape

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 80, 190, 46, 52
COLOURS = ("#666666", "#0072b2", "#56b4e9", "#d55e00", "#e69f00", "#009e73")


def plot(
    title: str,
    curves: dict[str, list[tuple[float, float]]],
    across: tuple[str, dict[float, str]],
    up: tuple[str, dict[float, str]],
) -> str:
    """The curves, each a list of points, and what each axis is called and has marks at."""
    marks_across, marks_up = across[1], up[1]
    points = [point for curve in curves.values() for point in curve]
    over = scale([*marks_across, *(x for x, _ in points)], LEFT, WIDTH - RIGHT)
    above = scale([*marks_up, *(y for _, y in points)], HEIGHT - BOTTOM, TOP)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif"'
        ' font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        text(LEFT, 24, title, 'font-size="15"'),
        text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, across[0], 'text-anchor="middle"'),
        text(0, 0, up[0], f'text-anchor="middle" transform="translate(18 {(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)"'),
    ]
    for value, name in marks_across.items():
        lines.append(line([(over(value), TOP), (over(value), HEIGHT - BOTTOM)], "#dddddd", 1))
        lines.append(text(over(value), HEIGHT - BOTTOM + 18, name, 'text-anchor="middle"'))
    for value, name in marks_up.items():
        lines.append(line([(LEFT, above(value)), (WIDTH - RIGHT, above(value))], "#dddddd", 1))
        lines.append(text(LEFT - 8, above(value) + 4, name, 'text-anchor="end"'))
    ends = spread([above(curve[-1][1]) for curve in curves.values()])
    for (name, curve), colour, end in zip(curves.items(), COLOURS, ends, strict=False):
        placed = [(over(x), above(y)) for x, y in curve]
        lines.append(line(placed, colour, 2))
        lines += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in placed]
        lines.append(text(WIDTH - RIGHT + 12, end + 4, name, f'fill="{colour}"'))
    return "\n".join([*lines, "</svg>", ""])


def scale(values: list[float], first: float, last: float):
    """Maps values to places on the paper, by their logarithms, with a little room at both ends."""
    low, high = math.log(min(values)), math.log(max(values))
    room = (high - low) * 0.05 or 1.0
    return lambda value: first + (math.log(value) - low + room) / (high - low + 2 * room) * (last - first)


def spread(places: list[float]) -> list[float]:
    """Moves names that would lie over each other apart, downwards."""
    moved, lowest = dict.fromkeys(range(len(places)), 0.0), -math.inf
    for number in sorted(moved, key=lambda number: places[number]):
        lowest = moved[number] = max(places[number], lowest + 15)
    return [moved[number] for number in range(len(places))]


def text(x: float, y: float, words: str, more: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" {more}>{escape(words)}</text>'


def line(points: list[tuple[float, float]], colour: str, width: int) -> str:
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}"/>'
