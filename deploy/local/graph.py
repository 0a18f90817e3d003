"""The graph of a run as SVG, by hand: participants and room, instances, connections of each, imbalance. Called by autoscale.py."""
from timeline import IMBALANCE_MAX

WIDTH, HEIGHT, LEFT, GAP = 860.0, 130.0, 60.0, 46.0
COLOURS = ["#2e6da4", "#b03a2e", "#3a8a4d", "#b8860b", "#7d3c98", "#117a8b", "#a04000", "#566573"]


class Panel:
    """One set of axes; values from 0 (or `least`) to `most`."""

    def __init__(self, nth, title, seconds, most, least=0.0):
        self.top, self.seconds, self.least, self.most = nth * (HEIGHT + GAP) + 24, seconds, least, most
        self.parts = [f'<text x="{LEFT}" y="{self.top - 8:.0f}" font-weight="bold">{title}</text>']

    def x(self, at):
        return LEFT + at / self.seconds * WIDTH

    def y(self, value):
        value = min(max(value, self.least), self.most)
        return self.top + HEIGHT - (value - self.least) / (self.most - self.least) * HEIGHT

    def line(self, points, colour, extra="", step=False):
        path, before = "", None
        for at, value in points:
            if value is None:
                before = None
                continue
            if step and before is not None:
                path += f"L{self.x(at):.1f} {self.y(before):.1f}"
            path += f"{'M' if before is None else 'L'}{self.x(at):.1f} {self.y(value):.1f}"
            before = value
        self.parts.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="1.5"{extra}/>')

    def area(self, points, colour):
        inner = "".join(f"L{self.x(at):.1f} {self.y(value):.1f}" for at, value in points)
        base = self.top + HEIGHT
        self.parts.append(f'<path d="M{LEFT} {base:.1f}{inner}L{self.x(points[-1][0]):.1f} {base:.1f}Z" fill="{colour}"/>')

    def ticks(self, values, every=30):
        for value in values:
            self.parts.append(f'<text x="{LEFT - 6}" y="{self.y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        for at in range(0, int(self.seconds) + 1, every):
            self.parts.append(f'<text x="{self.x(at):.1f}" y="{self.top + HEIGHT + 14:.0f}" text-anchor="middle">{at} s</text>')
        self.parts.append(f'<path d="M{LEFT} {self.top:.0f}V{self.top + HEIGHT:.0f}H{LEFT + WIDTH:.0f}" fill="none" stroke="#888"/>')


def draw(samples, capacity):
    """Four panels, one above the other."""
    seconds = samples[-1].at
    def course(of):
        return [(one.at, of(one)) for one in samples]

    room = max(len(one.serving) for one in samples) * capacity
    people = Panel(0, "Participants (area); room for them, as instances serve (line)", seconds, room)
    people.area(course(lambda one: one.participants), "#9cc4e4")
    people.line(course(lambda one: len(one.serving) * capacity), "#b03a2e", step=True)
    people.ticks([room * part / 5 for part in range(6)])
    most = max(max(one.desired, one.running) for one in samples)
    number = Panel(1, "Instances: desired (dashed), run (line)", seconds, most + 0.5)
    number.line(course(lambda one: one.running), "#2e6da4", step=True)
    number.line(course(lambda one: one.desired), "#b03a2e", ' stroke-dasharray="5 3"', step=True)
    number.ticks(range(0, most + 1))
    each = Panel(2, "Connections of each instance; grey: its capacity", seconds, capacity * 1.1)
    each.line([(0, capacity), (seconds, capacity)], "#bbb")
    for slot in sorted({slot for one in samples for slot in one.all}):
        each.line(course(lambda one, slot=slot: one.all.get(slot)), COLOURS[(slot - 1) % len(COLOURS)])
    each.ticks([capacity * part / 5 for part in range(6)])
    spread = Panel(3, f"Imbalance of those that serve: fullest by mean (cut at 2); grey: {IMBALANCE_MAX}", seconds, 2.0, 1.0)
    spread.line([(0, IMBALANCE_MAX), (seconds, IMBALANCE_MAX)], "#bbb")
    spread.line(course(lambda one: one.imbalance), "#2e6da4")
    spread.ticks([1, 1.3, 1.6, 2])
    body = "\n".join(part for panel in (people, number, each, spread) for part in panel.parts)
    height = 4 * (HEIGHT + GAP) + 10
    return (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH + LEFT + 20:.0f} {height:.0f}" '
            f'font-family="sans-serif" font-size="12">\n<rect width="100%" height="100%" fill="#fff"/>\n{body}\n</svg>\n')
