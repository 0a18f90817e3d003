//! The shape of the source: floors, the size and head of files, the documents bound to the code.
//! Reads files only; the rules are in `docs/ARCHITECTURE.md` and `CONTRIBUTING.md`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Rooms from the ground up. A file imports from lower floors only, and from its own room.
const FLOORS: [&[&str]; 7] = [
    &["domain", "limits"],
    &[
        "config",
        "metrics",
        "drain",
        "auth",
        "outbox",
        "ring",
        "socket",
        "addresses",
        "chance",
        "mutation",
    ],
    &["wire", "store"],
    &["vote", "feed", "cluster"],
    &["ws", "http"],
    &["app", "admin", "main", "lib"],
    &["simulation"],
];

/// Doors between rooms of one floor, each with its reason.
const DOORS: [(&str, &str); 3] = [
    // The upgrade hands the socket over.
    ("http", "ws"),
    // An outbox is a cursor into a ring; the two are one mechanism in two files.
    ("outbox", "ring"),
    // And it has the socket that it writes to.
    ("outbox", "socket"),
];

const LINES_MAX: usize = 500;
const LINES_MEDIAN: usize = 180;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every Rust file below a folder of the repository, with its text.
fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    files(folder, &["rs"])
}

/// Every file of these kinds that is our own, with its text.
fn files(folder: &str, kinds: &[&str]) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.extend((!path.ends_with("node_modules")).then_some(path));
            } else if path.extension().is_some_and(|kind| kinds.iter().any(|one| kind == *one)) {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path.strip_prefix(root()).unwrap().to_owned(), text));
            }
        }
    }
    found.sort();
    found
}

/// The room of a file below `src`: its first folder, or its own name.
fn room(path: &Path) -> String {
    let first = path.components().nth(1).unwrap().as_os_str().to_str().unwrap();
    first.trim_end_matches(".rs").to_owned()
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Every room that a text names by `crate::`, comments aside.
fn imports(text: &str) -> BTreeSet<String> {
    let code: String = text
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n");
    let mut found = BTreeSet::new();
    for (at, _) in code.match_indices("crate::") {
        if code[..at].ends_with(|before: char| before.is_alphanumeric() || "_$".contains(before)) {
            continue;
        }
        let rest = &code[at + "crate::".len()..];
        match rest.strip_prefix('{') {
            Some(list) => found.extend(top_names(list)),
            None => found.extend(first_name(rest)),
        }
    }
    found
}

/// The first name of each item of `a::B, c::{D, E}}`.
fn top_names(list: &str) -> Vec<String> {
    let (mut depth, mut names, mut start) = (0, Vec::new(), true);
    for (at, sign) in list.char_indices() {
        match sign {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => start = true,
            _ if start && !sign.is_whitespace() => {
                names.extend(first_name(&list[at..]));
                start = false;
            }
            _ => {}
        }
    }
    names
}

fn first_name(text: &str) -> Option<String> {
    let name: String =
        text.chars().take_while(|sign| sign.is_alphanumeric() || *sign == '_').collect();
    name.starts_with(|sign: char| sign.is_lowercase()).then_some(name)
}

#[test]
fn every_file_imports_from_lower_floors_only() {
    let mut wrong = Vec::new();
    let mut edges = 0;
    for (path, text) in sources("src") {
        let from = room(&path);
        let Some(own) = floor(&from) else {
            wrong.push(format!("{} is in no room", path.display()));
            continue;
        };
        for to in imports(&text) {
            edges += 1;
            let below = floor(&to).is_some_and(|floor| floor < own);
            if !below && to != from && !DOORS.contains(&(from.as_str(), to.as_str())) {
                wrong.push(format!("{}: {from} (floor {own}) imports {to}", path.display()));
            }
        }
    }
    assert!(edges > 20, "the imports are no longer found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whoever reads the document finds each room on the floor that is held here.
#[test]
fn the_document_has_every_room_on_its_floor() {
    let document = fs::read_to_string(root().join("docs/ARCHITECTURE.md")).unwrap();
    let (_, table) = document.split_once("| floor | room |").unwrap();
    let mut number: usize = 0;
    let mut told: BTreeSet<(usize, String)> = BTreeSet::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        if !cells[1].is_empty() {
            number = cells[1].parse().unwrap();
        }
        let paths = cells[2].split('`').filter(|part| part.starts_with("src/"));
        told.extend(paths.map(|path| (number, room(Path::new(path)))));
    }
    let held: BTreeSet<(usize, String)> = FLOORS
        .iter()
        .enumerate()
        .flat_map(|(number, rooms)| rooms.iter().map(move |room| (number, (*room).to_owned())))
        .collect();
    assert_eq!(told, held);
}

#[test]
fn imports_are_found_in_every_form() {
    let text = "use crate::domain::Vote;\nuse crate::{limits, wire::{frame, json}, store};\n\
                // crate::app is not meant\nlet x = crate::vote::cast();\n$crate::ws; my_crate::http;\n\
                pub(crate) fn f() -> crate::Error {}";
    let expected = ["domain", "limits", "store", "vote", "wire"];
    assert_eq!(imports(text).into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn every_file_is_short_and_says_what_it_is_for() {
    let mut wrong = Vec::new();
    let mut sizes = Vec::new();
    for folder in ["src", "tests", "loadtest", "bench"] {
        for (path, text) in sources(folder) {
            let lines = text.lines().count();
            sizes.push(lines);
            if !text.starts_with("//! ") {
                wrong.push(format!("{} does not open with //!", path.display()));
            }
            if lines > LINES_MAX {
                wrong.push(format!("{} has {lines} lines, more than {LINES_MAX}", path.display()));
            }
            for word in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("db", "g!(")] {
                if text.contains(word) {
                    wrong.push(format!("{} holds {word}", path.display()));
                }
            }
        }
    }
    sizes.sort_unstable();
    let median = sizes[sizes.len() / 2];
    if median >= LINES_MEDIAN {
        wrong.push(format!("the median file has {median} lines, not below {LINES_MEDIAN}"));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The pages, and the tests written in their language.
#[test]
fn every_file_of_the_pages_is_short_and_says_what_it_is_for() {
    let mut wrong = Vec::new();
    let mut found = 0;
    for folder in ["src/web", "tests/web", "tests/browser"] {
        for (path, text) in files(folder, &["js", "mjs", "ts", "css"]) {
            found += 1;
            let lines = text.lines().count();
            if !text.starts_with("// ") && !text.starts_with("/*") {
                wrong.push(format!("{} does not open with a comment", path.display()));
            }
            if lines > LINES_MAX {
                wrong.push(format!("{} has {lines} lines, more than {LINES_MAX}", path.display()));
            }
        }
    }
    assert!(found > 40, "the files of the pages are no longer found: {found}");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The wire is described in words; whoever changes one has to look at the other.
#[test]
fn the_protocol_document_belongs_to_the_code_of_the_wire() {
    let mut hash = Sha256::new();
    for (_, text) in sources("src/wire") {
        hash.update(text);
    }
    let hash: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    let document = fs::read_to_string(root().join("docs/PROTOCOL.md")).unwrap();
    let named =
        document.lines().rev().find_map(|line| line.split("wire-hash: ").nth(1)).unwrap_or("none");
    let named = named.trim_end_matches("-->").trim();
    assert_eq!(
        named, hash,
        "src/wire/ has changed. Read docs/PROTOCOL.md again, correct it where it no longer fits, then \
         set its last line to `wire-hash: {hash}` (or run `cat src/wire/*.rs | sha256sum`)"
    );
}

/// Numbered without a hole, so that two branches cannot both add the same one unseen.
#[test]
fn migrations_are_numbered_without_a_hole() {
    let folder = fs::read_dir(root().join("sql/migrations")).unwrap();
    let mut names: Vec<String> =
        folder.flatten().map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(!names.is_empty());
    for (nth, name) in names.iter().enumerate() {
        assert!(
            name.starts_with(&format!("{:04}_", nth + 1)) && name.ends_with(".sql"),
            "{names:?}"
        );
    }
}
