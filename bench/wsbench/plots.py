"""Plots as SVG, by hand: readable on light and dark pages, no library needed."""

import math
from html import escape

from .servers import LABELS

WIDTH, ROW = 720, 26
COLOURS = {
    "floor-write": "#a3a9b5", "floor-coalesce": "#6b7385", "uws": "#c27c0e", "axum": "#b5518d",
    "cowboy-pg": "#4f9d69", "cowboy-ets": "#2f7f86", "nats": "#7a5cc2", "nchan": "#8c6d46", "node": "#9aa83a", "device": "#3b82f6",
    "device-raw": "#8cb4f8",
}
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2430 }
.title { font-weight: 600; font-size: 15px } .small { font-size: 11px; fill: #5b6270 }
.axis { stroke: #9aa1ad; stroke-width: 1 } .grid { stroke: #9aa1ad; stroke-width: 0.5; opacity: 0.4 }
@media (prefers-color-scheme: dark) { text { fill: #e6e8ec } .small { fill: #a9b0bc } }
</style>"""


def _svg(height, title, body):
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{escape(title)}">\n'
            f'{STYLE}\n<text class="title" x="12" y="24">{escape(title)}</text>\n' + "\n".join(body) + "\n</svg>\n")


def short(value):
    for limit, suffix in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{suffix}"
    return f"{value:.3g}"


def bars(title, unit, values):
    """One bar per server on a logarithmic axis: `values` is {server: number}."""
    values = {name: value for name, value in values.items() if value and value > 0}
    if not values:
        return None
    left, right, top = 300, WIDTH - 80, 44
    low = 10 ** math.floor(math.log10(min(values.values())) - 0.01)
    high = 10 ** math.ceil(math.log10(max(values.values())) + 0.01)
    x = lambda value: left + (right - left) * math.log(value / low) / math.log(high / low)
    bottom = top + ROW * len(values)
    body = []
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        at = x(10.0 ** power)
        body.append(f'<line class="grid" x1="{at:.1f}" x2="{at:.1f}" y1="{top}" y2="{bottom}"/>')
        body.append(f'<text class="small" x="{at:.1f}" y="{bottom + 16}" text-anchor="middle">{short(10.0 ** power)}</text>')
    for i, (name, value) in enumerate(sorted(values.items(), key=lambda item: -item[1])):
        y = top + ROW * i
        body.append(f'<text x="{left - 8}" y="{y + 17}" text-anchor="end">{escape(LABELS[name].split(",")[0])}</text>')
        body.append(f'<rect x="{left}" y="{y + 4}" width="{x(value) - left:.1f}" height="{ROW - 8}" rx="2" fill="{COLOURS[name]}"/>')
        body.append(f'<text x="{x(value) + 6:.1f}" y="{y + 17}">{short(value)}</text>')
    body.append(f'<text class="small" x="{left}" y="{bottom + 34}">{escape(unit)}, logarithmic</text>')
    return _svg(bottom + 46, title, body)


def lines(title, x_label, y_label, series):
    """Lines on two logarithmic axes: `series` is {server: [(x, y), ...]}."""
    series = {name: [(a, b) for a, b in points if a and b] for name, points in series.items()}
    series = {name: points for name, points in series.items() if len(points) > 1}
    if not series:
        return None
    left, right, top, bottom = 70, WIDTH - 150, 44, 320
    flat = [point for points in series.values() for point in points]

    def scale(values, begin, end):
        low, high = math.log10(min(values)), math.log10(max(values))
        low, high = low - 0.1 * (high - low + 0.1), high + 0.1 * (high - low + 0.1)
        return lambda value: begin + (end - begin) * (math.log10(value) - low) / (high - low)

    def ticks(values):
        low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
        steps = (1,) if high - low > 3 else (1, 2, 5)
        return [step * 10.0 ** power for power in range(low, high + 1) for step in steps]

    xs, ys = [a for a, _ in flat], [b for _, b in flat]
    x, y = scale(xs, left, right), scale(ys, bottom, top)
    body = []
    for value in ticks(ys):
        if top <= y(value) <= bottom:
            body.append(f'<line class="grid" x1="{left}" x2="{right}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
            body.append(f'<text class="small" x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{short(value)}</text>')
    last = -math.inf
    for value in sorted(set(xs)):
        if x(value) - last < 32:
            continue  # its label would run into the one before
        last = x(value)
        body.append(f'<text class="small" x="{x(value):.1f}" y="{bottom + 16}" text-anchor="middle">{short(value)}</text>')
    body.append(f'<line class="axis" x1="{left}" x2="{right}" y1="{bottom}" y2="{bottom}"/>')
    for i, (name, points) in enumerate(series.items()):
        path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in points)
        body.append(f'<polyline points="{path}" fill="none" stroke="{COLOURS[name]}" stroke-width="2"/>')
        body += [f'<circle cx="{x(a):.1f}" cy="{y(b):.1f}" r="3" fill="{COLOURS[name]}"/>' for a, b in points]
        body.append(f'<rect x="{right + 14}" y="{top + 20 * i}" width="10" height="10" fill="{COLOURS[name]}"/>')
        body.append(f'<text x="{right + 30}" y="{top + 10 + 20 * i}">{escape(name)}</text>')
    body.append(f'<text class="small" x="{(left + right) / 2}" y="{bottom + 34}" text-anchor="middle">{escape(x_label)}</text>')
    body.append(f'<text class="small" x="12" y="{top - 6}">{escape(y_label)}</text>')
    return _svg(bottom + 46, title, body)


def draw(results, medians):
    """All plots that the results have figures for: {file name: SVG}."""
    by_server = lambda scenario, key: {name: medians(scenario, name, key) for name in LABELS}
    plots = {
        "burst-1000.svg": bars("Burst of 500 messages to 1,000 subscribers", "deliveries per second", by_server("burst-1000", "rate")),
        "burst-10000.svg": bars("Burst of 50 messages to 10,000 subscribers", "deliveries per second", by_server("burst-10000", "rate")),
        "topics-5000.svg": bars("5,000 topics, one subscriber each", "deliveries per second", by_server("topics-5000", "rate")),
        "cpu-1000.svg": bars("CPU in a burst to 1,000 subscribers", "seconds per million deliveries", by_server("burst-1000", "cpu")),
        "steady-p99.svg": bars("100 messages/s to 1,000 subscribers: p99", "milliseconds", by_server("steady-100", "p99_ms")),
        "memory.svg": bars("Memory of an idle connection", "bytes", by_server("memory", "bytes")),
    }
    for name, prefix, label in (("growth-subscribers", "subscribers-", "subscribers"), ("growth-topics", "topics-growth-", "topics")):
        points = sorted(int(key.removeprefix(prefix)) for key in results.figures
                        if key.startswith(prefix) and key.removeprefix(prefix).isdigit())
        series = {server: [(n, medians(f"{prefix}{n}", server, "cpu")) for n in points] for server in LABELS}
        plots[f"{name}.svg"] = lines(f"CPU per delivery as {label} grow", label, "CPU seconds per million deliveries", series)
    return {name: svg for name, svg in plots.items() if svg}
