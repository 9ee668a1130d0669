"""Whether memory stays flat: a line through the samples, and how sure its slope is."""

import math
from dataclasses import dataclass

# The 0.975 quantile of Student's t by degrees of freedom; between two of them the lower one is on the safe side.
QUANTILES = {1: 12.71, 2: 4.30, 3: 3.18, 4: 2.78, 5: 2.57, 6: 2.45, 8: 2.31, 10: 2.23, 15: 2.13, 20: 2.09, 30: 2.04, 60: 2.00}
# Growth over the whole time that is none, however sure it is.
NEGLIGIBLE = 0.05
FEWEST = 5


@dataclass
class Line:
    """Of memory over minutes."""

    mean: float
    # Bytes a minute, and what it may be off by with a probability of 5 %.
    slope: float
    error: float
    minutes: float

    @property
    def growth(self):
        return self.slope * self.minutes

    @property
    def is_flat(self):
        """Not surely rising, or by hardly anything."""
        return self.slope - self.error <= 0 or self.growth <= NEGLIGIBLE * self.mean


def line(points):
    """The line of least squares through (minutes, bytes, group), at a height of its own for each group; None with too few
    points."""
    groups = {}
    for x, y, group in points:
        groups.setdefault(group, []).append((x, y))
    freedom = len(points) - len(groups) - 1
    if len(points) < FEWEST or freedom < 1:
        return None
    centred = []
    for group in groups.values():
        mean_x, mean_y = (sum(column) / len(group) for column in zip(*group))
        centred += [(x - mean_x, y - mean_y) for x, y in group]
    spread = sum(x * x for x, _ in centred)
    slope = sum(x * y for x, y in centred) / spread
    residual = sum((y - slope * x) ** 2 for x, y in centred)
    quantile = QUANTILES[max(df for df in QUANTILES if df <= freedom)]
    error = quantile * math.sqrt(residual / freedom / spread)
    minutes = [x for x, _, _ in points]
    return Line(sum(y for _, y, _ in points) / len(points), slope, error, max(minutes) - min(minutes))
