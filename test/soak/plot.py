"""Memory over time as SVG, readable on light and dark pages."""

WIDTH, HEIGHT = 720, 300
LEFT, RIGHT, TOP, BOTTOM = 60, WIDTH - 20, 44, HEIGHT - 46
STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #1f2430 }
.title { font-weight: 600; font-size: 15px } .small { font-size: 11px; fill: #5b6270 }
.grid { stroke: #9aa1ad; stroke-width: 0.5; opacity: 0.4 }
.samples { fill: none; stroke: #a3a9b5; stroke-width: 1 } .resident { fill: #3b82f6 } .in-use { fill: #c27c0e }
@media (prefers-color-scheme: dark) { text { fill: #e6e8ec } .small { fill: #a9b0bc } }
</style>"""


def _step(most, count=6):
    """A round number that goes into `most` about so many times."""
    step = 1
    for factor in (2, 2.5, 2) * 8:
        if most / step <= count:
            break
        step *= factor
    return step


def memory(samples, resident, in_use):
    """Lists of (minutes, MiB): resident every few seconds, resident at rest, in use at rest."""
    last = max(minutes for minutes, _ in samples)
    most = max(mib for _, mib in samples)
    x = lambda minutes: LEFT + (RIGHT - LEFT) * minutes / last
    y = lambda mib: BOTTOM - (BOTTOM - TOP) * mib / most
    body = ['<text class="title" x="12" y="24">Memory of the VM</text>']
    for axis in range(0, int(most) + 1, max(1, int(_step(most)))):
        body.append(f'<line class="grid" x1="{LEFT}" x2="{RIGHT}" y1="{y(axis):.1f}" y2="{y(axis):.1f}"/>')
        body.append(f'<text class="small" x="{LEFT - 6}" y="{y(axis) + 4:.1f}" text-anchor="end">{axis}</text>')
    for axis in range(0, int(last) + 1, max(1, int(_step(last, 12)))):
        body.append(f'<text class="small" x="{x(axis):.1f}" y="{BOTTOM + 16}" text-anchor="middle">{axis}</text>')
    points = " ".join(f"{x(minutes):.1f},{y(mib):.1f}" for minutes, mib in samples)
    body.append(f'<polyline class="samples" points="{points}"/>')
    for name, rests in (("resident", resident), ("in-use", in_use)):
        body += [f'<circle class="{name}" cx="{x(minutes):.1f}" cy="{y(mib):.1f}" r="3"/>' for minutes, mib in rests]
    legend = "minutes; MiB; line: resident every two seconds; dots at rest: resident (blue), in use (orange)"
    body.append(f'<text class="small" x="{(LEFT + RIGHT) / 2}" y="{BOTTOM + 34}" text-anchor="middle">{legend}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="Memory of the VM over time">\n'
        f"{STYLE}\n" + "\n".join(body) + "\n</svg>\n"
    )
