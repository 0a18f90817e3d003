//! Takes the addresses that the client accepts apart: `ws://…/v1/ws` or an `http://…` base.
//! Must never resolve names or open anything. Called by `socket` and `api`.

use super::error::ClientError;

/// Where the WebSocket endpoint lives below a base address.
const SOCKET_PATH: &str = "/v1/ws";

/// A plain-text address, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// Path and query, never empty.
    pub(super) path: String,
}

impl Target {
    /// Reads `ws://host:port/path` or `http://host:port`; a missing path means the endpoint's own.
    pub(super) fn parse(url: &str) -> Result<Target, ClientError> {
        let fault = |why| ClientError::Address(url.to_owned(), why);
        let rest = url
            .strip_prefix("ws://")
            .or_else(|| url.strip_prefix("http://"))
            .ok_or_else(|| fault("it must begin with ws:// or http://"))?;
        let (authority, path) = match rest.find(['/', '?']) {
            Some(at) => rest.split_at(at),
            None => (rest, ""),
        };
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) => {
                (host, port.parse().map_err(|_| fault("its port is not a number"))?)
            }
            None => (authority, 80),
        };
        if host.is_empty() {
            return Err(fault("it names no host"));
        }
        let path = match path {
            "" | "/" => SOCKET_PATH.to_owned(),
            query if query.starts_with('?') => format!("{SOCKET_PATH}{query}"),
            path => path.to_owned(),
        };
        Ok(Target { host: host.trim_matches(['[', ']']).to_owned(), port, path })
    }

    /// The value of the `Host` header.
    pub(super) fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(url: &str, host: &str, port: u16, path: &str) {
        let expected = Target { host: host.to_owned(), port, path: path.to_owned() };
        assert_eq!(Target::parse(url).unwrap(), expected);
    }

    #[test]
    fn a_base_address_stands_for_the_endpoint() {
        check("http://127.0.0.1:8080", "127.0.0.1", 8080, "/v1/ws");
        check("http://localhost/", "localhost", 80, "/v1/ws");
        check("ws://127.0.0.1:1/other?x=1", "127.0.0.1", 1, "/other?x=1");
        check("ws://[::1]:9/v1/ws", "::1", 9, "/v1/ws");
    }

    #[test]
    fn an_address_that_cannot_work_is_refused() {
        for url in ["https://host", "host:80", "ws://:80/x", "ws://host:x/"] {
            assert!(Target::parse(url).is_err(), "{url}");
        }
    }
}
