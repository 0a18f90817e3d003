//! Holds figures against goals. Must never call something met that was not measured, nor loosen a
//! bound. Called by `report`.

use serde::{Deserialize, Serialize};

use super::rounded;
use crate::load::scenario::Goal;
use crate::load::sheet::Figure;

/// One goal, and what came of it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(in crate::load) struct Verdict {
    pub(in crate::load) requirement: String,
    pub(in crate::load) figure: String,
    pub(in crate::load) unit: String,
    pub(in crate::load) value: Option<f64>,
    /// The bound in words.
    pub(in crate::load) target: String,
    /// `None`: not measured.
    pub(in crate::load) met: Option<bool>,
    /// How much of the bound was used, or how far above the lower bound it is; 1 is just met.
    pub(in crate::load) share: Option<f64>,
    /// The yardstick of the same run, and the figure as a multiple of it.
    pub(in crate::load) yardstick: Option<(String, f64)>,
}

pub(super) fn verdicts(goals: &[Goal], figures: &[Figure]) -> Vec<Verdict> {
    goals.iter().map(|goal| verdict(goal, figures)).collect()
}

fn verdict(goal: &Goal, figures: &[Figure]) -> Verdict {
    let find = |key: &str| figures.iter().find(|one| one.key == key);
    let figure = find(&goal.figure);
    let value = figure.map(Figure::median).filter(|value| value.is_finite());
    let yardstick = goal.times.as_deref().or(goal.yardstick.as_deref()).and_then(find);
    let unit = figure.map_or("", |figure| figure.unit.as_str()).to_owned();
    let (limit, at_most) = match goal.at_most {
        Some(limit) => (limit, true),
        None => (goal.at_least.unwrap_or(f64::NAN), false),
    };
    let factor = factor(goal, yardstick);
    let bound = factor.map(|factor| limit * factor);
    let met = value
        .zip(bound)
        .map(|(value, bound)| if at_most { value <= bound } else { value >= bound });
    let target = target(goal, limit, factor, yardstick, &unit);
    Verdict {
        requirement: goal.requirement.clone(),
        figure: goal.figure.clone(),
        unit,
        value,
        target: format!("{} {target}", if at_most { "≤" } else { "≥" }),
        met,
        share: value.zip(bound).map(|(value, bound)| value / bound),
        yardstick: yardstick
            .zip(value)
            .map(|(one, value)| (one.label.clone(), value / one.median())),
    }
}

/// What the limit is multiplied by; `None` where that was not measured.
fn factor(goal: &Goal, yardstick: Option<&Figure>) -> Option<f64> {
    match (&goal.times, goal.set_beside) {
        (Some(_), _) => yardstick.map(Figure::median),
        (None, Some(there)) => yardstick.map(|here| (here.median() / there).max(1.0)),
        (None, None) => Some(1.0),
    }
}

/// The bound in words, without its sign.
fn target(
    goal: &Goal,
    limit: f64,
    factor: Option<f64>,
    yardstick: Option<&Figure>,
    unit: &str,
) -> String {
    let limit_text = rounded(limit);
    let bound =
        factor.map_or(String::new(), |factor| format!(" = {} {unit}", rounded(limit * factor)));
    match (&goal.times, goal.set_beside, yardstick) {
        (Some(key), ..) => {
            let label = yardstick.map_or(key.as_str(), |one| one.label.as_str());
            format!("{limit_text} × {label}{bound}")
        }
        (None, Some(there), Some(here)) if here.median() > there => {
            format!("{limit_text} × {} / {}{bound}", rounded(here.median()), rounded(there))
        }
        _ => format!("{limit_text} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(key: &str, rounds: &[f64]) -> Figure {
        Figure {
            key: key.to_owned(),
            label: key.to_owned(),
            unit: "ms".to_owned(),
            rounds: rounds.to_vec(),
        }
    }

    fn goal(at_most: Option<f64>, at_least: Option<f64>, times: Option<&str>) -> Goal {
        Goal {
            requirement: "r".to_owned(),
            figure: "own".to_owned(),
            at_most,
            at_least,
            times: times.map(str::to_owned),
            yardstick: None,
            set_beside: None,
        }
    }

    #[test]
    fn the_median_is_held_against_the_bound() {
        let figures = [figure("own", &[1.0, 9.0, 5.0]), figure("yard", &[2.0])];
        let met = |goal: &Goal| verdict(goal, &figures).met;
        assert_eq!(met(&goal(Some(5.0), None, None)), Some(true));
        assert_eq!(met(&goal(Some(4.9), None, None)), Some(false));
        assert_eq!(met(&goal(None, Some(5.1), None)), Some(false));
        assert_eq!(met(&goal(None, Some(2.5), Some("yard"))), Some(true));
        assert_eq!(met(&goal(None, Some(2.6), Some("yard"))), Some(false));
    }

    #[test]
    fn a_goal_grows_on_a_slower_machine_and_does_not_shrink_on_a_quicker_one() {
        let judged = |own: f64, yard: f64| {
            let mut goal = goal(Some(3.0), None, None);
            goal.yardstick = Some("yard".to_owned());
            goal.set_beside = Some(2.0);
            verdict(&goal, &[figure("own", &[own]), figure("yard", &[yard])])
        };
        assert_eq!(judged(3.0, 1.0).met, Some(true));
        assert_eq!(judged(3.1, 2.0).met, Some(false));
        assert_eq!(judged(3.1, 2.0).target, "≤ 3.00 ms");
        assert_eq!(judged(4.5, 3.0).met, Some(true));
        assert_eq!(judged(4.6, 3.0).met, Some(false));
        assert_eq!(judged(4.5, 3.0).target, "≤ 3.00 × 3.00 / 2.00 = 4.50 ms");
        assert_eq!(judged(4.5, 3.0).share, Some(1.0));
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        assert_eq!(verdict(&goal(Some(5.0), None, None), &[]).met, None);
        let figures = [figure("own", &[1.0])];
        assert_eq!(verdict(&goal(Some(5.0), None, Some("yard")), &figures).met, None);
        let mut scaled = goal(Some(5.0), None, None);
        (scaled.yardstick, scaled.set_beside) = (Some("yard".to_owned()), Some(2.0));
        assert_eq!(verdict(&scaled, &figures).met, None);
    }
}
