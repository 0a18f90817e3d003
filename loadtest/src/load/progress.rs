//! What the person at the terminal sees while scenarios run: one line that moves.
//! Must never write to stdout, which is for results. Called by `mod` and `stage`.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// One line on stderr; nothing where stderr is no terminal, except a line for each result.
#[derive(Debug)]
pub(super) struct Progress {
    line: ProgressBar,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let line = ProgressBar::new_spinner();
        let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
        line.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        line.enable_steady_tick(Duration::from_millis(200));
        Progress { line }
    }

    /// What is going on now.
    pub(super) fn now(&self, text: String) {
        self.line.set_message(text);
    }

    /// Something that was measured.
    pub(super) fn done(&self, text: &str) {
        if self.line.is_hidden() {
            eprintln!("{text}");
        } else {
            self.line.println(text);
        }
    }

    pub(super) fn finish(&self) {
        self.line.finish_and_clear();
    }
}
