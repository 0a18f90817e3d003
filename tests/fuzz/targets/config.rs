//! Configuration: flags as typed and addresses of databases. A fault names no secret, what is taken lies within its bounds, and an
//! address says the same as URL and as words, with no host less proven than was asked for.
#![no_main]

use std::cell::RefCell;

use clap::{Args, FromArgMatches};
use libfuzzer_sys::fuzz_target;
use plenum::config::database::{Address, Proof};
use plenum::config::{Config, Flags};
use plenum_fuzz::Input;
use tokio_postgres::config::{Host, SslMode};

/// Stands in every secret; nothing that people are shown may have it.
const MARK: &str = "Zq7vK";

thread_local! {
    /// Made once: it costs more than all that is done with it.
    static COMMAND: RefCell<clap::Command> = RefCell::new(Flags::augment_args(clap::Command::new("plenum")));
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    match input.byte() & 3 {
        0 => flags(&mut input),
        1 => anything(&String::from_utf8_lossy(input.0)),
        _ => written(&mut input),
    }
});

/// Each line is a flag, with its value after a blank.
fn flags(input: &mut Input<'_>) {
    let mut words = vec![String::from("plenum")];
    while !input.0.is_empty() && words.len() < 64 {
        let line = input.line();
        let (name, value) =
            line.split_once(' ').map_or((line, None), |(name, value)| (name, Some(value)));
        words.push(format!("--{name}"));
        words.extend(value.map(|value| match name {
            "secret" | "api-key" if !value.is_empty() => format!("{MARK}{value}"),
            "database-url" | "replica-url" => value.replace(":password@", &format!(":{MARK}@")),
            _ => value.to_owned(),
        }));
    }
    // What clap refuses it says itself, with the value: the server's own check is what this looks at.
    let Ok(given) = COMMAND.with_borrow_mut(|command| command.try_get_matches_from_mut(words))
    else {
        return;
    };
    let flags = Flags::from_arg_matches(&given).expect("its own flags");
    assert!(!format!("{flags:?}").contains(MARK));
    match flags.check() {
        Ok(config) => within_bounds(&config),
        Err(faults) => {
            assert!(!faults.is_empty());
            for fault in faults {
                assert!(fault.starts_with("--") && !fault.contains('\n'), "{fault}");
                assert!(!fault.contains(MARK), "{fault}");
            }
        }
    }
}

fn within_bounds(config: &Config) {
    assert!(!format!("{config:?}").contains(MARK));
    assert!((1..=1_000_000).contains(&config.capacity));
    assert!((1..=1_000_000).contains(&config.max_connections));
    assert!(
        (1..=1_000_000).contains(&config.message_burst)
            && (1..=1_000_000).contains(&config.message_rate)
    );
    assert!((1..=16).contains(&config.writer_lanes));
    assert!(config.drain.as_secs() <= 3_600);
    assert!(config.drain_notice.is_zero() || config.drain_notice < config.drain);
    assert!((10..=10_000).contains(&config.poll_interval.as_millis()));
    assert!(config.retain_days.is_none_or(|days| (1..=36_500).contains(&days)));
    assert!(config.scale.min <= config.scale.max && (1..=10_000).contains(&config.scale.max));
    assert!(config.api_key.as_deref() != Some("") && config.secret.as_deref() != Some(""));
    assert!(
        !config.proxy_protocol || !config.trusted_proxies.is_empty(),
        "nobody's header would be believed"
    );
    if let Some(url) = &config.public_url {
        assert!(url.starts_with("http") && !url.ends_with('/'), "{url}");
    }
    for url in config.database_url.iter().chain(&config.replica_urls) {
        assert!(Address::parse(url).is_some(), "{url}");
    }
}

/// Whatever is taken for an address: one host each, and plain only where it is this machine or was asked for.
fn anything(text: &str) {
    let Some(address) = Address::parse(text) else { return };
    assert!(!address.places.is_empty());
    for place in &address.places {
        let (hosts, addrs) = (place.config.get_hosts(), place.config.get_hostaddrs());
        assert!(hosts.len() <= 1 && addrs.len() <= 1 && hosts.len() + addrs.len() >= 1);
        assert!(place.config.get_ports().len() <= 1);
        let here = match (addrs.first(), hosts.first()) {
            (Some(addr), _) => addr.is_loopback(),
            (None, Some(Host::Tcp(name))) => {
                name == "localhost"
                    || name.parse::<std::net::IpAddr>().is_ok_and(|addr| addr.is_loopback())
            }
            _ => true,
        };
        let asked_for = text.contains("sslmode");
        assert!(place.proof == Proof::Name || here || asked_for, "{text}");
        let ssl = place.config.get_ssl_mode();
        assert_eq!(ssl == SslMode::Disable, place.proof == Proof::Plain, "{text}");
        assert!(
            ssl == SslMode::Require || !matches!(place.proof, Proof::Name | Proof::Authority),
            "{text}"
        );
    }
    // Without what the driver does not know, both read the same.
    if !text.contains("ssl") {
        let config: tokio_postgres::Config = text.parse().expect("the driver takes it too");
        let first = &address.places[0].config;
        assert_eq!(first.get_user(), config.get_user(), "{text}");
        assert_eq!(first.get_password(), config.get_password(), "{text}");
        assert_eq!(first.get_dbname(), config.get_dbname(), "{text}");
        assert_eq!(first.get_hosts().first(), config.get_hosts().first(), "{text}");
        assert_eq!(
            address.places.len(),
            config.get_hosts().len().max(config.get_hostaddrs().len())
        );
    }
}

/// One database written in both forms, with anything for a name and a password.
fn written(input: &mut Input<'_>) {
    let (hosts, mode) = (1 + input.byte() % 3, input.byte());
    let mode =
        ["disable", "prefer", "require", "verify-ca", "verify-full"].get(usize::from(mode % 6));
    let (ports, user, password, root) =
        (input.array::<3>(), input.line(), input.line(), input.line());
    let names = ["db.example", "10.0.0.7", "127.0.0.1"];
    let hosts: Vec<&str> = names.iter().take(usize::from(hosts)).copied().collect();
    // The driver has no way to say an empty word, and ends a word of a URL at a zero byte.
    if user.is_empty()
        || password.is_empty()
        || [user, password, root].iter().any(|word| word.contains('\0'))
    {
        return;
    }
    let places =
        hosts.iter().zip(ports).map(|(host, port)| format!("{host}:{}", 1 + u16::from(port)));
    let mut url = format!(
        "postgres://{}:{}@{}/polls",
        percent(user),
        percent(password),
        places.collect::<Vec<_>>().join(",")
    );
    let ports: Vec<String> =
        ports.iter().take(hosts.len()).map(|port| (1 + u16::from(*port)).to_string()).collect();
    let mut words = format!(
        "host={} port={} user={} password={} dbname=polls",
        hosts.join(","),
        ports.join(","),
        quoted(user),
        quoted(password)
    );
    let mut sign = '?';
    if let Some(mode) = mode {
        url.push_str(&format!("{sign}sslmode={mode}"));
        words.push_str(&format!(" sslmode = {mode}"));
        sign = '&';
    }
    if !root.is_empty() && root != "system" {
        url.push_str(&format!("{sign}sslrootcert={}", percent(root)));
        words = format!("sslrootcert={} {words}", quoted(root));
    }
    let (from_url, from_words) = (Address::parse(&url), Address::parse(&words));
    let (from_url, from_words) = (from_url.expect(&url), from_words.expect(&words));
    assert_eq!(from_url.root_certificates, from_words.root_certificates, "{url} and {words}");
    assert_eq!(from_url.places.len(), hosts.len());
    for (nth, (one, other)) in from_url.places.iter().zip(&from_words.places).enumerate() {
        assert_eq!(one.config, other.config, "{url} and {words}");
        assert_eq!(one.proof, other.proof, "{url} and {words}");
        assert_eq!(one.config.get_user(), Some(user), "{url}");
        assert_eq!(one.config.get_password(), Some(password.as_bytes()), "{url}");
        let expected = match (mode.copied(), hosts[nth]) {
            (Some("disable"), _) | (None, "127.0.0.1") => Proof::Plain,
            (Some("prefer" | "require"), _) => Proof::Nothing,
            (Some("verify-ca"), _) => Proof::Authority,
            _ => Proof::Name,
        };
        assert_eq!(one.proof, expected, "{url}");
    }
}

fn percent(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte.is_ascii_alphanumeric() {
            true => char::from(byte).to_string(),
            false => format!("%{byte:02X}"),
        })
        .collect()
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}
