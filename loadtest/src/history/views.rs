//! What each client saw, against the log: the same events, all of them, in order, and the same state in the end.
//! A client may be a presenter or a participant; what participants may not see is taken out here as the protocol says.
//! Must never compare two clients when it can compare each with the log. Called by `check` alone.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde_json::Value;

use super::fault::{Fault, Rule};
use super::{Line, Logged, State, digest, number};

/// One client's lines, in order.
pub(super) type View<'a> = Vec<&'a Line>;

/// The log as one audience may see it.
struct Shown {
    /// What its events look like, by `seq`; left out: not for this audience.
    digests: HashMap<u64, u64>,
    /// Events that nothing may stand in for.
    lasting: Vec<u64>,
    /// The newest results of each poll: nothing newer could stand in for them.
    newest: Vec<u64>,
    state: State,
}

pub(super) fn check_views(
    views: &HashMap<u32, View<'_>>,
    log: &[&Logged],
    faults: &mut Vec<Fault>,
) {
    let audiences = [Shown::to(log, false), Shown::to(log, true)];
    let mut clients: Vec<_> = views.iter().collect();
    clients.sort_by_key(|(client, _)| **client);
    for (client, view) in clients {
        let presenter = view.iter().any(|line| matches!(line, Line::Final { presenter: true, .. }));
        let [participants, presenters] = &audiences;
        let shown = if presenter { presenters } else { participants };
        let mut check = Check {
            client: *client,
            shown,
            reached: None,
            seen: HashSet::new(),
            skipped: Vec::new(),
            faults,
        };
        for line in view {
            check.take(line);
        }
    }
}

impl Shown {
    fn to(log: &[&Logged], presenter: bool) -> Shown {
        let mut shown = Shown {
            digests: HashMap::with_capacity(log.len()),
            lasting: Vec::new(),
            newest: Vec::new(),
            state: State { presenter, ..State::default() },
        };
        let mut newest = BTreeMap::new();
        // Who may see counts stands in the poll, as it was when it was opened.
        let mut visibility: HashMap<u32, String> = HashMap::new();
        for event in log {
            if event.kind == "poll.opened" {
                let seen = event.data["results"].as_str().unwrap_or_default().to_owned();
                visibility.insert(number(&event.data["n"]), seen);
            }
            let Some(data) = visible(event, presenter, &visibility) else { continue };
            shown.digests.insert(event.seq, digest(&event.kind, &data));
            shown.state.apply(&event.kind, &data);
            if event.kind == "poll.results" {
                newest.insert(number(&data["poll"]), event.seq);
            } else {
                // The counts in poll.closed stand in for results before it.
                if event.kind == "poll.closed" && !data["results"].is_null() {
                    newest.remove(&number(&data["poll"]["n"]));
                }
                shown.lasting.push(event.seq);
            }
        }
        shown.newest = newest.into_values().collect();
        shown
    }
}

/// An event's data as an audience gets it; `None` where it does not.
fn visible(event: &Logged, presenter: bool, visibility: &HashMap<u32, String>) -> Option<Value> {
    let mut data = event.data.clone();
    let may = |n| visibility.get(&n).map_or("live", String::as_str);
    match event.kind.as_str() {
        _ if presenter => {}
        "poll.results" if may(number(&data["poll"])) != "live" => return None,
        "poll.closed" if may(number(&data["poll"]["n"])) == "presenter" => {
            data.as_object_mut()?.remove("results");
        }
        _ => {}
    }
    Some(data)
}

/// One client's view while it is read.
struct Check<'a> {
    client: u32,
    shown: &'a Shown,
    /// The client knows everything up to here.
    reached: Option<u64>,
    seen: HashSet<u64>,
    /// What welcomes stood in for: from (not included) to (included).
    skipped: Vec<(u64, u64)>,
    faults: &'a mut Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, rule: Rule, what: &str) {
        let what = format!("client {}: {what}", self.client);
        self.faults.push(Fault::new(rule, what));
    }

    fn take(&mut self, line: &Line) {
        match line {
            Line::Welcome { seq, resumed, .. } => self.welcome(*seq, *resumed),
            Line::Seen { seq, prev, digest, .. } => self.event(*seq, *prev, *digest),
            Line::Final { state, .. } => self.finish(state),
            _ => {}
        }
    }

    fn welcome(&mut self, seq: u64, resumed: bool) {
        let reached = self.reached.unwrap_or(0);
        if resumed && seq != reached && self.reached.is_some() {
            self.fault(Rule::NothingMissed, &format!("resumed at {seq}, was at {reached}"));
        }
        if seq < reached && !resumed {
            self.fault(Rule::NothingMissed, &format!("welcomed at {seq}, was at {reached}"));
        }
        self.skipped.push((reached, seq));
        self.reached = Some(seq);
    }

    fn event(&mut self, seq: u64, prev: u64, digest: u64) {
        let Some(reached) = self.reached else {
            return self.fault(Rule::NothingMissed, &format!("event {seq} came before a welcome"));
        };
        if prev > reached || seq <= reached {
            self.fault(Rule::NothingMissed, &format!("event {seq} after {prev}, was at {reached}"));
        }
        match self.shown.digests.get(&seq) {
            Some(logged) if *logged == digest => {}
            Some(_) => {
                self.fault(Rule::SameHistory, &format!("another event {seq} than the log's"))
            }
            None => self.fault(Rule::SameHistory, &format!("event {seq} was not for it")),
        }
        self.seen.insert(seq);
        self.reached = Some(seq.max(reached));
    }

    fn finish(&mut self, state: &State) {
        let last = self.shown.digests.keys().max().copied().unwrap_or(0);
        let reached = self.reached.unwrap_or(0);
        if reached < last {
            self.fault(Rule::NothingMissed, &format!("is at {reached}, the log at {last}"));
        }
        let due = self.shown.lasting.iter().chain(&self.shown.newest);
        let missed: Vec<u64> = due
            .filter(|seq| !self.seen.contains(seq))
            .filter(|seq| !self.skipped.iter().any(|(from, to)| from < *seq && *seq <= to))
            .copied()
            .collect();
        if let [first, ..] = missed.as_slice() {
            let what = format!("{} events never came, the first is {first}", missed.len());
            self.fault(Rule::NothingMissed, &what);
        }
        if state.polls != self.shown.state.polls {
            self.fault(Rule::FinalState, "knows other polls than the server");
        }
        // A poll without votes may be missing or show zeros (protocol 7, Welcome); `seq` tells only how new a count is.
        let counted = |state: &State| -> BTreeMap<u32, (Value, Value)> {
            let pairs =
                state.results.iter().map(|(n, r)| (*n, (r["votes"].clone(), r["counts"].clone())));
            pairs.filter(|(_, (votes, _))| *votes != 0).collect()
        };
        if counted(state) != counted(&self.shown.state) {
            self.fault(Rule::FinalState, "knows other counts than the server");
        }
    }
}
