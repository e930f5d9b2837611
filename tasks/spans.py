"""From a timeline to spans: windows that follow each other with one likeliest class."""

from itertools import groupby

import numpy as np

from tasks.prediction import Span
from tasks.timeline import Timeline


def spans_of(timeline: Timeline) -> list[Span]:
    """The spans of a timeline, from its begin to its end. One ends where the next begins: half-way between the middles
    of two windows, so that windows that overlap do not count twice.
    """
    middles = timeline.times.mean(axis=1)
    edges = [timeline.times[0, 0], *((middles[:-1] + middles[1:]) / 2), timeline.seconds]
    there = np.any(list(timeline.present.values()), axis=0)
    likeliest = np.where(there, timeline.answer.argmax(axis=1), -1)
    found = []
    for number, rows in groupby(range(len(timeline)), key=likeliest.__getitem__):
        rows = list(rows)
        begin, end = float(edges[rows[0]]), float(edges[rows[-1] + 1])
        if number < 0:
            found.append(Span(start=begin, end=end, label=None, score=0.0, alone={}, shares={}))
            continue
        alone, shares = {}, {}
        for name, present in timeline.present.items():
            heard = [row for row in rows if present[row]]
            if heard:
                alone[name] = float(timeline.streams[name][heard, number].mean())
                shares[name] = float(timeline.shares[name][rows].mean())
        score = float(timeline.answer[rows, number].mean())
        label = timeline.classes[number]
        found.append(Span(start=begin, end=end, label=label, score=score, alone=alone, shares=shares))
    return found
