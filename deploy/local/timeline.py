"""What was seen, half a second at a time, and whether it is good: levels, instances, imbalance. Must never be lenient: a level
that was not seen is a fault. Called by autoscale.py; the examples at the end are run by scripts/deploy-check.sh."""
import math
from dataclasses import dataclass

IMBALANCE_MAX = 1.3  # below it (docs/OPERATING.md, PlenumImbalance)
FILLED = 0.8  # of its capacity, before another instance is wanted (src/cluster/desired.rs)


@dataclass
class Sample:
    at: float
    desired: int
    running: int
    serving: dict  # connections by slot, of those that take newcomers
    leaving: dict  # of those that drain

    @property
    def all(self):
        return self.serving | self.leaving

    @property
    def participants(self):
        return sum(self.all.values())

    @property
    def imbalance(self):
        """The fullest by the mean, of those that take newcomers; 1 where nobody is there."""
        total = sum(self.serving.values())
        return max(self.serving.values()) * len(self.serving) / total if total else 1.0


def spans(samples, levels):
    """Of each level, its samples from the end of the one before to its own last one, and that last one; None where not seen."""
    begin = 0
    for level, after in zip(levels, levels[1:] + [None]):
        first = next((nth for nth in range(begin, len(samples)) if samples[nth].participants == level), None)
        if first is None:
            yield level, None
            continue
        # Who is sent elsewhere is nowhere for a moment, so that the level may be left and reached again.
        reached = (nth for nth in range(first, len(samples)) if samples[nth].participants == after)
        until = next(reached, len(samples)) if after is not None else len(samples)
        last = max(nth for nth in range(first, until) if samples[nth].participants == level)
        yield level, samples[begin:last + 1]
        begin = last + 1


def judge(samples, levels, capacity, least):
    """Answers with what was found of each level, and the faults."""
    found, faults = [], []
    for level, span in spans(samples, levels):
        if span is None:
            faults.append(f"{level} participants were never seen together")
            continue
        last, wanted = span[-1], max(least, math.ceil(level / (FILLED * capacity)))
        times = [two.at - one.at for one, two in zip(span, span[1:])]
        found.append({
            "participants": level, "seconds": last.at, "instances": len(last.serving),
            "connections": sorted(last.serving.values(), reverse=True), "imbalance": round(last.imbalance, 3),
            "worst": round(max(one.imbalance for one in span), 3),
            "above": round(sum(time for one, time in zip(span, times) if one.imbalance >= IMBALANCE_MAX), 1),
        })
        if last.imbalance >= IMBALANCE_MAX:
            faults.append(f"{level} participants: the fullest instance holds {last.imbalance:.2f} times the mean")
        if not len(last.serving) == last.running == last.desired == wanted:
            faults.append(f"{level} participants: {wanted} instances expected, {last.desired} desired, "
                          f"{len(last.serving)} serve, {last.running} run")
    return found, faults


def examples():
    def course(*connections):
        return [Sample(float(at), len(one), len(one), dict(enumerate(one)), {}) for at, one in enumerate(connections)]

    good = course([0, 0], [50, 50], [55, 54], [40, 40, 40], [39, 39, 40], [40, 40, 40], [30, 30], [20, 20])
    found, faults = judge(good, [100, 120, 40], 65, 2)
    assert not faults and [one["instances"] for one in found] == [2, 3, 2], (found, faults)
    uneven = judge(course([50, 50], [60, 60, 0], [60, 50, 10]), [100, 120], 65, 2)
    assert uneven[0][1]["above"] == 1.0 and len(uneven[1]) == 1 and "1.50 times" in uneven[1][0], uneven
    assert "expected" in judge(course([60, 60]), [120], 65, 2)[1][0]
    assert "never seen" in judge(course([50, 49]), [100], 65, 2)[1][0]


if __name__ == "__main__":
    examples()
