//! Where a database is, and how far its hosts have to prove who they are: reads `--database-url` and `--replica-url`. What
//! libpq knows about TLS and the driver does not (`verify-full`, `sslrootcert`) is taken out of the text here. Opens nothing.
//! Called by `config.rs` to check, and by `app.rs`.

use std::net::IpAddr;
use std::path::PathBuf;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

/// What is expected, in one line.
pub const EXPECTED: &str = "an address like postgres://user:password@host/database is expected, with sslmode one of \
    disable, prefer, require, verify-ca, verify-full";

/// How far a host has to prove who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Not at all, and nothing is encrypted.
    Plain,
    /// Not at all; encrypted, or with `prefer` where the host can.
    Nothing,
    /// By a certificate of a known authority, whatever name is in it.
    Authority,
    /// By a certificate of a known authority that has the host's name.
    Name,
}

/// One host of a database.
#[derive(Clone, Debug)]
pub struct Place {
    /// How to connect to this host alone.
    pub config: Config,
    /// How far it has to prove who it is.
    pub proof: Proof,
}

/// A database: any of these hosts.
#[derive(Clone, Debug)]
pub struct Address {
    /// In the order in which they are tried.
    pub places: Vec<Place>,
    /// Authorities that are believed; `None`: those of the system.
    pub root_certificates: Option<PathBuf>,
}

impl Address {
    /// Reads an address, as URL or as `host=… user=…`. `None`: it is none. A host beyond this machine that nothing is said of
    /// has to prove its name; loopback and unix sockets stay plain.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (rest, taken) = if text.starts_with("postgres://") || text.starts_with("postgresql://")
        {
            take_from_url(text)
        } else {
            take_from_pairs(text)?
        };
        let config: Config = rest.parse().ok()?;
        let (mut mode, mut root_certificates) = (None, None);
        for (name, value) in taken {
            match name {
                Name::Mode => mode = Some(value),
                Name::Root if value == "system" => root_certificates = None,
                Name::Root => root_certificates = Some(PathBuf::from(value)),
            }
        }
        let (count, mut places) =
            (config.get_hosts().len().max(config.get_hostaddrs().len()), Vec::new());
        for nth in 0..count {
            let (host, addr) = (config.get_hosts().get(nth), config.get_hostaddrs().get(nth));
            let (proof, ssl) = proof(mode.as_deref(), is_here(host, addr.copied()))?;
            let mut config = only(&config, nth)?;
            config.ssl_mode(ssl);
            places.push(Place { config, proof });
        }
        (!places.is_empty()).then_some(Self { places, root_certificates })
    }
}

#[derive(Clone, Copy)]
enum Name {
    Mode,
    Root,
}

impl Name {
    fn parse(name: &str) -> Option<Self> {
        match name {
            "sslmode" => Some(Self::Mode),
            "sslrootcert" => Some(Self::Root),
            _ => None,
        }
    }
}

type Taken = Vec<(Name, String)>;

fn take_from_url(text: &str) -> (String, Taken) {
    let host_at = text.find('@').unwrap_or(0);
    let question = text.get(host_at..).and_then(|rest| rest.find('?')).map(|at| host_at + at);
    let Some((before, query)) = question.and_then(|at| text.split_at_checked(at)) else {
        return (text.to_owned(), Vec::new());
    };
    let (mut kept, mut taken) = (Vec::new(), Vec::new());
    for pair in query.strip_prefix('?').unwrap_or(query).split('&') {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match Name::parse(name) {
            Some(name) => {
                let value =
                    form_urlencoded::parse(format!("v={}", value.replace('+', "%2B")).as_bytes())
                        .next()
                        .map(|(_, value)| value.into_owned());
                taken.push((name, value.unwrap_or_default()));
            }
            None => kept.push(pair),
        }
    }
    let mark = if kept.is_empty() { "" } else { "?" };
    (format!("{before}{mark}{}", kept.join("&")), taken)
}

/// Words are separated by blanks; one in quotes may hold blanks, and a backslash takes the next sign as it is.
fn take_from_pairs(text: &str) -> Option<(String, Taken)> {
    let (mut kept, mut taken) = (String::new(), Vec::new());
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let mut value = String::new();
        let (mut quoted, mut escaped, mut end) = (false, false, after.trim_start().len());
        let after = after.trim_start();
        for (at, sign) in after.char_indices() {
            match sign {
                _ if escaped => {
                    value.push(sign);
                    escaped = false;
                }
                '\\' => escaped = true,
                '\'' => quoted = !quoted,
                _ if sign.is_whitespace() && !quoted => {
                    end = at;
                    break;
                }
                _ => value.push(sign),
            }
        }
        let (word, next) = after.split_at_checked(end)?;
        match Name::parse(name.trim()) {
            Some(name) => taken.push((name, value)),
            None => kept.push_str(&format!("{}={word} ", name.trim())),
        }
        rest = next.trim_start();
    }
    Some((kept, taken))
}

/// Whether a host is this machine.
fn is_here(host: Option<&Host>, addr: Option<IpAddr>) -> bool {
    match (addr, host) {
        (Some(addr), _) => addr.is_loopback(),
        (None, Some(Host::Tcp(name))) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|addr| addr.is_loopback())
        }
        (None, _) => true, // a unix socket
    }
}

fn proof(mode: Option<&str>, here: bool) -> Option<(Proof, SslMode)> {
    Some(match mode {
        None if here => (Proof::Plain, SslMode::Disable),
        Some("disable") => (Proof::Plain, SslMode::Disable),
        Some("prefer") => (Proof::Nothing, SslMode::Prefer),
        Some("require") => (Proof::Nothing, SslMode::Require),
        Some("verify-ca") => (Proof::Authority, SslMode::Require),
        None | Some("verify-full") => (Proof::Name, SslMode::Require),
        Some(_) => return None,
    })
}

/// The same for one host alone: the driver tries the next one only when the first says no, and one that is frozen never does.
fn only(all: &Config, nth: usize) -> Option<Config> {
    let mut config = Config::new();
    match all.get_hosts().get(nth) {
        Some(Host::Tcp(name)) => config.host(name),
        Some(Host::Unix(path)) => config.host_path(path),
        None => &mut config,
    };
    if let Some(addr) = all.get_hostaddrs().get(nth) {
        config.hostaddr(*addr);
    }
    let ports = all.get_ports();
    if ports.len() > 1 && ports.len() != all.get_hosts().len().max(all.get_hostaddrs().len()) {
        return None;
    }
    if let Some(port) = ports.get(nth).or_else(|| ports.first()) {
        config.port(*port);
    }
    if let Some(user) = all.get_user() {
        config.user(user);
    }
    if let Some(password) = all.get_password() {
        config.password(password);
    }
    if let Some(dbname) = all.get_dbname() {
        config.dbname(dbname);
    }
    if let Some(options) = all.get_options() {
        config.options(options);
    }
    config.channel_binding(all.get_channel_binding()).ssl_negotiation(all.get_ssl_negotiation());
    Some(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proofs(text: &str) -> Option<Vec<Proof>> {
        Some(Address::parse(text)?.places.iter().map(|place| place.proof).collect())
    }

    #[test]
    fn what_is_far_has_to_prove_its_name_and_what_is_here_does_not() {
        for here in ["127.0.0.1", "localhost", "[::1]", "127.8.8.8:99"] {
            assert_eq!(
                proofs(&format!("postgres://u:p@{here}/d")),
                Some(vec![Proof::Plain]),
                "{here}"
            );
        }
        assert_eq!(proofs("host=/run/postgresql user=u"), Some(vec![Proof::Plain]));
        for far in ["db.example", "10.0.0.7", "db.example:5433"] {
            assert_eq!(proofs(&format!("postgres://u@{far}/d")), Some(vec![Proof::Name]), "{far}");
        }
        let both = proofs("postgresql://u@127.0.0.1:1,db.example:2/d?application_name=x");
        assert_eq!(both, Some(vec![Proof::Plain, Proof::Name]));
        assert_eq!(proofs("host=localhost hostaddr=10.1.1.1 user=u"), Some(vec![Proof::Name]));
    }

    #[test]
    fn sslmode_and_sslrootcert_are_read_in_both_forms() {
        for (mode, proof) in [
            ("disable", Proof::Plain),
            ("prefer", Proof::Nothing),
            ("require", Proof::Nothing),
            ("verify-ca", Proof::Authority),
            ("verify-full", Proof::Name),
        ] {
            let url =
                format!("postgres://u:p?w@h/d?a=b&sslmode={mode}&sslrootcert=%2Fa%20b%2Bc.pem");
            let url = url.replace("a=b&", "connect_timeout=1&").replace("p?w", "p%3Fw");
            let pairs =
                format!(r"host=h user='u v' sslrootcert='/a b+c.pem' sslmode = {mode} dbname=d");
            for text in [url, pairs] {
                let address = Address::parse(&text).expect(&text);
                assert_eq!(address.places[0].proof, proof, "{text}");
                assert_eq!(address.root_certificates, Some(PathBuf::from("/a b+c.pem")), "{text}");
                assert_eq!(address.places[0].config.get_dbname(), Some("d"), "{text}");
            }
        }
        assert_eq!(proofs("postgres://u@h/d?sslmode=allow"), None);
        assert_eq!(proofs("postgres://u@h/d?sslmode=full"), None);
        assert_eq!(proofs("nonsense"), None);
        assert_eq!(proofs("user=nobody"), None);
    }

    #[test]
    fn what_the_driver_does_not_take_is_none() {
        for query in ["&", "user=a&&dbname=b", "?user=a", "nonsense=1"] {
            assert!(proofs(&format!("postgres://localhost/polls?{query}")).is_none(), "{query}");
        }
        assert!(proofs("postgres://localhost/polls?sslmode=disable").is_some());
    }

    #[test]
    fn each_host_has_its_own_port() {
        let address = Address::parse("postgres://u@127.0.0.1:1,127.0.0.1:2/d").expect("an address");
        let ports: Vec<_> = address.places.iter().map(|place| place.config.get_ports()).collect();
        assert_eq!(ports, [&[1], &[2]]);
    }
}
