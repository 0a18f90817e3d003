//! The report as one HTML page that needs nothing from outside: style and charts are in it, and it
//! follows the reader's light or dark setting.
//! Must never show a figure without its unit, nor a verdict without its target. Called by `report`.

use std::fmt::Write;

use super::chart::{self, escape};
use super::{Finding, Report, rounded};
use crate::load::sheet::Figure;

const STYLE: &str = include_str!("page.css");
/// A change smaller than this is noise on a shared machine.
const NOISE: f64 = 0.10;

/// The whole page.
pub(super) fn page(report: &Report, baseline: Option<&Report>) -> String {
    let passed = report.passed();
    let (class, word) = if passed { ("met", "Passed") } else { ("unmet", "Failed") };
    let verdicts = || report.findings.iter().flat_map(|one| &one.verdicts);
    let met = verdicts().filter(|one| one.met == Some(true)).count();
    let checks: usize = report.findings.iter().map(|one| one.checks.len()).sum();
    let held = report
        .findings
        .iter()
        .flat_map(|one| &one.checks)
        .filter(|one| one.faults.is_empty())
        .count();
    let seconds: f64 = report.findings.iter().map(|one| one.seconds).sum();
    let all = verdicts().count();
    let requirements = if report.judged {
        format!(
            "<div><dt>requirements met</dt><dd class=\"{class}\">{met}<small> of {all}</small></dd></div>"
        )
    } else {
        String::new() // speed was not judged
    };
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>Plenum load test: {word}</title>\
         <style>{STYLE}</style></head><body><header><div><p class=\"over\">Plenum load test · {}</p>\
         <h1>{word}</h1></div><dl class=\"tiles\">\
         {}\
         <div><dt>checks held</dt><dd>{held}<small> of {checks}</small></dd></div>\
         <div><dt>scenarios</dt><dd>{}</dd></div><div><dt>minutes</dt><dd>{:.1}</dd></div></dl></header><main>",
        escape(&report.facts.date),
        requirements,
        report.findings.len(),
        seconds / 60.0
    );
    if report.judged {
        summary(&mut html, report, baseline);
    }
    contents(&mut html, report);
    for finding in &report.findings {
        section(&mut html, finding, baseline.and_then(|one| one.finding(&finding.name)));
    }
    machine(&mut html, report, baseline);
    html.push_str("</main></body></html>\n");
    html
}

/// Every requirement, one a row.
fn summary(html: &mut String, report: &Report, baseline: Option<&Report>) {
    html.push_str("<section><h2>Requirements</h2><div class=\"scroll\"><table><thead><tr><th></th><th>Requirement</th>\
        <th class=\"n\">Measured</th><th>Target</th><th class=\"use\">Share of the bound</th><th>To a yardstick of this run</th>");
    html.push_str(if baseline.is_some() {
        "<th class=\"n\">Earlier</th></tr></thead><tbody>"
    } else {
        "</tr></thead><tbody>"
    });
    for finding in &report.findings {
        for verdict in &finding.verdicts {
            let (class, mark) = match verdict.met {
                Some(true) => ("met", "met"),
                Some(false) => ("unmet", "not met"),
                None => ("unknown", "not measured"),
            };
            let value = verdict.value.map_or("–".to_owned(), rounded);
            let share = verdict.share.unwrap_or(0.0);
            let yardstick = verdict.yardstick.as_ref().map_or(String::new(), |(label, ratio)| {
                format!("<b>{} ×</b> <small>{}</small>", rounded(*ratio), escape(label))
            });
            let _ = write!(
                html,
                "<tr><td><span class=\"badge {class}\">{mark}</span></td><td><a href=\"#{0}\">{1}</a><small>{0}</small></td>\
                 <td class=\"n\"><b>{value}</b> {2}</td><td>{3}</td><td class=\"use\"><meter class=\"{class}\" max=\"1.5\" value=\"{4:.3}\"></meter>\
                 <small>{5}</small></td><td>{yardstick}</td>",
                finding.name,
                escape(&verdict.requirement),
                escape(&verdict.unit),
                escape(&verdict.target),
                share.min(1.5),
                verdict.share.map_or("–".to_owned(), |share| format!("{:.0} %", share * 100.0))
            );
            if let Some(baseline) = baseline {
                let earlier =
                    baseline.finding(&finding.name).and_then(|one| one.figure(&verdict.figure));
                html.push_str(&compared(verdict.value, earlier));
            }
            html.push_str("</tr>");
        }
    }
    html.push_str("</tbody></table></div></section>");
}

fn contents(html: &mut String, report: &Report) {
    html.push_str("<nav>");
    for finding in &report.findings {
        let class = if finding.passed() { "met" } else { "unmet" };
        let _ = write!(
            html,
            "<a href=\"#{}\"><i class=\"{class}\"></i>{}</a>",
            finding.name,
            escape(&finding.title)
        );
    }
    html.push_str("<a href=\"#machine\">Machine and caveats</a></nav>");
}

fn section(html: &mut String, finding: &Finding, baseline: Option<&Finding>) {
    let (class, word) = if finding.passed() { ("met", "passed") } else { ("unmet", "failed") };
    let _ = write!(
        html,
        "<section id=\"{}\"><h2>{} <span class=\"badge {class}\">{word}</span></h2><p class=\"about\">{}</p>",
        finding.name,
        escape(&finding.title),
        escape(&finding.about)
    );
    html.push_str("<p class=\"parameters\">");
    for (name, value) in &finding.parameters {
        let _ = write!(html, "<code>{} = {}</code> ", escape(name), escape(value));
    }
    let _ = write!(html, "<code>{:.0} s in all</code></p>", finding.seconds);
    if let Some(failure) = &finding.failure {
        let _ = write!(html, "<p class=\"failure\">{}</p>", escape(failure));
    }
    html.push_str("<ul class=\"checks\">");
    for check in &finding.checks {
        let class = if check.faults.is_empty() { "met" } else { "unmet" };
        let _ = write!(html, "<li class=\"{class}\">{}", escape(&check.what));
        for fault in &check.faults {
            let _ = write!(html, "<small>{}</small>", escape(fault));
        }
        html.push_str("</li>");
    }
    html.push_str("</ul>");
    pictures(html, finding);
    figures(html, finding, baseline);
    for note in &finding.notes {
        let _ = write!(html, "<p class=\"note\">{}</p>", escape(note));
    }
    html.push_str("</section>");
}

fn pictures(html: &mut String, finding: &Finding) {
    html.push_str("<div class=\"charts\">");
    if !finding.curves.is_empty() {
        let mut curves: Vec<_> = finding.curves.iter().collect();
        let number =
            |key: &str| key.rsplit('_').next().and_then(|end| end.parse::<u64>().ok()).unwrap_or(0);
        curves.sort_by_key(|one| number(&one.key));
        html.push_str(&chart::percentiles("Latency by percentile, all rounds together", &curves));
    }
    let mut drawn: Vec<&str> = Vec::new();
    for series in &finding.series {
        // Two points are no course.
        if series.points.len() > 2 && !drawn.contains(&series.chart.as_str()) {
            drawn.push(&series.chart);
            let same: Vec<_> =
                finding.series.iter().filter(|one| one.chart == series.chart).collect();
            html.push_str(&chart::lines(&series.chart, &same));
        }
    }
    finding
        .bars
        .iter()
        .filter(|one| !one.bars.is_empty())
        .for_each(|one| html.push_str(&chart::bars(one)));
    html.push_str("</div>");
}

fn figures(html: &mut String, finding: &Finding, baseline: Option<&Finding>) {
    html.push_str("<details><summary>All figures</summary><div class=\"scroll\"><table><thead><tr><th>Figure</th>\
        <th class=\"n\">Median</th><th class=\"n\">Lowest – highest round</th><th>Unit</th>");
    html.push_str(if baseline.is_some() {
        "<th class=\"n\">Earlier</th></tr></thead><tbody>"
    } else {
        "</tr></thead><tbody>"
    });
    for figure in &finding.figures {
        let low = figure.rounds.iter().copied().fold(f64::INFINITY, f64::min);
        let high = figure.rounds.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let spread = if figure.rounds.len() > 1 {
            format!("{} – {}", rounded(low), rounded(high))
        } else {
            String::new()
        };
        let _ = write!(
            html,
            "<tr><td>{}</td><td class=\"n\"><b>{}</b></td><td class=\"n\">{spread}</td><td>{}</td>",
            escape(&figure.label),
            rounded(figure.median()),
            escape(&figure.unit)
        );
        if let Some(baseline) = baseline {
            html.push_str(&compared(Some(figure.median()), baseline.figure(&figure.key)));
        }
        html.push_str("</tr>");
    }
    html.push_str("</tbody></table></div></details>");
}

/// The earlier value, and the change where it is more than noise.
fn compared(now: Option<f64>, earlier: Option<&Figure>) -> String {
    let Some(earlier) = earlier.map(Figure::median) else {
        return "<td class=\"n\">–</td>".to_owned();
    };
    let change = now
        .map(|now| (now - earlier) / earlier)
        .filter(|change| change.abs() >= NOISE && change.is_finite());
    let change =
        change.map_or(String::new(), |change| format!(" <small>{:+.0} %</small>", change * 100.0));
    format!("<td class=\"n\">{}{change}</td>", rounded(earlier))
}

fn machine(html: &mut String, report: &Report, baseline: Option<&Report>) {
    html.push_str("<section id=\"machine\"><h2>Machine and caveats</h2><dl class=\"facts\">");
    for (name, value) in &report.facts.list {
        let _ = write!(html, "<div><dt>{}</dt><dd>{}</dd></div>", escape(name), escape(value));
    }
    if let Some(baseline) = baseline {
        let _ = write!(
            html,
            "<div><dt>Compared with</dt><dd>the run of {}",
            escape(&baseline.facts.date)
        );
        let commit = baseline.facts.list.iter().find(|one| one.0 == "Commit");
        let _ = write!(
            html,
            "{}</dd></div>",
            commit.map_or(String::new(), |one| format!(", commit {}", escape(&one.1)))
        );
    }
    html.push_str("</dl><ul class=\"caveats\">");
    for caveat in &report.facts.caveats {
        let _ = write!(html, "<li>{}</li>", escape(caveat));
    }
    html.push_str("</ul></section>");
}
