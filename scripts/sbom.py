#!/usr/bin/env python3
"""Writes what the shipped executable is made of, as CycloneDX 1.6 JSON: every crate that is linked into it, with version,
licence, source and checksum, and the standard library and C library that a static executable carries. Not what only builds or
tests it. The same inputs give the same bytes. Called by `make sbom`; with cyclonedx-python-lib installed it is validated.

    scripts/sbom.py [target] >plenum.cdx.json
"""

import datetime
import hashlib
import json
import os
import platform
import subprocess
import sys
import tomllib
import uuid

REGISTRY = "registry+"


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def crates(target):
    """Names, licences and edges as cargo resolves them for this executable: no features of tests, no macros, no build scripts."""
    tree = run("cargo", "tree", "--locked", "--package", "plenum", "--edges", "normal,no-proc-macro",
               "--target", target, "--prefix", "depth", "--format", "|{p}|{l}|{r}|")
    found, edges, path = {}, {}, []
    for line in tree.splitlines():
        depth, package, licence, repository, _ = line.split("|")
        name, version = package.split(" ")[:2]
        key = (name, version.removeprefix("v"))
        found[key] = (licence, repository)
        path[int(depth):] = [key]
        edges.setdefault(key, set())
        if len(path) > 1:
            edges[path[-2]].add(key)
    return found, edges, path[0]


def checksums():
    with open("Cargo.lock", "rb") as lock:
        packages = tomllib.load(lock)["package"]
    return {(p["name"], p["version"]): p["checksum"] for p in packages if p.get("source", "").startswith(REGISTRY)}


def reference(key):
    return "pkg:cargo/{}@{}".format(*key)


def component(key, licence, repository, checksum):
    shown = {"type": "library", "bom-ref": reference(key), "name": key[0], "version": key[1], "purl": reference(key)}
    # Old crates write a slash for "or".
    expression = " ".join(licence.split())
    shown["licenses"] = [{"expression": expression if " OR " in expression else expression.replace("/", " OR ")}]
    if checksum:
        shown["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    if repository.startswith("https://"):
        shown["externalReferences"] = [{"type": "vcs", "url": repository}]
    return shown


def carried():
    """What no lock file names: the standard library comes with the compiler, the C library from the system that builds."""
    rust = run("rustc", "--version").split()[1]
    libraries = [("rust-std", rust, "MIT OR Apache-2.0", "pkg:generic/rust-std@" + rust)]
    name, version = platform.libc_ver()
    if name == "glibc":
        libraries.append(("glibc", version, "LGPL-2.1-or-later", "pkg:generic/glibc@" + version))
    return [{"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl,
             "licenses": [{"expression": licence}]} for name, version, licence, purl in libraries]


def document(target):
    found, edges, root = crates(target)
    sums = checksums()
    own = component(root, *found[root], None) | {"type": "application"}
    parts = [component(key, *found[key], sums.get(key)) for key in sorted(found) if key != root]
    system = carried()
    dependencies = [{"ref": reference(key), "dependsOn": sorted(map(reference, edges[key]))} for key in sorted(edges)]
    next(d for d in dependencies if d["ref"] == own["bom-ref"])["dependsOn"] += [part["bom-ref"] for part in system]
    when = int(os.environ.get("SOURCE_DATE_EPOCH") or run("git", "log", "-1", "--format=%ct"))
    stamp = datetime.datetime.fromtimestamp(when, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    bom = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json", "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {"timestamp": stamp, "component": own, "properties": [{"name": "plenum:target", "value": target}]},
        "components": parts + system, "dependencies": dependencies,
    }
    digest = hashlib.sha256(json.dumps(bom, sort_keys=True).encode()).digest()
    return bom | {"serialNumber": "urn:uuid:" + str(uuid.UUID(bytes=digest[:16], version=5))}


def checked(bom):
    """What a wrong list would show: it misses what the server runs on, or has what only tests and builds use."""
    names = {part["name"] for part in bom["components"]}
    missing = {"tokio", "hyper", "simd-json", "rustls", "tokio-postgres", "libmimalloc-sys"} - names
    foreign = {"criterion", "proptest", "plenum-loadtest", "flate2", "syn", "cc", "libfuzzer-sys", "plenum"} & names
    unlicensed = [part["name"] for part in bom["components"] if not part["licenses"][0]["expression"]]
    if missing or foreign or unlicensed:
        sys.exit(f"sbom: missing {missing}, foreign {foreign}, without licence {unlicensed}")
    text = json.dumps(bom, indent=1)
    try:
        from cyclonedx.schema import SchemaVersion
        from cyclonedx.validation.json import JsonStrictValidator
    except ImportError:
        print("sbom: NOT VALIDATED: cyclonedx-python-lib[json-validation] is not installed", file=sys.stderr)
        return text
    fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if fault:
        sys.exit(f"sbom: not CycloneDX 1.6: {fault}")
    print(f"sbom: {len(bom['components'])} components, valid CycloneDX 1.6", file=sys.stderr)
    return text


if __name__ == "__main__":
    host = next(line.split()[1] for line in run("rustc", "-vV").splitlines() if line.startswith("host:"))
    print(checked(document(sys.argv[1] if len(sys.argv) > 1 else host)))
