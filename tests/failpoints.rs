//! Nothing that touches the disk or a server is without a fail point, and no fail point is without a test: read from the source, so that a new
//! step cannot be forgotten.
//!
//! What the points are for: `tests/crash` and `tests/store_failpoints.rs`, each of which checks that it goes through all of its own.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::BTreeSet;
use std::path::Path;

use certsyncd::failpoint::ALL;

/// Words that ask the system for something, in `src/atomic`, the only door to the disk.
const CALLS: &[&str] = &[
    "std::fs::",
    "File::open(",
    "OpenOptions::new()",
    "DirBuilder::new()",
    "tempfile::Builder::new()",
    "rustix::fs::open",
    "rustix::fs::rename",
    "rustix::fs::stat",
    "rustix::fs::chmod",
    "rustix::fs::chown",
    "rustix::fs::fchmod",
    "rustix::fs::fchown",
    "rustix::fs::fsync",
    "rustix::fs::syncfs",
    "rustix::fs::fstatfs",
    ".metadata()",
    ".sync_all()",
    ".write_all(",
    ".read_to_end(",
    ".read(&mut",
];
/// Functions that do so without a point of their own, and why that is fine.
const WITHOUT: &[(&str, &str)] = &[
    ("remove_any", "is called inside a step"),
    ("new_file", "says how a file is opened, which is done inside a step"),
    ("in_user_namespace", "reads what the kernel says of us"),
];

/// Words that reach a server, a cloud or another process.
const DOORS: &[&str] =
    &["command::run(", "client.execute(", "UnixStream::connect(", "TcpStream::connect(", "attempt(channel, entry"];
/// Functions that do so without a point of their own, and why that is fine.
const ONLY_ASK: &[(&str, &str)] = &[
    ("deploy/systemd.rs: state", "asks; nothing changes"),
    ("deploy/systemd.rs: journal", "asks; nothing changes"),
    ("deploy/systemd.rs: environment", "asks; nothing changes"),
    ("deploy/explain.rs: check", "asks; `reload`, which has points, calls it"),
    ("deploy/stage.rs: run", "asks about files that are not live; `stage`, which has a point, comes before"),
    ("deploy/runtime.rs: talk", "every change over it goes through `update`, which has points"),
    ("deploy/handshake.rs: ask", "asks; `look` and `verify`, which have points, call it"),
];

#[test]
fn every_point_of_the_source_is_known_and_every_known_one_is_there() {
    let rooms: BTreeSet<&str> = ALL.iter().map(|name| name.split('.').next().unwrap()).collect();
    let mut found = BTreeSet::new();
    for (path, code) in sources().iter().filter(|(path, _)| path != "failpoint.rs") {
        for lead in ["step(\"", "hit(\"", "reach(\"", "point(\""] {
            for (at, _) in code.match_indices(lead) {
                let name = code[at + lead.len()..].split('"').next().unwrap();
                let room = name.split('.').next().unwrap();
                assert!(rooms.contains(room), "{path}: `{name}` is a point of no known room");
                found.insert(name.to_owned());
            }
        }
    }
    let all: BTreeSet<String> = ALL.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(found, all, "points in the source and in `failpoint::ALL`");
}

#[test]
fn nothing_asks_the_disk_past_a_point() {
    let bare = bare("atomic/", CALLS, &["step(", "step::<"]);
    let known = WITHOUT.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
    let names = bare.iter().map(|function| function.split(": ").nth(1).unwrap().to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names, known, "{bare:?}");
}

#[test]
fn nothing_reaches_a_server_past_a_point() {
    let known = ONLY_ASK.iter().map(|(name, _)| (*name).to_owned()).collect::<BTreeSet<_>>();
    let bare: BTreeSet<String> = ["deploy/", "provider/", "alert/outbox/"]
        .into_iter()
        .flat_map(|folder| bare(folder, DOORS, &["failpoint::reach(", "failpoint::hit("]))
        .collect();
    assert_eq!(bare, known);
}

#[test]
fn a_forgotten_point_is_seen() {
    let text = "pub fn good() {\n    step(\"atomic.read\", || std::fs::read(x));\n}\n\nfn bad() {\n    std::fs::read(x)\n}\n";
    let functions = functions(text);
    assert_eq!(functions.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["good", "bad"]);
    let bare: Vec<_> = functions.iter().filter(|(_, body)| is_bare(body, CALLS, &["step("])).map(|(name, _)| name).collect();
    assert_eq!(bare, ["bad"]);
}

/// `file: function` of those below `folder` that say one of `what` and none of `points`.
fn bare(folder: &str, what: &[&str], points: &[&str]) -> Vec<String> {
    let files: Vec<(String, String)> = sources().into_iter().filter(|(path, _)| path.starts_with(folder)).collect();
    assert!(files.len() > 2, "{folder}: {files:?}");
    let mut found = Vec::new();
    for (path, code) in &files {
        let functions = functions(code);
        let bare = functions.iter().filter(|(_, body)| is_bare(body, what, points));
        found.extend(bare.map(|(name, _)| format!("{path}: {name}")));
    }
    found
}

fn is_bare(body: &str, what: &[&str], points: &[&str]) -> bool {
    what.iter().any(|word| body.contains(word)) && !points.iter().any(|point| body.contains(point))
}

/// Name and body of every function, as rustfmt lays them out: from its line to the closing brace under the line's first letter.
fn functions(code: &str) -> Vec<(String, String)> {
    let lines: Vec<&str> = code.lines().collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let words = line.trim_start();
        let indent = line.len() - words.len();
        let lead = ["fn ", "pub fn ", "pub(super) fn ", "pub(crate) fn ", "async fn ", "pub async fn ", "pub(super) async fn "];
        let Some(rest) = lead.iter().find_map(|lead| words.strip_prefix(lead)) else { continue };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let close = format!("{}}}", " ".repeat(indent));
        let body: Vec<&str> = lines[at..].iter().take_while(|line| **line != close).copied().collect();
        found.push((name, body.join("\n")));
    }
    found
}

/// Path under `src` and code of every file, without comments and the tests at the foot.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (Vec::new(), vec![root.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\n#[allow").next().unwrap();
                let code = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
                found.push((path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned(), code));
            }
        }
    }
    found
}
