"""The processes of a run: PostgreSQL, HAProxy, instances, participants. Everything that is started here is ended here, by its
own handle. Must never touch a process of others. Called by autoscale.py."""
import json
import os
import pathlib
import socket
import subprocess
import time
import urllib.error
import urllib.request

SLOTS = 8  # that deploy/haproxy/haproxy.cfg has
TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", "target")).absolute() / os.environ.get("PLENUM_PROFILE", "release")
KEY = "autoscale"
# Newcomers are brought elsewhere for the notice; then clients are sent away, each at a moment of its own.
NOTICE, DRAIN = 3, 15


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Instance:
    """One `plenum serve`."""

    def __init__(self, slot, ports, process, log):
        self.slot, self.ports, self.process, self.log = slot, ports, process, log
        self.leaving = False

    def metrics(self):
        """What it says of itself, without labels; None while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[1]}/metrics", timeout=2) as answer:
                lines = answer.read().decode().splitlines()
        except (urllib.error.URLError, OSError):
            return None
        pairs = (line.rsplit(" ", 1) for line in lines if line and line[0] != "#" and "{" not in line)
        seen = {name: float(value) for name, value in pairs}
        return seen if "plenum_connections" in seen else None

    def drain(self):
        self.leaving = True
        self.process.terminate()


class Scene:
    """Gives addresses before anything runs, as hosts have them: HAProxy is told all of them at once."""

    def __init__(self, folder):
        self.folder, self.started = folder, []
        self.ports = {slot: (free_port(), free_port(), free_port()) for slot in range(1, SLOTS + 1)}
        self.front = free_port()

    def __enter__(self):
        self.folder.chmod(0o755)  # PostgreSQL runs as another user where this is root
        started = subprocess.run(["scripts/postgres.sh", "start", self.folder / "postgres"],
                                 check=True, stdout=subprocess.PIPE, text=True)
        self.database = started.stdout.strip()
        return self

    def __exit__(self, *_):
        for process in reversed(self.started):
            if process.poll() is None:
                process.kill()
            process.wait()
        subprocess.run(["scripts/postgres.sh", "stop", self.folder / "postgres"], check=False)

    def spawn(self, command, name, **more):
        log = self.folder / f"{name}.log"
        with open(log, "ab") as file:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=file, **more)
        self.started.append(process)
        return process, log

    def instance(self, slot, flags):
        listen, ops, agent = (f"127.0.0.1:{port}" for port in self.ports[slot])
        command = [TARGET / "plenum", "serve", "--database-url", self.database, "--listen", listen, "--ops-listen", ops,
                   "--agent-listen", agent, "--instance-id", f"i{slot}-{len(self.started)}", "--log", "json",
                   "--trusted-proxy", "127.0.0.1", "--proxy-protocol", "--rebalance", "--drain-notice-seconds", str(NOTICE),
                   "--drain-seconds", str(DRAIN), *flags]
        process, log = self.spawn(command, f"i{slot}", env=os.environ | {"PLENUM_API_KEY": KEY})
        return Instance(slot, self.ports[slot], process, log)

    def balancer(self):
        settings = {"PLENUM_BIND": f"127.0.0.1:{self.front}", "PLENUM_MAXCONN": "5000", "PLENUM_SYSLOG": "stderr",
                    "PLENUM_HAPROXY_SOCKET": str(self.folder / "haproxy.sock"), "PLENUM_HAPROXY_AS_CALLER": "1"}
        for slot, (listen, ops, agent) in self.ports.items():
            settings |= {f"PLENUM_{slot}": f"127.0.0.1:{listen}", f"PLENUM_{slot}_OPS_PORT": str(ops),
                         f"PLENUM_{slot}_AGENT_PORT": str(agent)}
        where = os.environ["PATH"] + os.pathsep + "/usr/sbin"
        self.haproxy, self.haproxy_log = self.spawn(
            ["haproxy", "-f", "deploy/haproxy/haproxy.cfg"], "haproxy", env=os.environ | settings | {"PATH": where})

    def settled(self):
        """Waits until HAProxy has found out which of the addresses nobody listens at yet."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            with socket.socket(socket.AF_UNIX) as cli:
                cli.connect(str(self.folder / "haproxy.sock"))
                cli.sendall(b"show stat\n")
                lines = cli.makefile().read().lstrip("# ").splitlines()
            rows = [dict(zip(lines[0].split(","), line.split(","))) for line in lines[1:] if line]
            states = [row["status"] for row in rows if row["svname"].startswith("i")]
            if all(state in ("UP", "DOWN") for state in states) and states.count("UP") == 4:
                return
            time.sleep(0.2)
        raise RuntimeError(f"HAProxy does not see two instances: {states}")

    def crowd(self, plan, out):
        """Participants, who know of the balancer alone."""
        scenario = self.folder / "tide.toml"
        levels = json.dumps([[level, float(over), float(hold)] for level, over, hold in plan["levels"]])
        scenario.write_text(
            f'name = "tide"\ntitle = "Tide"\nabout = "By autoscale.py"\nkind = "tide"\n[parameters]\n'
            f'levels = {levels}\npolls = 60\nvotes_per_second = {float(plan["votes_per_second"])}\n', encoding="utf-8")
        process, self.crowd_log = self.spawn(
            [TARGET / "plenum-loadtest", "load", "--scenario", scenario, "--url", f"http://127.0.0.1:{self.front}",
             "--out", out / "crowd"], "crowd", env=os.environ | {"PLENUM_API_KEY": KEY})
        return process

    def faults(self):
        if self.haproxy.poll() is None:
            return []
        return [f"HAProxy ended: {self.haproxy_log.read_text(errors='replace')[-2000:]}"]


def figures(report):
    """What the participants counted, by name."""
    findings = json.loads(report.read_text(encoding="utf-8"))["findings"]
    return {one["key"]: one["rounds"][0] for one in findings[0]["figures"]}
