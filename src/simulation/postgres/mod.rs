//! A PostgreSQL for simulations: speaks the wire protocol to the real client library, knows the statements of this program and
//! no others, and lets the weather decide what becomes of each. So everything from the pool and the prepared statements up is
//! what is shipped. The tables are `tables.rs`; locks and waits are in `effects.rs`.

mod effects;
mod message;
mod statements;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, split};
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use super::dice::Dice;
use super::world::{Fate, World};
pub(super) use effects::CURSED;
use message::Answer;
use statements::{Params, Statement};

/// Notifications that a listener has not been sent yet.
const NOTIFICATIONS_MAX: usize = 256;

/// A peer that says nothing is given up by the operating system (`store/connection.rs`) after this.
const KEEPALIVE: Duration = Duration::from_secs(11);

/// One connection, the server's side.
struct Connection {
    world: Arc<World>,
    instance: usize,
    nth: u64,
    dice: Dice,
    read: ReadHalf<DuplexStream>,
    write: WriteHalf<DuplexStream>,
    buffer: BytesMut,
    prepared: HashMap<String, Statement>,
    bound: Option<(Statement, Params)>,
    out: Answer,
    /// After an error everything up to the next Sync is passed over.
    skipping: bool,
}

/// The connection is over.
struct Over;

impl From<std::io::Error> for Over {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// Serves one connection of an instance to its end.
pub(super) async fn serve(world: Arc<World>, stream: DuplexStream, instance: usize, nth: u64) {
    let (read, write) = split(stream);
    let dice = Dice::of(world.seed, "connection", nth * 16 + instance as u64);
    let end = world.end();
    let mut connection = Connection {
        world,
        instance,
        nth,
        dice,
        read,
        write,
        buffer: BytesMut::new(),
        prepared: HashMap::new(),
        bound: None,
        out: Answer::default(),
        skipping: false,
    };
    tokio::select! {
        biased;
        () = end.cancelled() => {}
        _ = connection.run() => {}
    }
}

impl Connection {
    async fn run(&mut self) -> Result<(), Over> {
        self.startup().await?;
        let (tell, mut told) = mpsc::channel::<String>(NOTIFICATIONS_MAX);
        loop {
            tokio::select! {
                biased;
                Some(payload) = told.recv() => self.out.notification(&payload),
                message = next_message(&mut self.read, &mut self.buffer) => {
                    let (tag, body) = message?;
                    self.world.thaw(self.instance).await;
                    self.take(tag, body, &tell).await?;
                    if !matches!(tag, b'S' | b'Q') {
                        continue;
                    }
                }
            }
            self.world.thaw(self.instance).await;
            self.write.write_all(&self.out.take()).await?;
        }
    }

    async fn startup(&mut self) -> Result<(), Over> {
        let length = loop {
            if self.buffer.len() >= 4 {
                break self.buffer.get_u32() as usize - 4;
            }
            self.more().await?;
        };
        while self.buffer.len() < length {
            self.more().await?;
        }
        self.buffer.advance(length);
        self.world.thaw(self.instance).await;
        self.fate_without_effect().await?;
        self.out.welcome();
        self.out.ready();
        self.write.write_all(&self.out.take()).await?;
        Ok(())
    }

    async fn more(&mut self) -> Result<(), Over> {
        more(&mut self.read, &mut self.buffer).await
    }

    async fn take(
        &mut self,
        tag: u8,
        body: Bytes,
        tell: &mpsc::Sender<String>,
    ) -> Result<(), Over> {
        match tag {
            b'X' => return Err(Over),
            b'S' => {
                self.skipping = false;
                self.out.ready();
            }
            b'Q' => self.simple(&message::text(&mut body.clone()), tell).await?,
            _ if self.skipping => {}
            b'P' => {
                let mut body = body;
                let (name, sql) = (message::text(&mut body), message::text(&mut body));
                self.prepared.insert(name, Statement::of(&sql));
                self.out.done(b'1');
            }
            b'D' => {
                let mut body = body.slice(1..);
                let statement = self.prepared[&message::text(&mut body)];
                self.out.description(&statement.params(), &statement.columns());
            }
            b'B' => {
                let mut body = body;
                let (_portal, name) = (message::text(&mut body), message::text(&mut body));
                let statement = self.prepared[&name];
                self.bound = Some((statement, Params::read(body, statement.params())));
                self.out.done(b'2');
            }
            b'E' => self.execute().await?,
            b'C' => self.out.done(b'3'),
            other => panic!("the simulated database was sent {:?}", char::from(other)),
        }
        Ok(())
    }

    /// Runs what is bound, as fate wants.
    async fn execute(&mut self) -> Result<(), Over> {
        let (statement, params) = self.bound.take().unwrap();
        let fate = self.world.fate(&mut self.dice);
        let (instance, nth) = (self.instance, self.nth);
        self.world.note(|| format!("i{instance}.c{nth} {statement:?} {fate:?}"));
        let votes: Vec<Uuid> =
            if matches!(statement, Statement::Cast) { params.get(4) } else { vec![] };
        let effect = effects::run(self.world.clone(), statement, params, instance);
        let (answer, wait) = match fate {
            Fate::Refused { before, state } => {
                sleep(before).await;
                self.skipping = true;
                self.out.error(state);
                return Ok(());
            }
            Fate::Cut { before, effect: takes } => {
                sleep(before).await;
                if takes {
                    let _ = effect.await;
                }
                return Err(Over);
            }
            Fate::Silent { effect: takes } => {
                if let Some(by) = takes {
                    sleep(by).await;
                    let _ = effect.await;
                }
                sleep(KEEPALIVE).await;
                return Err(Over);
            }
            Fate::Unreplicated { before } => {
                sleep(before).await;
                if statement.writes() {
                    self.out.not_replicated();
                }
                (effect.await, Duration::ZERO)
            }
            Fate::Answered { before, after } => {
                sleep(before).await;
                let answer = effect.await;
                if answer.is_ok() {
                    self.world.replicated.lock().extend(votes);
                }
                (answer, after)
            }
        };
        sleep(wait).await;
        match answer {
            Ok(rows) => self.out.rows(&statement.columns(), &rows),
            Err(state) => {
                self.skipping = true;
                self.out.error(state);
            }
        }
        Ok(())
    }

    /// What becomes of something that changes nothing: it is answered, later perhaps, or the connection is over.
    async fn fate_without_effect(&mut self) -> Result<(), Over> {
        match self.world.fate(&mut self.dice) {
            Fate::Answered { before, .. } | Fate::Unreplicated { before } => {
                sleep(before).await;
                Ok(())
            }
            Fate::Silent { .. } => {
                sleep(KEEPALIVE).await;
                Err(Over)
            }
            Fate::Refused { .. } | Fate::Cut { .. } => Err(Over),
        }
    }

    async fn simple(&mut self, sql: &str, tell: &mpsc::Sender<String>) -> Result<(), Over> {
        self.fate_without_effect().await?;
        if sql.contains("pg_control_system") {
            let server = self.world.server.lock();
            self.out.texts(&["f", &server.place, &server.timeline.to_string()]);
        } else if sql.starts_with("LISTEN") {
            self.world.listeners.lock().push((self.instance, tell.clone()));
            self.out.complete("LISTEN");
        } else {
            assert!(sql.is_empty(), "the simulated database does not know {sql}");
            self.out.done(b'I');
        }
        self.out.ready();
        Ok(())
    }
}

/// Reads on until there is a whole message. Cancel safe: what was read stays in `buffer`.
async fn next_message(
    read: &mut ReadHalf<DuplexStream>,
    buffer: &mut BytesMut,
) -> Result<(u8, Bytes), Over> {
    loop {
        if let Some(message) = message::split(buffer) {
            return Ok(message);
        }
        more(read, buffer).await?;
    }
}

async fn more(read: &mut ReadHalf<DuplexStream>, buffer: &mut BytesMut) -> Result<(), Over> {
    if read.read_buf(buffer).await? == 0 { Err(Over) } else { Ok(()) }
}
