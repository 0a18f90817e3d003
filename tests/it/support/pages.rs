//! The pages of the documentation, as the tests read them: their text, and their blocks of commands with what stands above.
//! Must never mend a page. Called by `runbook` and `pooler`.

use std::fs;
use std::path::Path;

/// A file of the repository.
pub(crate) fn text(path: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path));
    text.unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The fences of a page: the line above, and what is in it.
pub(crate) fn fences(page: &str) -> Vec<(&str, Vec<&str>)> {
    let (mut found, mut above, mut inside): (Vec<(&str, Vec<&str>)>, _, _) =
        (Vec::new(), "", false);
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
            if inside {
                found.push((above, Vec::new()));
            }
        } else if inside {
            found.last_mut().unwrap().1.push(line);
        }
        above = line;
    }
    found
}

/// A block of a page by the name in its marker, as `scripts/runbook.sh` prints it.
pub(crate) fn block(name: &str, page: &str) -> String {
    let (page, end) = (text(page), format!(": {name} -->"));
    let found = fences(&page).into_iter().find(|(above, _)| above.ends_with(&end));
    found.unwrap_or_else(|| panic!("no block {name}")).1.join("\n")
}
