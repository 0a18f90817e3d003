//! Makes what `src/http/pages.rs` serves out of `src/web/`: comments and indentation go, `plenum.js` and its modules become
//! one file, pages get their language and the version of their assets, and everything is gzipped once, here, so that no
//! request compresses. Plain text work: no JavaScript tool is needed. Browsers take brotli over HTTPS alone and it would
//! save a sixth of 20 KB, so gzip is the one encoding.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=src/web");
    println!("cargo::rerun-if-changed=build.rs");
    let web = PathBuf::from("src/web");
    let out = PathBuf::from(env::var("OUT_DIR").expect("cargo sets OUT_DIR"));
    let mut files = BTreeMap::new();
    collect(&web, "", &mut files)?;
    files = packed(&files);
    let (pages, assets): (Vec<_>, Vec<_>) =
        files.into_iter().partition(|(name, _)| name.ends_with(".html"));
    let version = assets.iter().fold(FNV, |hash, (name, text)| fnv(fnv(hash, name), text));
    let version = format!("{version:016x}");
    let mut code = format!("pub(super) static VERSION: &str = \"{version}\";\n");
    code.push_str("pub(super) static ASSETS: &[File] = &[\n");
    for (name, text) in &assets {
        code.push_str(&emit(&out, name, text)?);
    }
    code.push_str("];\npub(super) static PAGES: &[(&str, &str, File)] = &[\n");
    for (name, text) in &pages {
        for (language, words) in languages(&web)? {
            let text = page(text, &version, &language, &words);
            let page = name.trim_end_matches(".html");
            let file = emit(&out, &format!("{page}.{language}.html"), &text)?;
            writeln!(code, "(\"{page}\", \"{language}\", {}),", file.trim_end_matches(",\n"))
                .expect("memory");
        }
    }
    code.push_str("];\n");
    fs::write(out.join("web.rs"), code)
}

/// Every file below `folder` that is served, by its path from `src/web`.
fn collect(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() {
            collect(&path, &format!("{prefix}{name}/"), files)?;
        } else if kind(&name).is_some() {
            files.insert(format!("{prefix}{name}"), fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn kind(name: &str) -> Option<&'static str> {
    Some(match name.rsplit_once('.')?.1 {
        "html" => "text/html; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "js" => "text/javascript; charset=utf-8",
        "ts" => "text/plain; charset=utf-8",
        "svg" => "image/svg+xml",
        _ => return None,
    })
}

/// What is served instead of the sources.
fn packed(sources: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    for (name, text) in sources.iter().filter(|(name, _)| !name.starts_with("client/")) {
        let text = match name.as_str() {
            "plenum.js" => stripped(&bundled("plenum.js", sources, &mut Vec::new())),
            _ if name.ends_with(".js") || name.ends_with(".css") => stripped(text),
            _ => text.clone(),
        };
        files.insert(name.clone(), text);
    }
    files
}

/// A module with the modules that it imports from `client/` before it, each once. They share one scope, so no two of them
/// may give one name to different things; a test imports the result.
fn bundled(name: &str, sources: &BTreeMap<String, String>, seen: &mut Vec<String>) -> String {
    let mut whole = String::new();
    let text = sources.get(name).expect("src/web/client/ holds what plenum.js imports");
    for line in text.lines() {
        match line.split_once(" from './").filter(|_| line.starts_with("import ")) {
            Some((_, rest)) => {
                let file = rest.trim_end_matches("';").trim_start_matches("client/");
                let module = format!("client/{file}");
                if !seen.contains(&module) {
                    seen.push(module.clone());
                    whole.push_str(&bundled(&module, sources, seen));
                }
            }
            None if name == "plenum.js" => whole.extend([line, "\n"]),
            None => whole.extend([line.strip_prefix("export ").unwrap_or(line), "\n"]),
        }
    }
    whole
}

/// Without indentation, empty lines and lines that are comments. Sources keep comments on lines of their own, and no text in
/// backquotes goes over several lines.
fn stripped(text: &str) -> String {
    let mut kept = String::new();
    let mut inside = false;
    for line in text.lines().map(str::trim) {
        if inside || line.starts_with("/*") {
            inside = !line.ends_with("*/");
        } else if !line.is_empty() && !line.starts_with("//") {
            kept.extend([line, "\n"]);
        }
    }
    kept
}

/// The languages that there are, each with its one-line texts, for what a page says before its script runs.
fn languages(web: &Path) -> io::Result<Vec<(String, BTreeMap<String, String>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(web.join("lang"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let words = fs::read_to_string(&path)?
            .lines()
            .filter_map(|line| line.trim().strip_suffix("',")?.split_once(": '"))
            .map(|(key, words)| (key.to_owned(), words.to_owned()))
            .collect();
        found.push((name, words));
    }
    found.sort();
    Ok(found)
}

fn page(text: &str, version: &str, language: &str, words: &BTreeMap<String, String>) -> String {
    let mut page = stripped(text)
        .replace("/assets/-/lang/en.js", &format!("/assets/-/lang/{language}.js"))
        .replace("/assets/-/", &format!("/assets/{version}/"))
        .replace("<html lang=\"en\"", &format!("<html lang=\"{language}\""));
    for (key, words) in words {
        let escaped = words.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
        page = page.replace(&format!("{{{{{key}}}}}"), &escaped);
    }
    assert!(!page.contains("{{"), "a page names a text that {language} does not have: {page}");
    page
}

/// Writes a file and its gzip, and gives the line of the table that names both.
fn emit(out: &Path, name: &str, text: &str) -> io::Result<String> {
    let flat = name.replace('/', "-");
    let (plain, gzip) = (out.join(&flat), out.join(format!("{flat}.gz")));
    fs::write(&plain, text)?;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes())?;
    fs::write(&gzip, encoder.finish()?)?;
    let kind = kind(name).unwrap_or("text/plain");
    let etag = fnv(FNV, text);
    Ok(format!(
        "File {{ name: \"{name}\", kind: \"{kind}\", etag: \"{etag:016x}\", \
         plain: include_bytes!({plain:?}), gzip: include_bytes!({gzip:?}) }},\n"
    ))
}

/// FNV-1a: names a version, protects nothing.
const FNV: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(hash: u64, text: &str) -> u64 {
    text.bytes()
        .fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
