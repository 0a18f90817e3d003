//! The report as tables for a terminal. Must never leave out what failed. Called by `report`.

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use super::{Report, rounded};

/// Goals and checks of all scenarios.
pub(super) fn table(report: &Report, baseline: Option<&Report>) -> String {
    let mut text = String::new();
    if report.judged {
        text.push_str(&format!("{}\n\n", verdicts(report, baseline)));
    }
    for finding in &report.findings {
        let mark = if finding.passed() { "passed" } else { "FAILED" };
        let checks = finding.checks.len();
        text.push_str(&format!(
            "{mark}  {:<18} {:>4.0} s, {checks} checks\n",
            finding.name, finding.seconds
        ));
        if let Some(failure) = &finding.failure {
            text.push_str(&format!("        {failure}\n"));
        }
        for check in finding.checks.iter().filter(|check| !check.faults.is_empty()) {
            text.push_str(&format!("        NOT SO: {}\n", check.what));
            check.faults.iter().for_each(|fault| text.push_str(&format!("          {fault}\n")));
        }
    }
    for caveat in report.facts.caveats.iter().filter(|caveat| caveat.contains("DEBUG")) {
        text.push_str(&format!("\n{caveat}\n"));
    }
    text
}

fn verdicts(report: &Report, baseline: Option<&Report>) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::ASCII_MARKDOWN);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    let mut header = vec!["", "scenario", "requirement", "figure", "target", "to yardstick"];
    header.extend(baseline.map(|_| "earlier"));
    table.set_header(header);
    for finding in &report.findings {
        for verdict in &finding.verdicts {
            let mark = match verdict.met {
                Some(true) => "met",
                Some(false) => "NOT MET",
                None => "not measured",
            };
            let value = verdict
                .value
                .map_or("–".to_owned(), |value| format!("{} {}", rounded(value), verdict.unit));
            let ratio = verdict
                .yardstick
                .as_ref()
                .map_or(String::new(), |(_, ratio)| format!("{}×", rounded(*ratio)));
            let mut row = vec![
                mark.to_owned(),
                finding.name.clone(),
                verdict.requirement.clone(),
                value,
                verdict.target.clone(),
                ratio,
            ];
            if let Some(baseline) = baseline {
                let earlier =
                    baseline.finding(&finding.name).and_then(|one| one.figure(&verdict.figure));
                row.push(earlier.map_or("–".to_owned(), |one| rounded(one.median())));
            }
            table.add_row(row);
        }
    }
    for column in [3, 5, 6] {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}
