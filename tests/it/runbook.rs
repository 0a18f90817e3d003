//! The runbook and `deploy/` against what CI runs: no command that is neither run nor marked, no file that nothing looks at, no
//! database elsewhere without a word on TLS, and the instances of `deploy/README.md` are started as it says. Runs nothing that
//! the named scripts run already.

use std::fs;
use std::path::Path;

use plenum::config::database::{Address, Proof};

use crate::support::*;

/// The pages that hold commands.
const PAGES: [&str; 3] = ["docs/OPERATING.md", "docs/CAPACITY.md", "deploy/README.md"];

/// Who looks at which files of `deploy/`, and by which words; the first that fits counts.
const LOOKED_AT: [(&str, &str, &str); 18] = [
    ("deploy/Dockerfile", "scripts/image.sh", "deploy/Dockerfile"),
    ("deploy/README.md", "tests/it/runbook.rs", "deploy/README.md"),
    ("deploy/compose.yml", "scripts/deploy-check.sh", "compose-spec deploy/compose.yml"),
    ("deploy/grafana/provisioning/dashboards.yml", "scripts/deploy-check.sh", "dashboards.yml"),
    ("deploy/grafana/provisioning/datasources.yml", "scripts/deploy-check.sh", "datasources.yml"),
    ("deploy/grafana/*.json", "scripts/deploy-check.sh", "- deploy/grafana/*.json"),
    ("deploy/haproxy/haproxy.cfg", "tests/it/support/balancer.rs", "haproxy/haproxy.cfg"),
    ("deploy/kubernetes/base/*.yaml", "scripts/deploy-check.sh", "deploy/kubernetes/base"),
    ("deploy/kubernetes/components/*.yaml", "scripts/deploy-check.sh", "kubernetes/components/*"),
    ("deploy/kubernetes/overlays/*.yaml", "scripts/deploy-check.sh", "kubernetes/overlays/*"),
    ("deploy/local/*.py", "scripts/deploy-check.sh", "deploy/local/autoscale.py"),
    ("deploy/nginx/nginx.conf", "tests/it/support/balancer.rs", "\"nginx.conf\""),
    ("deploy/nginx/instances.conf", "tests/it/support/balancer.rs", "\"instances.conf\""),
    ("deploy/nginx/listen.conf", "tests/it/runbook.rs", "nginx/listen.conf"),
    ("deploy/prometheus/prometheus.yml", "scripts/deploy-check.sh", "check config"),
    ("deploy/prometheus/alerts.yml", "tests/it/observability.rs", "prometheus/alerts.yml"),
    ("deploy/prometheus/alerts_test.yml", "scripts/deploy-check.sh", "alerts_test.yml"),
    ("deploy/systemd/plenum.*", "scripts/systemd-check.sh", "deploy/systemd/plenum."),
];

/// Commands in the running text, by how they begin, and where the same is run. A paragraph that says "not run here" needs none.
const SAID_IN_PASSING: [(&str, &str, &str); 12] = [
    ("make reproducible", ".github/workflows/release.yml", "make reproducible"),
    ("make autoscale", "scripts/deploy-check.sh", "autoscale.py --small"),
    ("plenum serve --help", "tests/it/configuration.rs", "--help"),
    ("plenum health", "scripts/image.sh", "/plenum health"),
    ("plenum migrate", "scripts/image.sh", "migrate --database-url"),
    ("plenum epoch --new", "tests/it/epoch.rs", "--new"),
    ("curl -s http://127.0.0.1:9464/cluster", "scripts/topology-check.sh", "runbook try-look"),
    ("curl -X POST http://127.0.0.1:9464/drain", "tests/it/lifecycle.rs", "/drain"),
    ("promtool test rules", "scripts/deploy-check.sh", "promtool test rules"),
    ("systemd-analyze verify", "scripts/systemd-check.sh", "systemd-analyze verify"),
    ("systemd-socket-activate", "scripts/systemd-check.sh", "systemd-socket-activate -l"),
    ("docker", "docs/OPERATING.md", "not run here: CI has no Docker"),
];

const PROGRAMS: [&str; 12] = [
    "make",
    "plenum",
    "curl",
    "promtool",
    "systemctl",
    "systemd-analyze",
    "systemd-socket-activate",
    "docker",
    "kubectl",
    "psql",
    "pg_dump",
    "pg_basebackup",
];

/// Every file below a folder of the repository.
fn below(folder: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)).unwrap() {
        let entry = entry.unwrap();
        let path = format!("{folder}/{}", entry.file_name().into_string().unwrap());
        if !entry.path().is_dir() {
            found.push(path);
        } else if !path.ends_with("__pycache__") {
            found.extend(below(&path));
        }
    }
    found
}

/// `*` stands for anything.
fn fits(pattern: &str, path: &str) -> bool {
    pattern.split_once('*').map_or(pattern == path, |(begin, end)| {
        path.starts_with(begin) && path[begin.len()..].ends_with(end)
    })
}

/// What is wrong with the marker of a fence.
fn fault(marker: &str, block: &[&str]) -> Option<String> {
    let inner = marker.strip_prefix("<!-- ").and_then(|rest| rest.strip_suffix(" -->"));
    let Some(inner) = inner else { return Some(String::from("no marker above it")) };
    if let Some(why) = inner.strip_prefix("not run here: ") {
        return why.is_empty().then(|| String::from("it does not say why"));
    }
    let Some((by, name)) = inner.strip_prefix("run by ").and_then(|rest| rest.split_once(": "))
    else {
        return Some(format!("what is {inner:?}?"));
    };
    let runner = text(by);
    let calls = if name == "make" {
        let commands = block.iter().map(|line| line.split('#').next().unwrap().trim());
        let missing = |command: &&str| !runner.contains(*command);
        return commands.into_iter().find(missing).map(|one| format!("{by} does not run {one}"));
    } else {
        [format!("runbook {name}"), format!("runbook.sh {name}"), format!("block(\"{name}\"")]
    };
    (!calls.iter().any(|call| runner.contains(call))).then(|| format!("{by} does not run {name}"))
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let (mut wrong, mut run) = (Vec::new(), 0);
    for page in PAGES {
        for (marker, block) in fences(&text(page)) {
            run += usize::from(marker.starts_with("<!-- run by "));
            wrong.extend(fault(marker, &block).map(|why| format!("{page}, {:?}: {why}", block[0])));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(run >= 12, "blocks are no longer found: {run}");
    for bad in ["", "<!-- run by .ci/run: nothing -->", "<!-- not run here:  -->"] {
        assert!(fault(bad, &["x"]).is_some(), "{bad:?} passes");
    }
    assert!(fault("<!-- run by .ci/run: make -->", &["make nonsense # x"]).is_some());
}

#[test]
fn commands_said_in_passing_are_run_somewhere_too() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in PAGES {
        let page = text(page);
        let outside: Vec<&str> = page.split("```").step_by(2).collect();
        for paragraph in outside.join("\n\n").split("\n\n") {
            for code in paragraph.split('`').skip(1).step_by(2) {
                let Some((program, _)) = code.split_once([' ', '\n']) else { continue };
                if !PROGRAMS.contains(&program) || paragraph.contains("not run here") {
                    continue;
                }
                seen += 1;
                let row = SAID_IN_PASSING.iter().find(|(begin, ..)| code.starts_with(begin));
                if !row.is_some_and(|(_, by, words)| text(by).contains(words)) {
                    wrong.push(format!("`{code}`"));
                }
            }
        }
    }
    assert!(seen >= 10, "they are no longer found: {seen}");
    assert!(wrong.is_empty(), "neither run nor marked:\n{}", wrong.join("\n"));
}

#[test]
fn every_file_of_deploy_is_run_or_validated() {
    let files = below("deploy");
    let mut wrong = Vec::new();
    for file in &files {
        let row = LOOKED_AT.iter().find(|(pattern, ..)| fits(pattern, file));
        match row {
            None => wrong.push(format!("{file}: nothing looks at it")),
            Some((_, by, words)) if !text(by).contains(words) => {
                wrong.push(format!("{file}: {by} no longer holds {words:?}"));
            }
            Some(_) => {}
        }
    }
    let idle = |(pattern, ..): &&(&str, _, _)| !files.iter().any(|file| fits(pattern, file));
    wrong.extend(LOOKED_AT.iter().filter(idle).map(|row| format!("{}: no such file", row.0)));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // The scripts are run by CI.
    let (steps, tasks) = (text(".ci/run"), text("Makefile"));
    for (script, step) in [("deploy-check", "deploy-check"), ("image", "image-check")] {
        assert!(steps.contains(&format!("make {step}")), "{step}");
        assert!(tasks.contains(&format!("scripts/{script}.sh")), "{script}");
    }
    for script in ["scripts/systemd-check.sh", "scripts/topology-check.sh"] {
        assert!(text("scripts/deploy-check.sh").contains(script), "{script}");
    }
}

/// Addresses of databases in a text. What stands between `${` and `}` may hold blanks, and is left out.
fn database_addresses(text: &str) -> Vec<String> {
    let mut parts = text.split("${");
    let mut plain = parts.next().unwrap().to_owned();
    for part in parts {
        plain.push_str(part.split_once('}').map_or(part, |(_, after)| after));
    }
    let ends = |c: char| c.is_whitespace() || "`'\"".contains(c);
    let begins = plain.match_indices("postgres://").chain(plain.match_indices("postgresql://"));
    begins.map(|(at, _)| plain[at..].split(ends).next().unwrap().to_owned()).collect()
}

/// Whether a host would have to prove its name, and the address does not say by which authority, nor anything else.
fn proof_is_unsaid(address: &str) -> bool {
    let said = address.contains("sslmode=") || address.contains("sslrootcert=");
    let read = Address::parse(address).unwrap_or_else(|| panic!("{address:?} does not read"));
    !said && read.places.iter().any(|place| place.proof == Proof::Name)
}

/// Where the address does not say, no instance starts: the image knows no authority, and few databases have a certificate of
/// one that is known everywhere.
#[test]
fn addresses_of_databases_elsewhere_say_how_they_are_proved() {
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for file in below("deploy").into_iter().chain([String::from("docs/OPERATING.md")]) {
        for address in database_addresses(&text(&file)) {
            seen += 1;
            if proof_is_unsaid(&address) {
                wrong.push(format!("{file}: {address}"));
            }
        }
    }
    assert!(wrong.is_empty(), "neither sslmode nor sslrootcert:\n{}", wrong.join("\n"));
    assert!(seen >= 4, "they are no longer found: {seen}");
    for bad in ["postgres://u:p@db.example/d", "postgresql://u@127.0.0.1,db.example:5433/d"] {
        assert!(proof_is_unsaid(bad), "{bad} passes");
    }
    assert!(!proof_is_unsaid("postgres://u@127.0.0.1:5433/d"));
    let odd = "A: postgres://u:${P:?set P}@db/d?sslmode=disable # x\n(`postgresql://u@db/d`)";
    let found = ["postgres://u:@db/d?sslmode=disable", "postgresql://u@db/d"];
    assert_eq!(database_addresses(odd), found);
}

/// Both commands of `deploy/README.md`, addresses and database aside.
#[tokio::test]
async fn instances_start_as_the_page_about_balancers_says() {
    let db = TestDb::fresh().await;
    let commands = block("instances", "deploy/README.md").replace("\\\n", " ");
    let commands: Vec<&str> = commands.lines().filter(|line| !line.starts_with('#')).collect();
    for (command, kind) in commands.iter().zip([Kind::HaProxy, Kind::Nginx]) {
        let url = db.url();
        let mut words: Vec<&str> = command.split_whitespace().collect();
        assert_eq!(words.drain(..2).collect::<Vec<_>>(), ["plenum", "serve"]);
        for word in &mut words {
            *word = match *word {
                "\"$URL\"" => &url,
                "\"$KEY\"" => "key",
                "10.0.0.10" => "127.0.0.1",
                address if address.starts_with("10.0.0.1:") => "127.0.0.1:0",
                other => other,
            };
        }
        for flag in kind.flags() {
            let name = flag.split('=').next().unwrap();
            assert!(words.contains(&name), "the tests of balancers add {name} to the page's");
        }
        let mut server = Server::plain(&words).await;
        assert_eq!(server.agent.is_some(), kind == Kind::HaProxy);
        assert_eq!(server.ops_get("/readyz").await.status, 200);
        server.stop().await;
    }
    assert_eq!(commands.len(), 2);
}

/// What HAProxy reads from its environment has the names that the page gives.
#[test]
fn haproxy_takes_the_addresses_of_the_page() {
    let configuration = text("deploy/haproxy/haproxy.cfg");
    for line in block("addresses", "deploy/README.md").lines() {
        let (name, _) = line.split_once('=').unwrap();
        assert!(configuration.contains(&format!("\"${{{name}}}\"")), "{name}");
    }
    // One line that the tests replace: where NGINX listens.
    assert!(text("deploy/nginx/listen.conf").lines().any(|line| line.starts_with("listen ")));
}
