//! Many joined connections: a bounded number of joins at a time, from as many loopback addresses
//! as the ports need.
//! Must never leave a socket unread for long: the server pings, and closes who does not answer.
//! Called by the kinds.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::participant::{Participant, Place, Roster};

/// Connections from one source address: each has about 28,000 ports, of which many still wait
/// after an earlier round.
const PER_ADDRESS: u32 = 2_000;
/// Joins under way at a time.
const AT_ONCE: usize = 64;
/// 127.0.0.2 up to 127.0.249.251: after that the first addresses are free again.
const ADDRESSES: u32 = 250 * 250;

/// Hands out places; every member of a whole run has a port of its own for a long time.
#[derive(Debug)]
pub(super) struct Doors {
    roster: Roster,
    /// Members so far.
    taken: AtomicU32,
    /// Only loopback has many addresses.
    spread: bool,
}

impl Doors {
    pub(super) fn new(roster: Roster, spread: bool) -> Doors {
        // Another run begins elsewhere, so that two in a row do not share ports.
        let taken = std::process::id() % 200 * PER_ADDRESS;
        Doors { roster, taken: AtomicU32::new(taken), spread }
    }

    /// The next place; members go to the instances in turn.
    pub(super) fn next(&self) -> Place {
        let nth = self.taken.fetch_add(1, Ordering::Relaxed);
        let source = self.spread.then(|| address_of(nth));
        Place { roster: self.roster.clone(), source, first: nth as usize }
    }
}

fn address_of(nth: u32) -> IpAddr {
    let number = nth / PER_ADDRESS % ADDRESSES;
    let octet = |number: u32| u8::try_from(number).unwrap_or_default();
    IpAddr::V4(Ipv4Addr::new(127, 0, octet(number / 250), octet(2 + number % 250)))
}

/// Joins `count` participants by code, some at a time, in order of the answer.
pub(super) async fn join(
    doors: &Doors,
    code: &str,
    count: u32,
) -> Result<Vec<Participant>, Failure> {
    let mut members = Vec::new();
    let mut joining = JoinSet::new();
    for _ in 0..count {
        let (place, code) = (doors.next(), code.to_owned());
        joining.spawn(async move { Participant::join(place, &code).await });
        if joining.len() >= AT_ONCE
            && let Some(one) = joining.join_next().await
        {
            members.push(ended(one)?);
        }
    }
    while let Some(one) = joining.join_next().await {
        members.push(ended(one)?);
    }
    Ok(members)
}

/// What a task of this program returned, where a panic of it is a failure too.
pub(super) fn ended<T>(
    one: Result<Result<T, Failure>, tokio::task::JoinError>,
) -> Result<T, Failure> {
    one.unwrap_or_else(|error| Err(Failure::told(format!("a task of this program: {error}"))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_spread_over_addresses() {
        let address = |nth| address_of(nth).to_string();
        assert_eq!(address(0), "127.0.0.2");
        assert_eq!(address(PER_ADDRESS), "127.0.0.3");
        assert_eq!(address(250 * PER_ADDRESS - 1), "127.0.0.251");
        assert_eq!(address(250 * PER_ADDRESS), "127.0.1.2");
    }
}
