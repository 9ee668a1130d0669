"""Medians and spreads of small samples."""

import math
import statistics


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def interval_of_median(values):
    """Between which two values the median lies with 95 % certainty, by their ranks alone (a sign test)."""
    ordered = sorted(values)
    reach = 1.96 * math.sqrt(len(ordered)) / 2
    low, high = math.floor(len(ordered) / 2 - reach), math.ceil(len(ordered) / 2 + reach)
    return ordered[max(0, low)], ordered[min(len(ordered) - 1, high)]


def spread(values):
    """How far apart the rounds lie, as a share of their median."""
    values = [value for value in values if value is not None]
    middle = median(values)
    return (max(values) - min(values)) / middle if len(values) > 1 and middle else 0.0


def ratio(a, b):
    return a / b if a is not None and b else None


def paired_ratios(ours, theirs, field):
    """Our figure by theirs in the same round, for each round: drift of the machine cancels out."""
    return [ratio(a.get(field), b.get(field)) for a, b in zip(ours, theirs) if a and b]


def paired_ratio(ours, theirs, field):
    """The median of the ratios."""
    return median(paired_ratios(ours, theirs, field))
