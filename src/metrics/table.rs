//! The page of all metrics, made from what is declared and from what the process exports of itself, so that the page and
//! the program cannot differ. Pure functions. Called by `main.rs` (`plenum metrics`); compared by a test.

use std::fmt::Write as _;

use prometheus::proto::MetricType;

use super::Metrics;

/// One declared metric.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Its kind in Prometheus.
    pub kind: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it says.
    pub help: &'static str,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// The values of its one label, where they are known beforehand.
    pub values: &'static [&'static str],
}

impl Row {
    pub(super) const fn new(
        kind: &'static str,
        name: &'static str,
        help: &'static str,
        labels: &'static [&'static str],
        values: &'static [&'static str],
    ) -> Self {
        Self { kind, name, help, labels, values }
    }

    fn labels(&self) -> String {
        let names: Vec<String> = self.labels.iter().map(|name| format!("`{name}`")).collect();
        match self.values {
            [] => names.join(", "),
            values => format!("{}: {}", names.join(", "), values.join(", ")),
        }
    }
}

impl Metrics {
    /// A table in Markdown.
    #[must_use]
    pub fn table(&self) -> String {
        let mut text =
            String::from("| metric | kind | labels | what it says |\n| --- | --- | --- | --- |\n");
        for row in Self::DECLARED {
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} |",
                row.name,
                row.kind,
                row.labels(),
                row.help
            );
        }
        for family in self.registry.gather() {
            if !Self::DECLARED.iter().any(|row| row.name == family.name()) {
                let kind = if family.get_field_type() == MetricType::COUNTER {
                    "counter"
                } else {
                    "gauge"
                };
                let _ = writeln!(text, "| `{}` | {kind} |  | {} |", family.name(), family.help());
            }
        }
        text
    }
}
