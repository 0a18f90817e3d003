//! The ceiling: 1,000 votes per call of the function that the server commits votes with, from one
//! connection and nothing else in the way.
//! Must never call it otherwise than the server does: same arrays, one autocommit statement.
//! Called by `figures`.

use std::time::{Duration, Instant};

use plenum_loadtest::client::Api;
use uuid::Uuid;

use super::Bench;
use super::peers::{Peers, fault};
use super::sheet::Sheet;
use crate::failure::Failure;
use crate::presenter::Presenter;

const PART: &str = "peers";
const ROWS: usize = 1_000;
/// As long as one pgbench run takes.
const LASTING: Duration = Duration::from_secs(3);

const CAST: &str = "SELECT verdicts IS NULL FROM cast_votes($1, $2, $3, $4, $5, $6, $7, $8, $9)";

/// One round: batches into one open poll for some seconds.
pub(super) async fn measure(
    bench: &Bench<'_>,
    peers: &Peers,
    api: &Api,
    sheet: &mut Sheet,
    round: u32,
) -> Result<(), Failure> {
    bench.progress.now(format!("batches of 1,000, round {}", round + 1));
    let presenter = Presenter::create(api, None, "Batches").await?;
    let poll = presenter.add_poll("Which?", &["a", "b", "c", "d"]).await?;
    presenter.open(poll).await?;
    let session = Uuid::parse_str(&presenter.session)
        .map_err(|error| Failure::told(format!("the session's id: {error}")))?;
    let poll = i32::try_from(poll).map_err(|_| Failure::told("the poll's number"))?;

    let statement = peers.client.prepare(CAST).await.map_err(|error| fault(&error))?;
    let (sessions, polls) = (vec![session; ROWS], vec![poll; ROWS]);
    let (kinds, widths) = (vec![0_i16; ROWS], vec![1_i16; ROWS]);
    let tops: Vec<i16> = [0_i16, 1, 2, 3].into_iter().cycle().take(ROWS).collect();
    let answers: Vec<String> = tops.iter().map(|top| format!("{{{top}}}")).collect();
    let (mut spent, mut calls) = (Duration::ZERO, 0_u32);
    while spent < LASTING {
        let participants: Vec<Uuid> = (0..ROWS).map(|_| Uuid::new_v4()).collect();
        let ids: Vec<Uuid> = (0..ROWS).map(|_| Uuid::new_v4()).collect();
        let began = Instant::now();
        let row = peers
            .client
            .query_one(
                &statement,
                &[
                    &Uuid::new_v4(),
                    &sessions,
                    &polls,
                    &participants,
                    &ids,
                    &kinds,
                    &tops,
                    &widths,
                    &answers,
                ],
            )
            .await
            .map_err(|error| fault(&error))?;
        spent += began.elapsed();
        calls += 1;
        if !row.get::<_, bool>(0) {
            return Err(Failure::told("a batch was not accepted whole"));
        }
    }
    let rate = f64::from(calls) * 1_000.0 / spent.as_secs_f64();
    sheet.add(PART, "1,000 votes a call, one connection", "votes/s", rate);
    bench.progress.done(&format!("batches {}: {rate:.0} votes/s", round + 1));
    presenter.delete().await
}
