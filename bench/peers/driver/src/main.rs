//! Puts the load of two scenarios on a peer, by the client of the load test: fan-out to many subscribers, one at a time or
//! several on the way, votes flat out, and bursts of votes. Prints one line of figures. Must never count what did not
//! arrive. Called by `run.sh`: `peer-driver fanout|votes|burst URL PUBLISH_URL PID COUNT EVENTS IN_FLIGHT`.

mod burst;

use std::error::Error;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use plenum_loadtest::client::socket::Raw;
use plenum_loadtest::client::{ConnectOptions, LeanSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

const WITHIN: Duration = Duration::from_secs(120);
/// As long as the event of a renamed session, which the load test delivers.
const EVENT_BYTES: usize = 330;

struct Asked {
    url: String,
    publish_url: String,
    pid: u32,
    count: u32,
    events: u64,
    in_flight: usize,
}

#[tokio::main]
async fn main() -> Outcome<()> {
    let words: Vec<String> = std::env::args().collect();
    let [_, what, url, publish_url, pid, count, events, in_flight] = words.as_slice() else {
        return Err("fanout|votes|burst URL PUBLISH_URL PID COUNT EVENTS IN_FLIGHT".into());
    };
    let asked = Asked {
        url: url.clone(),
        publish_url: publish_url.clone(),
        pid: pid.parse()?,
        count: count.parse()?,
        events: events.parse()?,
        in_flight: in_flight.parse()?,
    };
    let work = async {
        match what.as_str() {
            "fanout" => fanout(&asked).await,
            "votes" => votes(&asked).await,
            "burst" => burst::run(&asked).await,
            _ => Err("fanout, votes or burst".into()),
        }
    };
    timeout(WITHIN, work).await?
}

async fn join(url: &str, nth: u32) -> Outcome<LeanSocket> {
    let last = u8::try_from(2 + nth / 2_000).unwrap_or(2);
    let third = u8::try_from(std::process::id() % 200).unwrap_or(0);
    let source = Some(IpAddr::V4(Ipv4Addr::new(127, 1, third, last)));
    let options = ConnectOptions { source, subprotocol: None, headers: Vec::new() };
    Ok(LeanSocket::connect_with(url, &options).await?)
}

async fn join_all(asked: &Asked) -> Outcome<Vec<LeanSocket>> {
    let mut sockets = Vec::new();
    for nth in 0..asked.count {
        sockets.push(join(&asked.url, nth).await?);
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    Ok(sockets)
}

fn ballot(poll: u64, choice: u64) -> String {
    let id = uuid::Uuid::new_v4();
    format!(r#"{{"type":"vote","id":"{id}","poll":{poll},"choice":{choice}}}"#)
}

/// Polls that no earlier run has used.
fn first_poll() -> u64 {
    u64::from(std::process::id() % 100_000 * 1_000)
}

/// Processor seconds of a process and its children (nginx has workers).
fn cpu(pid: u32) -> Outcome<f64> {
    let ticks = |stat: &str| {
        let rest = stat.rsplit_once(')').map_or("", |parts| parts.1);
        let fields: Vec<f64> = rest.split_whitespace().skip(1).map(|one| one.parse().unwrap_or(0.0)).collect();
        (fields.first().copied().unwrap_or(0.0), fields.get(10).unwrap_or(&0.0) + fields.get(11).unwrap_or(&0.0))
    };
    let mut sum = ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat"))?).1;
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let (parent, used) = ticks(&stat);
        if parent == f64::from(pid) {
            sum += used;
        }
    }
    Ok(sum / 100.0)
}

fn number_after(text: &[u8], prefix: &[u8]) -> Option<u64> {
    let rest = text.strip_prefix(prefix)?;
    let digits = rest.iter().take_while(|digit| digit.is_ascii_digit());
    Some(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

async fn fanout(asked: &Asked) -> Outcome<()> {
    const HEAD: &str = r#"{"seq":"#;
    let publisher = join(&asked.publish_url, 0).await?;
    let sockets = join_all(asked).await?;
    let count = u64::from(asked.count);
    let arrived: Arc<Vec<AtomicU64>> = Arc::new((0..asked.events).map(|_| AtomicU64::new(0)).collect());
    let turns = Arc::new(Semaphore::new(asked.in_flight));
    let mut reading = JoinSet::new();
    let (began, before) = (Instant::now(), cpu(asked.pid)?);
    for mut socket in sockets {
        let (arrived, turns) = (Arc::clone(&arrived), Arc::clone(&turns));
        reading.spawn(async move {
            for expected in 0..arrived.len() as u64 {
                let Raw::Text(text) = socket.next().await? else { return Err("closed".into()) };
                let seq = number_after(&text, HEAD.as_bytes()).ok_or("no event")?;
                if seq != expected {
                    return Err(format!("event {seq} where {expected} was due").into());
                }
                let counter = arrived.get(usize::try_from(seq)?).ok_or("unknown")?;
                if counter.fetch_add(1, Ordering::Relaxed) + 1 == count {
                    turns.add_permits(1);
                }
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(socket)
        });
    }
    for seq in 0..asked.events {
        turns.acquire().await?.forget();
        let text = format!(r#"{HEAD}{seq},"data":"{:EVENT_BYTES$}"}}"#, "");
        if asked.publish_url == asked.url {
            let text = serde_json::json!({ "type": "publish", "text": text });
            publisher.send_text(&text.to_string()).await?;
        } else {
            publisher.send_text(&text).await?;
        }
    }
    let mut kept = Vec::new();
    while let Some(one) = reading.join_next().await {
        kept.push(one??);
    }
    let (seconds, used) = (began.elapsed().as_secs_f64(), cpu(asked.pid)? - before);
    let deliveries = (count * asked.events) as f64;
    println!("{:.0} {:.3}", deliveries / seconds, used / deliveries * 1e6);
    Ok(())
}

async fn votes(asked: &Asked) -> Outcome<()> {
    let sockets = join_all(asked).await?;
    let begin = Instant::now();
    let before = cpu(asked.pid)?;
    let mut voting = JoinSet::new();
    for mut socket in sockets {
        let (events, in_flight) = (asked.events, asked.in_flight as u64);
        voting.spawn(async move {
            let (mut sent, mut acked) = (0, 0);
            while acked < events {
                while sent < events && sent - acked < in_flight {
                    socket.send_text(&ballot(first_poll() + sent, sent % 4)).await?;
                    sent += 1;
                }
                let Raw::Text(text) = socket.next().await? else { return Err("closed".into()) };
                if text.starts_with(br#"{"type":"ack""#) {
                    acked += 1;
                }
            }
            Ok::<_, Box<dyn Error + Send + Sync>>(socket)
        });
    }
    let mut kept = Vec::new();
    while let Some(one) = voting.join_next().await {
        kept.push(one??);
    }
    let (seconds, used) = (begin.elapsed().as_secs_f64(), cpu(asked.pid)? - before);
    let votes = (u64::from(asked.count) * asked.events) as f64;
    println!("{:.0} {:.2}", votes / seconds, used / votes * 1e6);
    Ok(())
}
