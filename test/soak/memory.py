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
    """The line of least squares through (minutes, bytes); None with too few points."""
    if len(points) < FEWEST:
        return None
    count = len(points)
    mean_x, mean_y = (sum(column) / count for column in zip(*points))
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    residual = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    quantile = QUANTILES[max(df for df in QUANTILES if df <= count - 2)]
    error = quantile * math.sqrt(residual / (count - 2) / spread)
    return Line(mean_y, slope, error, points[-1][0] - points[0][0])
