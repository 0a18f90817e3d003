//! A peer: one poll over WebSocket with axum and sqlx in the usual style. A vote is one INSERT, then the voter's ack, then the
//! new counts to everybody. Counts are kept in memory, which is kind to it. `TUNED=1` sets TCP_NODELAY and small buffers.
//! Must never be made worse than an honest afternoon would make it. Called by `run.sh`.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::State;
use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::response::IntoResponse;
use axum::routing::any;
use axum::serve::ListenerExt;
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use sqlx::postgres::{PgPool, PgPoolOptions};
use tokio::sync::{broadcast, mpsc};
use uuid::Uuid;

const BUFFER_BYTES: usize = 4 * 1024;

struct App {
    pool: PgPool,
    counts: Mutex<[u64; 4]>,
    results: broadcast::Sender<Arc<str>>,
    tuned: bool,
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Incoming {
    Vote { id: Uuid, poll: i32, choice: usize },
    Publish { text: String },
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let tuned = std::env::var("TUNED").is_ok();
    let pool = PgPoolOptions::new().max_connections(10).connect(&std::env::var("DATABASE_URL")?).await?;
    sqlx::query(
        "CREATE TABLE IF NOT EXISTS peer_votes (id uuid NOT NULL, poll int NOT NULL, participant uuid NOT NULL, \
         choice int NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (poll, participant))",
    )
    .execute(&pool)
    .await?;
    let app = App { pool, counts: Mutex::default(), results: broadcast::Sender::new(1_024), tuned };
    let router = Router::new().route("/v1/ws", any(upgrade)).with_state(Arc::new(app));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("{}", listener.local_addr()?);
    if tuned {
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, router).await?;
    } else {
        axum::serve(listener, router).await?;
    }
    Ok(())
}

async fn upgrade(upgrade: WebSocketUpgrade, State(app): State<Arc<App>>) -> impl IntoResponse {
    let upgrade = if app.tuned {
        upgrade.read_buffer_size(BUFFER_BYTES).write_buffer_size(BUFFER_BYTES)
    } else {
        upgrade
    };
    upgrade.on_upgrade(move |socket| serve(socket, app))
}

async fn serve(socket: WebSocket, app: Arc<App>) {
    let participant = Uuid::new_v4();
    let (mut sink, mut stream) = socket.split();
    let mut results = app.results.subscribe();
    let (acks, mut to_ack) = mpsc::channel::<String>(64);
    let writer = tokio::spawn(async move {
        loop {
            let text = tokio::select! {
                ack = to_ack.recv() => match ack {
                    Some(ack) => ack,
                    None => return,
                },
                result = results.recv() => match result {
                    Ok(text) => text.to_string(),
                    Err(broadcast::error::RecvError::Lagged(_)) => continue,
                    Err(broadcast::error::RecvError::Closed) => return,
                },
            };
            if sink.send(Message::text(text)).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = stream.next().await {
        let Message::Text(text) = message else { continue };
        match serde_json::from_str(&text) {
            Ok(Incoming::Vote { id, poll, choice }) => {
                let Some(ack) = vote(&app, participant, (id, poll, choice)).await else { break };
                if acks.send(ack).await.is_err() {
                    break;
                }
            }
            Ok(Incoming::Publish { text }) => {
                let _ = app.results.send(text.into());
            }
            Err(_) => break,
        }
    }
    writer.abort();
}

async fn vote(app: &App, participant: Uuid, (id, poll, choice): (Uuid, i32, usize)) -> Option<String> {
    let done = sqlx::query(
        "INSERT INTO peer_votes (id, poll, participant, choice) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(id)
    .bind(poll)
    .bind(participant)
    .bind(i32::try_from(choice).ok()?)
    .execute(&app.pool)
    .await
    .ok()?;
    if done.rows_affected() == 1 {
        let text = {
            let mut counts = app.counts.lock().ok()?;
            *counts.get_mut(choice)? += 1;
            format!(r#"{{"type":"results","counts":{counts:?}}}"#)
        };
        let _ = app.results.send(text.into());
    }
    Some(format!(r#"{{"type":"ack","id":"{id}"}}"#))
}
