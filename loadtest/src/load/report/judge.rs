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
    let factor = match &goal.times {
        None => Some(1.0),
        Some(key) => find(key).map(Figure::median),
    };
    let bound = |limit: Option<f64>| Some(limit? * factor?);
    let unit = figure.map_or("", |figure| figure.unit.as_str()).to_owned();
    let (sign, limit, bound, at_most) = match goal.at_most {
        Some(limit) => ("≤", limit, bound(Some(limit)), true),
        None => ("≥", goal.at_least.unwrap_or(f64::NAN), bound(goal.at_least), false),
    };
    let met = value
        .zip(bound)
        .map(|(value, bound)| if at_most { value <= bound } else { value >= bound });
    let target = match &goal.times {
        None => format!("{sign} {} {unit}", rounded(limit)),
        Some(key) => {
            let label = find(key).map_or(key.as_str(), |one| one.label.as_str());
            let bound =
                bound.map_or(String::new(), |bound| format!(" = {} {unit}", rounded(bound)));
            format!("{sign} {} × {label}{bound}", rounded(limit))
        }
    };
    let yardstick = goal.yardstick.as_deref().or(goal.times.as_deref()).and_then(find);
    Verdict {
        requirement: goal.requirement.clone(),
        figure: goal.figure.clone(),
        unit,
        value,
        target,
        met,
        share: value.zip(bound).map(|(value, bound)| value / bound),
        yardstick: yardstick
            .zip(value)
            .map(|(one, value)| (one.label.clone(), value / one.median())),
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
    fn what_was_not_measured_is_not_met() {
        assert_eq!(verdict(&goal(Some(5.0), None, None), &[]).met, None);
        let figures = [figure("own", &[1.0])];
        assert_eq!(verdict(&goal(Some(5.0), None, Some("yard")), &figures).met, None);
    }
}
