//! The bars of the demonstration: live on a terminal, plain lines where stdout is none.
//! Must never show a number that did not come in an event. Called by `demo`.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::failure::Failure;
use crate::message::{Message, Results};
use crate::participant::Participant;

/// Columns of a full bar.
const WIDTH: usize = 40;
/// Without a terminal, lines come at most this often.
const LINE_EVERY: Duration = Duration::from_millis(500);

/// One bar for each option.
#[derive(Debug)]
pub(super) struct Bars {
    options: Vec<String>,
    participants: u64,
    /// Empty where stdout is no terminal.
    live: Vec<ProgressBar>,
    total: Option<ProgressBar>,
    group: MultiProgress,
    printed: Option<Instant>,
    events: u64,
}

impl Bars {
    /// Draws empty bars, or nothing yet where stdout is no terminal.
    pub(super) fn new(options: &[&str], participants: u64) -> Bars {
        let width = options.iter().map(|option| option.chars().count()).max().unwrap_or_default();
        let options: Vec<String> =
            options.iter().map(|option| format!("{option:width$}")).collect();
        let group = MultiProgress::with_draw_target(ProgressDrawTarget::stdout());
        let mut bars = Bars {
            options,
            participants,
            live: Vec::new(),
            total: None,
            group,
            printed: None,
            events: 0,
        };
        if std::io::stdout().is_terminal() {
            bars.draw();
        }
        bars
    }

    fn draw(&mut self) {
        // Colours vanish by themselves where NO_COLOR is set: the terminal library sees to it.
        let template = format!("  {{prefix}} {{bar:{WIDTH}.cyan}} {{msg}}");
        let style = ProgressStyle::with_template(&template)
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("█▉▊▋▌▍▎▏ ");
        for option in &self.options {
            let bar = self.group.add(ProgressBar::new(self.participants));
            bar.set_style(style.clone());
            bar.set_prefix(option.clone());
            bar.set_message("0");
            self.live.push(bar);
        }
        let total = self.group.add(ProgressBar::new(self.participants));
        let style = ProgressStyle::with_template("  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_spinner());
        total.set_style(style);
        total.set_message("waiting for the first vote");
        self.total = Some(total);
    }

    /// Takes in one message of the presenter's socket and shows the results that it carries.
    pub(super) fn show(&mut self, text: &[u8], watcher: &mut Participant) -> Result<(), Failure> {
        let message = Message::parse(text)?;
        if message.name != "event" {
            return Ok(());
        }
        watcher.note(&message)?;
        if let Some(results) = message.results() {
            self.events += 1;
            self.show_results(&results, message.is_event("poll.closed"));
        }
        Ok(())
    }

    fn show_results(&mut self, results: &Results, last: bool) {
        for (bar, count) in self.live.iter().zip(&results.counts) {
            bar.set_position(*count);
            bar.set_message(format!("{count:>4}  {}", percent(*count, results.votes)));
        }
        if let Some(total) = &self.total {
            let state = if last { "closed" } else { "open" };
            total.set_message(format!(
                "{} of {} voted · events: {} · {state}",
                results.votes, self.participants, self.events
            ));
            return;
        }
        if last || self.printed.is_none_or(|then| then.elapsed() >= LINE_EVERY) {
            self.printed = Some(Instant::now());
            println!("  {:>4} of {} voted: {:?}", results.votes, self.participants, results.counts);
        }
    }

    /// A remark between the bars and what follows.
    pub(super) fn note(&self, text: &str) {
        // Fails only where the terminal is gone, and then nobody reads.
        let _ = self.group.println(text);
        if self.total.is_none() {
            println!("{text}");
        }
    }

    /// Leaves the bars as they are and gives the cursor back.
    pub(super) fn finish(&self) {
        for bar in self.live.iter().chain(&self.total) {
            bar.abandon();
        }
        println!();
    }
}

/// A share of all votes, as people read it.
pub(super) fn percent(count: u64, votes: u64) -> String {
    let tenths = (count * 1_000 + votes / 2).checked_div(votes).unwrap_or_default();
    format!("{:>3}.{} %", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_rounded_and_nothing_divides_by_zero() {
        assert_eq!(percent(1, 3), " 33.3 %");
        assert_eq!(percent(2, 3), " 66.7 %");
        assert_eq!(percent(3, 3), "100.0 %");
        assert_eq!(percent(0, 0), "  0.0 %");
    }
}
