//! What an instance tells balancers about itself, in the words of HAProxy's agent check: one line for whoever connects,
//! then the end. Reads nothing and holds one connection at a time. Spawned by `app.rs`; `http/ops.rs` says the same.

use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::time::{sleep, timeout};

use crate::drain::{Drain, Phase};
use crate::limits::{ACCEPT_AGAIN, AGENT_WAIT_MAX};

/// How this instance stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// It drains, or is about to.
    pub leaving: bool,
    /// It takes no more streams.
    pub full: bool,
    /// Open streams.
    pub streams: usize,
    /// Participants that it is meant for.
    pub capacity: u32,
}

impl Standing {
    /// What is free of its capacity, in percent: never 0, for one that is past its capacity still serves where all are.
    #[must_use]
    pub fn free_percent(&self) -> u8 {
        let capacity = u64::from(self.capacity.max(1));
        let free = capacity.saturating_sub(u64::try_from(self.streams).unwrap_or(u64::MAX));
        u8::try_from(free * 100 / capacity).unwrap_or(100).max(1)
    }

    /// `ready` takes an earlier `drain` back, `up` an earlier `down`: HAProxy lets only the agent do that.
    fn line(&self) -> String {
        match self {
            Self { leaving: true, .. } => String::from("drain\n"),
            Self { full: true, .. } => String::from("ready down#full\n"),
            _ => format!("ready up {}%\n", self.free_percent()),
        }
    }
}

/// Answers agent checks until the instance stops.
pub async fn answer(listener: TcpListener, drain: Drain, standing: impl Fn() -> Standing) {
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = drain.reached(Phase::Stopping) => return,
        };
        let Ok((mut socket, _)) = accepted else {
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let line = standing().line();
        let told = async {
            socket.write_all(line.as_bytes()).await?;
            socket.shutdown().await
        };
        if !matches!(timeout(AGENT_WAIT_MAX, told).await, Ok(Ok(()))) {
            tracing::debug!("agent check not answered");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(streams: usize, capacity: u32, line: &str) {
        let standing = Standing { leaving: false, full: false, streams, capacity };
        assert_eq!(standing.line(), line);
        let leaving = Standing { leaving: true, ..standing };
        assert_eq!(leaving.line(), "drain\n");
        assert_eq!(Standing { full: true, ..leaving }.line(), "drain\n");
        assert_eq!(Standing { full: true, ..standing }.line(), "ready down#full\n");
    }

    #[test]
    fn the_weight_is_what_is_free_and_never_nothing() {
        check(0, 500, "ready up 100%\n");
        check(100, 500, "ready up 80%\n");
        check(499, 500, "ready up 1%\n");
        check(500, 500, "ready up 1%\n");
        check(12_000, 500, "ready up 1%\n");
        check(1, 1, "ready up 1%\n");
        check(3, 7, "ready up 57%\n");
    }
}
