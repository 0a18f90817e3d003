//! A scenario as it stands in its file: what to do, with which numbers, and what has to come out.
//! Must never hold a number that the file does not show. The files are in `loadtest/scenarios/`;
//! they are part of the program, and others can be given by path. Called by `mod` and the kinds.

use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::failure::Failure;

/// The scenarios that come with the program, in the order in which a set runs them.
const FILES: [&str; 21] = [
    include_str!("../../scenarios/burst.toml"),
    include_str!("../../scenarios/sustained.toml"),
    include_str!("../../scenarios/join_storm.toml"),
    include_str!("../../scenarios/reconnect_storm.toml"),
    include_str!("../../scenarios/fanout_500.toml"),
    include_str!("../../scenarios/fanout_5000.toml"),
    include_str!("../../scenarios/fanout_together.toml"),
    include_str!("../../scenarios/flat_out.toml"),
    include_str!("../../scenarios/capacity.toml"),
    include_str!("../../scenarios/idle.toml"),
    include_str!("../../scenarios/overload.toml"),
    include_str!("../../scenarios/flood.toml"),
    include_str!("../../scenarios/slow_readers.toml"),
    include_str!("../../scenarios/multi_instance.toml"),
    include_str!("../../scenarios/multi_instance_poll.toml"),
    include_str!("../../scenarios/growth.toml"),
    include_str!("../../scenarios/rolling_deploy.toml"),
    include_str!("../../scenarios/kill_instance.toml"),
    include_str!("../../scenarios/tide.toml"),
    include_str!("../../scenarios/soak.toml"),
    include_str!("../../scenarios/everyone.toml"),
];

/// What kind of work a scenario is; each has a file of its own in `kinds/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    Votes,
    Joins,
    Returns,
    Fanout,
    FlatOut,
    Capacity,
    Idle,
    SlowReaders,
    Replace,
    Overload,
    Flood,
    Tide,
}

/// Scenarios that run together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Set {
    /// Everything that one machine can show, in ten minutes.
    Standard,
    /// Every kind, small, in seconds: does it work at all? Speed is not judged.
    Smoke,
}

/// One scenario.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Scenario {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) about: String,
    pub(super) kind: Kind,
    #[serde(default)]
    pub(super) sets: Vec<Set>,
    #[serde(default)]
    pub(super) server: ServerPart,
    pub(super) parameters: toml::Table,
    /// What replaces parameters in the smoke set.
    #[serde(default)]
    smoke: toml::Table,
    #[serde(default, rename = "goal")]
    pub(super) goals: Vec<Goal>,
}

/// How the server is started.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServerPart {
    #[serde(default)]
    pub(super) arguments: Vec<String>,
    #[serde(default = "one")]
    pub(super) instances: usize,
}

impl Default for ServerPart {
    fn default() -> ServerPart {
        ServerPart { arguments: Vec::new(), instances: 1 }
    }
}

fn one() -> usize {
    1
}

/// What has to come out.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Goal {
    /// In words, as the requirements say it.
    pub(super) requirement: String,
    /// The figure that is judged.
    pub(super) figure: String,
    pub(super) at_most: Option<f64>,
    pub(super) at_least: Option<f64>,
    /// The bound is a multiple of this figure of the same run.
    pub(super) times: Option<String>,
    /// The figure that the ratio is shown to; with `times` it is that one.
    pub(super) yardstick: Option<String>,
    /// What the yardstick came to on the machine where the goal was set. Where it comes to more, a machine whose kernel is
    /// slower, `at_most` grows with it; where it comes to less, the goal stays.
    pub(super) set_beside: Option<f64>,
}

impl Scenario {
    /// All that come with the program.
    pub(super) fn all() -> Result<Vec<Scenario>, Failure> {
        FILES.iter().map(|text| Scenario::read(text)).collect()
    }

    /// One by its name, or from a file.
    pub(super) fn find(name: &str) -> Result<Scenario, Failure> {
        if name.ends_with(".toml") {
            return Scenario::read(&std::fs::read_to_string(Path::new(name))?);
        }
        let mut all = Scenario::all()?;
        let names: Vec<String> = all.iter().map(|one| one.name.clone()).collect();
        all.retain(|one| one.name == name);
        all.pop().ok_or_else(|| {
            Failure::told(format!("there is no scenario {name}; there are: {}", names.join(", ")))
        })
    }

    fn read(text: &str) -> Result<Scenario, Failure> {
        toml::from_str(text).map_err(|error| Failure::told(format!("a scenario file: {error}")))
    }

    /// Takes the parameters of the smoke set.
    pub(super) fn shrink(&mut self) {
        self.parameters.extend(std::mem::take(&mut self.smoke));
    }

    /// Replaces a parameter, given as `name=value`.
    pub(super) fn set(&mut self, text: &str) -> Result<(), Failure> {
        let (name, _) = text.split_once('=').unwrap_or((text, ""));
        let known = self.parameters.contains_key(name.trim());
        let one: toml::Table = toml::from_str(text)
            .map_err(|_| Failure::told(format!("{text:?}: a parameter is given as name=value")))?;
        if !known {
            let names: Vec<&str> = self.parameters.keys().map(String::as_str).collect();
            let names = names.join(", ");
            return Err(Failure::told(format!(
                "{} has no parameter {name}; it has: {names}",
                self.name
            )));
        }
        self.parameters.extend(one);
        Ok(())
    }

    /// How long it says that it lasts, in addition to what every scenario may take.
    pub(super) fn lasting(&self) -> Duration {
        let plain = |value: &toml::Value| {
            value.as_float().or_else(|| value.as_integer().map(|value| value as f64))
        };
        let number = |name: &str| plain(self.parameters.get(name)?);
        let levels = self.parameters.get("levels").and_then(toml::Value::as_array);
        // Of a level: how many, within how many seconds, for how many seconds.
        let times = levels.into_iter().flatten().flat_map(|one| one.as_array()?.get(1..));
        let seconds = number("seconds").unwrap_or(0.0) * number("rounds").unwrap_or(1.0)
            + times.flatten().filter_map(plain).sum::<f64>();
        Duration::from_secs_f64(seconds.clamp(0.0, 1e7))
    }

    /// The parameters as the kind wants them; all have to be there, and no others.
    pub(super) fn parameters<P: DeserializeOwned>(&self) -> Result<P, Failure> {
        self.parameters
            .clone()
            .try_into()
            .map_err(|error| Failure::told(format!("the parameters of {}: {error}", self.name)))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_reads_and_has_a_name_of_its_own_and_goals_with_one_bound() {
        let all = Scenario::all().unwrap();
        let names: BTreeSet<&str> = all.iter().map(|one| one.name.as_str()).collect();
        assert_eq!(names.len(), FILES.len());
        for goal in all.iter().flat_map(|one| &one.goals) {
            assert!(goal.at_most.is_some() != goal.at_least.is_some(), "{goal:?}");
            let scaled = goal.at_most.is_some() && goal.yardstick.is_some() && goal.times.is_none();
            assert!(goal.set_beside.is_none() || scaled, "{goal:?}");
        }
    }

    #[test]
    fn files_are_called_as_their_scenario() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
        let mut files = BTreeSet::new();
        for entry in std::fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            let text = std::fs::read_to_string(entry.path()).unwrap();
            assert_eq!(format!("{}.toml", Scenario::read(&text).unwrap().name), name);
            files.insert(name);
        }
        assert_eq!(files.len(), FILES.len(), "a file that the program does not know");
    }

    #[test]
    fn parameters_are_replaced_by_name_only() {
        let mut burst = Scenario::find("burst").unwrap();
        burst.set("participants=7").unwrap();
        assert_eq!(burst.parameters["participants"].as_integer(), Some(7));
        assert!(burst.set("partipicants=7").is_err() && Scenario::find("bursts").is_err());
    }
}
