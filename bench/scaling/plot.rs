//! The plot of the simulation, as SVG by hand: the busiest day under each policy. Called by `main.rs`.

use std::fmt::Write as _;

const WIDTH: f64 = 860.0;
const HEIGHT: f64 = 150.0;
const LEFT: f64 = 60.0;

/// One panel per policy: what is connected, filled; room for it, as a line.
pub(crate) fn busiest_day(courses: &[(&str, &[(u32, u32)])], step: f64) -> String {
    let day = (24.0 * 3600.0 / step) as usize;
    // By the predictive course, which lets the most people in.
    let by = courses.last().map_or(&[][..], |(_, course)| course);
    let busiest = by
        .chunks(day)
        .enumerate()
        .max_by_key(|(_, chunk)| chunk.iter().map(|(here, _)| *here).max());
    let from = busiest.map_or(0, |(number, _)| number * day);
    let shown =
        |course: &'_ [(u32, u32)]| course.iter().skip(from).take(day).copied().collect::<Vec<_>>();
    let most = courses
        .iter()
        .flat_map(|(_, course)| shown(course))
        .map(|(here, room)| here.max(room))
        .max();
    let most = f64::from(most.unwrap_or(1));
    let height = courses.len() as f64 * (HEIGHT + 40.0) + 30.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        WIDTH + LEFT + 20.0
    );
    for (number, (name, course)) in courses.iter().enumerate() {
        let top = number as f64 * (HEIGHT + 40.0) + 24.0;
        let x = |at: usize| LEFT + at as f64 / day as f64 * WIDTH;
        let y = |value: u32| top + HEIGHT - f64::from(value) / most * HEIGHT;
        let points = shown(course);
        let mut area = format!("M{LEFT} {:.1}", top + HEIGHT);
        let mut line = String::new();
        for (at, (here, room)) in points.iter().enumerate().step_by(4) {
            let _ = write!(area, "L{:.1} {:.1}", x(at), y(*here));
            let _ = write!(line, "{}{:.1} {:.1}", if at == 0 { 'M' } else { 'L' }, x(at), y(*room));
        }
        let _ = write!(area, "L{:.1} {:.1}Z", LEFT + WIDTH, top + HEIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-weight=\"bold\">{name}: connected (area), room (line)</text>",
            top - 8.0
        );
        let _ = writeln!(
            svg,
            "<path d=\"{area}\" fill=\"#9cc4e4\"/><path d=\"{line}\" fill=\"none\" stroke=\"#b03a2e\" stroke-width=\"1.5\"/>"
        );
        for value in (0..=most as u32).step_by(500) {
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
                LEFT - 6.0,
                y(value) + 4.0
            );
        }
        for hour in (0..=24).step_by(4) {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{hour}h</text>",
                x(hour * day / 24),
                top + HEIGHT + 14.0
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
