//! Charts as inline SVG, drawn here so that the page needs nothing from outside: lines over time,
//! latencies by percentile, bars. Colours and fonts come from the page's style sheet.
//! Must never cut an axis so that a difference looks larger than it is: values begin at zero.
//! Called by `html`.

use std::fmt::Write;

use super::rounded;
use crate::load::sheet::{Bars, Curve, Series};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 260.0;
/// Room for the labels of the axes.
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 34.0;
/// Colours of the style sheet; more lines than that begin anew.
const COLOURS: usize = 8;

/// A figure element with its legend.
struct Chart {
    svg: String,
    legend: Vec<String>,
    title: String,
    unit: String,
}

impl Chart {
    fn new(title: &str) -> Chart {
        Chart {
            svg: String::new(),
            legend: Vec::new(),
            title: title.to_owned(),
            unit: String::new(),
        }
    }

    fn add(&mut self, text: &str) {
        self.svg.push_str(text);
    }

    /// Lines across, with their values.
    fn grid(&mut self, top: f64, unit: &str) {
        for step in 0..=4 {
            let value = top * f64::from(step) / 4.0;
            let y = y_of(value, top);
            self.add(&format!(
                r#"<line class="grid" x1="{LEFT}" x2="{:.0}" y1="{y:.1}" y2="{y:.1}"/><text class="tick" x="{:.0}" y="{:.1}" text-anchor="end">{}</text>"#,
                WIDTH - RIGHT, LEFT - 6.0, y + 4.0, short(value)
            ));
        }
        unit.clone_into(&mut self.unit);
    }

    fn tick(&mut self, x: f64, text: &str) {
        self.add(&format!(
            r#"<text class="tick" x="{x:.1}" y="{:.0}" text-anchor="middle">{}</text>"#,
            HEIGHT - BOTTOM + 16.0,
            escape(text)
        ));
    }

    fn line(&mut self, nth: usize, label: &str, points: &[(f64, f64)]) {
        let mut path = String::new();
        for (x, y) in points {
            let _ = write!(path, "{}{x:.1} {y:.1}", if path.is_empty() { "M" } else { "L" });
        }
        let colour = nth % COLOURS;
        self.add(&format!(
            r#"<path class="line c{colour}" d="{path}"><title>{}</title></path>"#,
            escape(label)
        ));
        if let [(x, y)] = points {
            self.add(&format!(r#"<circle class="dot c{colour}" cx="{x:.1}" cy="{y:.1}" r="3"/>"#));
        }
        self.legend.push(format!(
            r#"<span class="key"><i class="c{colour}"></i>{}</span>"#,
            escape(label)
        ));
    }

    fn finish(self) -> String {
        format!(
            r#"<figure><figcaption>{} <small>{}</small></figcaption><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{}">{}</svg><div class="legend">{}</div></figure>"#,
            escape(&self.title),
            escape(&self.unit),
            escape(&self.title),
            self.svg,
            self.legend.concat()
        )
    }
}

fn y_of(value: f64, top: f64) -> f64 {
    TOP + (HEIGHT - TOP - BOTTOM) * (1.0 - (value / top).clamp(0.0, 1.0))
}

fn x_of(share: f64) -> f64 {
    LEFT + (WIDTH - LEFT - RIGHT) * share
}

/// The next number up of 1, 2, 2.5, 5 and a power of ten.
fn nice(value: f64) -> f64 {
    if value <= 0.0 || !value.is_finite() {
        return 1.0;
    }
    let unit = 10_f64.powf(value.log10().floor());
    let steps = [1.0, 2.0, 2.5, 4.0, 5.0, 8.0, 10.0];
    steps.iter().map(|step| step * unit).find(|one| *one >= value).unwrap_or(value)
}

fn short(value: f64) -> String {
    match value {
        value if value >= 10_000.0 => format!("{}k", trimmed(value / 1_000.0)),
        value => trimmed(value),
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// All series of one chart, over time or over something else.
pub(super) fn lines(title: &str, series: &[&Series]) -> String {
    let mut chart = Chart::new(title);
    let all = || series.iter().flat_map(|one| one.points.iter());
    let top = nice(all().map(|one| one.1).fold(0.0, f64::max));
    let first = series.first();
    let over_time = first.is_some_and(|one| one.x_unit == "s");
    let low = if over_time { all().map(|one| one.0).fold(f64::INFINITY, f64::min) } else { 0.0 };
    let high = all().map(|one| one.0).fold(low + f64::EPSILON, f64::max);
    chart.grid(top, first.map_or("", |one| one.unit.as_str()));
    for step in 0..=5 {
        let share = f64::from(step) / 5.0;
        let value = low + (high - low) * share;
        let unit = if step == 5 { first.map_or("", |one| one.x_unit.as_str()) } else { "" };
        let text = if over_time && high - low < 10.0 {
            format!("{:.1} {unit}", value - low)
        } else if over_time {
            format!("{:.0} {unit}", value - low)
        } else {
            format!("{} {unit}", short(value.round()))
        };
        chart.tick(x_of(share) - if step == 5 { 12.0 } else { 0.0 }, text.trim());
    }
    for (nth, one) in series.iter().enumerate() {
        let points: Vec<(f64, f64)> = one
            .points
            .iter()
            .map(|(x, y)| (x_of((x - low) / (high - low)), y_of(*y, top)))
            .collect();
        // Phases are apart: no line is drawn over the time between them.
        let mut gaps = vec![0];
        if over_time {
            let pairs = one.points.iter().zip(one.points.iter().skip(1)).enumerate();
            gaps.extend(pairs.filter(|(_, (a, b))| b.0 - a.0 > 1.6).map(|(at, _)| at + 1));
        }
        gaps.push(points.len());
        for (part, ends) in gaps.windows(2).enumerate() {
            let [from, to] = ends else { continue };
            let run = points.get(*from..*to).unwrap_or_default();
            chart.line(nth, &one.label, run);
            if part > 0 {
                chart.legend.pop();
            }
        }
    }
    chart.finish()
}

/// Latencies by percentile; the further right, the rarer.
pub(super) fn percentiles(title: &str, curves: &[&Curve]) -> String {
    /// 99.999 %.
    const NINES: f64 = 5.0;
    let mut chart = Chart::new(title);
    // The rarest that as many values can show.
    let deepest =
        curves.iter().map(|one| (one.count.max(10) as f64).log10()).fold(1.0, f64::max).min(NINES);
    let nines = |share: f64| (-(1.0 - share).max(1e-9).log10()).clamp(0.0, deepest) / deepest;
    let top = nice(curves.iter().flat_map(|one| &one.points).map(|one| one.1).fold(0.0, f64::max));
    chart.grid(top, "ms");
    for (share, label) in [
        (0.0, "0"),
        (0.5, "50 %"),
        (0.9, "90 %"),
        (0.99, "99 %"),
        (0.999, "99.9 %"),
        (0.9999, "99.99 %"),
    ] {
        let at = -(1.0_f64 - share).log10();
        if at <= deepest {
            let x = x_of(nines(share));
            chart.add(&format!(
                r#"<line class="grid" x1="{x:.1}" x2="{x:.1}" y1="{TOP}" y2="{:.0}"/>"#,
                HEIGHT - BOTTOM
            ));
            chart.tick(x, label);
        }
    }
    for (nth, curve) in curves.iter().enumerate() {
        let own = (curve.count.max(10) as f64).log10();
        let points: Vec<(f64, f64)> = curve
            .points
            .iter()
            .filter(|(share, _)| -(1.0 - share).max(1e-9).log10() <= own || *share >= 1.0)
            .map(|(share, value)| {
                let x = if *share >= 1.0 {
                    x_of(own.min(deepest) / deepest)
                } else {
                    x_of(nines(*share))
                };
                (x, y_of(*value, top))
            })
            .collect();
        chart.line(nth, &curve.label, &points);
    }
    chart.finish()
}

/// Counts by class.
pub(super) fn bars(bars: &Bars) -> String {
    let mut chart = Chart::new(&bars.label);
    let shown: Vec<&(String, f64)> =
        bars.bars.iter().filter(|one| one.0 != "+Inf" || one.1 > 0.0).collect();
    let top = nice(shown.iter().map(|one| one.1).fold(0.0, f64::max));
    chart.grid(top, &bars.unit);
    let step = 1.0 / (shown.len().max(1) as f64);
    for (nth, (label, value)) in shown.iter().enumerate() {
        let (x, width) = (x_of(step * (nth as f64 + 0.15)), x_of(step * 0.7) - LEFT);
        let y = y_of(*value, top);
        chart.add(&format!(
            r#"<rect class="bar c0" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{:.1}"><title>{}: {}</title></rect>"#,
            HEIGHT - BOTTOM - y, escape(label), rounded(*value)
        ));
        chart.tick(x + width / 2.0, label);
    }
    chart.finish()
}

/// Text as HTML shows it.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        assert_eq!(
            [nice(0.0), nice(0.9), nice(1.7), nice(23.0), nice(812.0)],
            [1.0, 1.0, 2.0, 25.0, 1_000.0]
        );
        assert_eq!([short(0.25), short(2.0), short(25_000.0)], ["0.25", "2", "25k"]);
    }

    #[test]
    fn what_is_drawn_stays_on_the_sheet_and_is_escaped() {
        let series = Series {
            chart: "c".to_owned(),
            label: "a <b>".to_owned(),
            x_unit: "s".to_owned(),
            unit: "ms".to_owned(),
            points: vec![(0.0, 0.0), (1.0, 5.0)],
        };
        let svg = lines("c", &[&series]);
        assert!(
            svg.contains("a &lt;b&gt;") && !svg.contains("<b>") && !svg.contains("NaN"),
            "{svg}"
        );
        assert!(
            svg.contains(&format!(
                "M{LEFT:.1} {:.1}L{:.1} {TOP:.1}",
                HEIGHT - BOTTOM,
                WIDTH - RIGHT
            )),
            "{svg}"
        );
    }
}
