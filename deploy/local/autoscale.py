#!/usr/bin/env python3
"""Plays the orchestrator for real: starts and drains instances behind HAProxy as `plenum_desired_instances` says, while people
come, vote and go. PostgreSQL, HAProxy (deploy/haproxy/haproxy.cfg), instances and participants are processes of this machine.

    deploy/local/autoscale.py            2,000 participants, 500 to an instance, in five minutes (`make autoscale`)
    deploy/local/autoscale.py --small    150 participants, 65 to an instance, in under a minute (scripts/deploy-check.sh)

Fails if a participant is turned away, a vote is lost, an instance does not end with 0, the number of instances does not follow,
or the fullest instance of a level holds 1.3 times the mean or more. Must never know more than an orchestrator does: it reads
/metrics, starts processes and sends SIGTERM. Leaves timeline.csv, summary.json and autoscale.svg in --out.
"""
import argparse
import csv
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import graph
import place
from timeline import IMBALANCE_MAX, Sample, judge

# How many are there in the end, within how many seconds, and for how many seconds they stay. The rest goes home at the end.
FULL = {
    "capacity": 500, "quiet": 8, "votes_per_second": 50,
    "levels": [[500, 33, 9], [1000, 33, 9], [1500, 33, 9], [2000, 33, 9],
               [1500, 8, 20], [1000, 8, 20], [500, 8, 20], [50, 8, 20]],
}
SMALL = {
    "capacity": 65, "quiet": 4, "votes_per_second": 20,
    "levels": [[100, 4, 3], [150, 10, 5], [75, 2, 14]],
}
LOOK_EVERY = 0.5
# As the deployments of deploy/kubernetes have it.
INSTANCES_MIN = 2
# Between two instances that are taken away; deploy/kubernetes waits a minute.
DOWN_EVERY = 2
LEVELS_WITHIN = 60  # after the last participant has gone


class Orchestra:
    """The instances, and what is known of them by their metrics alone."""

    def __init__(self, scene, plan):
        self.scene, self.plan = scene, plan
        self.instances, self.samples, self.faults = [], [], []
        self.begun, self.last_down = time.monotonic(), 0.0

    def start_one(self):
        free = set(range(1, place.SLOTS + 1)) - {one.slot for one in self.instances}
        if not free:
            raise RuntimeError(f"deploy/haproxy/haproxy.cfg has room for {place.SLOTS} instances")
        flags = ["--capacity", str(self.plan["capacity"]), "--scale-min", str(INSTANCES_MIN),
                 "--scale-quiet-seconds", str(self.plan["quiet"]), "--scale-start-seconds", "1"]
        self.instances.append(self.scene.instance(min(free), flags))

    def bury(self):
        for one in [one for one in self.instances if one.process.poll() is not None]:
            if one.process.returncode != 0 or not one.leaving:
                self.faults.append(f"instance {one.slot} ended with {one.process.returncode}; see {one.log}")
            self.instances.remove(one)

    def look(self):
        """Asks every instance; what does not answer is starting or ending."""
        known = [(one, one.metrics()) for one in self.instances]
        serving = {one.slot: int(seen["plenum_connections"]) for one, seen in known if seen and not one.leaving}
        leaving = {one.slot: int(seen["plenum_connections"]) for one, seen in known if seen and one.leaving}
        wishes = [int(seen.get("plenum_desired_instances", 0)) for one, seen in known if seen and not one.leaving]
        at = round(time.monotonic() - self.begun, 2)
        sample = Sample(at, max(wishes, default=0), len(self.instances), serving, leaving)
        self.samples.append(sample)
        return sample

    def follow(self, sample):
        """Up at once, down one after the other, the emptiest first; the server has waited for quiet already."""
        stay = [one for one in self.instances if not one.leaving]
        for _ in range(sample.desired - len(stay)):
            self.start_one()
        idle = len(stay) == len(self.instances) == len(sample.serving)
        if 0 < sample.desired < len(stay) and idle and time.monotonic() - self.last_down > DOWN_EVERY:
            emptiest = min(stay, key=lambda one: sample.serving[one.slot])
            emptiest.drain()
            self.last_down = time.monotonic()

    def turn(self):
        self.bury()
        sample = self.look()
        self.follow(sample)
        time.sleep(max(0.0, self.begun + len(self.samples) * LOOK_EVERY - time.monotonic()))
        return sample


def run(plan, out):
    """Everything, until all have gone and the instances are back at their minimum; answers with the faults."""
    with tempfile.TemporaryDirectory(prefix="plenum-autoscale-") as folder:
        with place.Scene(pathlib.Path(folder)) as scene:
            orchestra = Orchestra(scene, plan)
            for _ in range(INSTANCES_MIN):
                orchestra.start_one()
            scene.balancer()
            while len(orchestra.turn().serving) < INSTANCES_MIN:
                if time.monotonic() - orchestra.begun > 20:
                    raise RuntimeError("the first instances are not ready in time")
            scene.settled()
            crowd = scene.crowd(plan, out)
            while crowd.poll() is None:
                orchestra.turn()
            over = time.monotonic()
            while not (back := len(orchestra.instances) == INSTANCES_MIN) and time.monotonic() - over < LEVELS_WITHIN:
                orchestra.turn()
            faults = orchestra.faults + scene.faults()
            if crowd.returncode != 0:
                faults.append("the participants were not content: see what they say above")
            if not back:
                faults.append(f"{len(orchestra.instances)} instances run though nobody is there")
            return faults, orchestra.samples


def write(out, plan, samples, found, faults):
    slots = range(1, place.SLOTS + 1)
    with open(out / "timeline.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["seconds", "participants", "desired", "serving", "running", "imbalance"]
                       + [f"connections_{slot}" for slot in slots])
        for one in samples:
            table.writerow([one.at, one.participants, one.desired, len(one.serving), one.running, f"{one.imbalance:.3f}"]
                           + [one.all.get(slot, "") for slot in slots])
    summary = {"capacity": plan["capacity"], "levels": found, "faults": faults,
               "crowd": place.figures(out / "crowd" / "report.json")}
    (out / "summary.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    (out / "autoscale.svg").write_text(graph.draw(samples, plan["capacity"]), encoding="utf-8")
    return summary


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="150 participants, in under a minute")
    parser.add_argument("--out", type=pathlib.Path, default=pathlib.Path("target/autoscale"))
    asked = parser.parse_args()
    out = asked.out.absolute()
    out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.chdir(pathlib.Path(__file__).parents[2])
    plan = SMALL if asked.small else FULL
    faults, samples = run(plan, out)
    found, wrong = judge(samples, [level for level, *_ in plan["levels"]], plan["capacity"], INSTANCES_MIN)
    summary = write(out, plan, samples, found, faults := faults + wrong)
    print("participants  instances  imbalance  worst on the way, for seconds above " + str(IMBALANCE_MAX))
    for one in found:
        print(f"{one['participants']:>12}  {one['instances']:>9}  {one['imbalance']:>9.3f}  {one['worst']:.2f}, {one['above']:.1f} s")
    print(f"autoscale: {summary['crowd']}; graph and timeline in {out}")
    for fault in faults:
        print(f"autoscale: {fault}", file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
