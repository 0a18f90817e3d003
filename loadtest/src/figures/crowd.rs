//! Many joined connections: a bounded number of joins at a time, from as many loopback addresses
//! as the ports need.
//! Must never leave a socket unread for long: the server pings, and closes who does not answer.
//! Called by the parts.

use std::net::{IpAddr, Ipv4Addr};

use tokio::task::JoinSet;

use crate::failure::Failure;
use crate::participant::{Participant, Place};

/// Connections from one source address: each has about 28,000 ports, of which some still wait
/// after an earlier round.
const PER_ADDRESS: u32 = 5_000;
/// Joins under way at a time.
const AT_ONCE: usize = 64;

/// Where a crowd comes from; another `round` uses other addresses, whose ports are all free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Origin {
    pub(super) round: u32,
    /// Members that came before, from the same origin.
    pub(super) before: u32,
}

impl Origin {
    /// The address of one member: 127.0.0.2 and on for the first round, 127.0.1.2 for the second.
    fn address_of(self, member: u32) -> IpAddr {
        let last = 2 + (self.before + member) / PER_ADDRESS;
        let octet = |number: u32| u8::try_from(number % 250).unwrap_or_default();
        IpAddr::V4(Ipv4Addr::new(127, 0, octet(self.round), octet(last)))
    }
}

/// Joins `count` participants by code.
pub(super) async fn join(
    url: &str,
    code: &str,
    count: u32,
    origin: Origin,
) -> Result<Vec<Participant>, Failure> {
    let mut members = Vec::new();
    let mut joining = JoinSet::new();
    for member in 0..count {
        let place = Place { url: url.to_owned(), source: Some(origin.address_of(member)) };
        let code = code.to_owned();
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
    fn members_spread_over_addresses_and_rounds() {
        let address =
            |round, before, member| Origin { round, before }.address_of(member).to_string();
        assert_eq!(address(0, 0, 0), "127.0.0.2");
        assert_eq!(address(0, 0, 5_000), "127.0.0.3");
        assert_eq!(address(1, 5_000, 4_999), "127.0.1.3");
    }
}
