//! Two ends of a connection in memory, for simulations: bounded both ways, cut in mid-message where a test wants it, and
//! without a kernel, so that the same seed gives the same run. The server's end is a `Socket`; the client's end is here too.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// One direction.
#[derive(Debug)]
struct Way {
    /// Guards what is under way; nothing waits under it.
    flow: Mutex<Flow>,
    /// Told when there is more to read.
    filled: Notify,
    /// Told when there is room again.
    emptied: Notify,
}

#[derive(Debug)]
struct Flow {
    bytes: VecDeque<u8>,
    room: usize,
    /// No more will come, or be taken.
    over: bool,
}

/// One end.
#[derive(Debug)]
pub struct Pipe {
    incoming: Arc<Way>,
    outgoing: Arc<Way>,
}

/// Both ends; each way holds so many bytes that the other end has not read.
pub fn pipe(room: usize) -> (Pipe, Pipe) {
    let way = || {
        let flow = Mutex::new(Flow { bytes: VecDeque::new(), room, over: false });
        Arc::new(Way { flow, filled: Notify::new(), emptied: Notify::new() })
    };
    let (there, back) = (way(), way());
    (
        Pipe { incoming: there.clone(), outgoing: back.clone() },
        Pipe { incoming: back, outgoing: there },
    )
}

impl Pipe {
    pub(crate) async fn readable(&self) -> Result<()> {
        loop {
            let filled = self.incoming.filled.notified();
            if self.incoming.with(|flow| flow.over || !flow.bytes.is_empty()) {
                return Ok(());
            }
            filled.await;
        }
    }

    pub(crate) async fn writable(&self) -> Result<()> {
        loop {
            let emptied = self.outgoing.emptied.notified();
            if self.outgoing.with(|flow| flow.over || flow.bytes.len() < flow.room) {
                return Ok(());
            }
            emptied.await;
        }
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> Result<usize> {
        let read = self.incoming.with(|flow| {
            if flow.bytes.is_empty() && !flow.over {
                return Err(Error::from(ErrorKind::WouldBlock));
            }
            let taken = flow.bytes.len().min(into.len());
            into.iter_mut().zip(flow.bytes.drain(..taken)).for_each(|(to, from)| *to = from);
            Ok(taken)
        })?;
        self.incoming.emptied.notify_one();
        Ok(read)
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        let written = self.outgoing.with(|flow| match flow.room - flow.bytes.len() {
            _ if flow.over => Err(Error::from(ErrorKind::BrokenPipe)),
            0 => Err(ErrorKind::WouldBlock.into()),
            room => {
                let taken = room.min(bytes.len());
                flow.bytes.extend(&bytes[..taken]);
                Ok(taken)
            }
        })?;
        self.outgoing.filled.notify_one();
        Ok(written)
    }

    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        self.try_write(&pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>())
    }
}

impl Way {
    fn with<T>(&self, what: impl FnOnce(&mut Flow) -> T) -> T {
        what(&mut self.flow.lock())
    }

    fn end(&self) {
        self.with(|flow| flow.over = true);
        self.filled.notify_one();
        self.emptied.notify_one();
    }
}

/// What was written is still read; what was not read is lost, and the other end learns of it when it writes.
impl Drop for Pipe {
    fn drop(&mut self) {
        self.incoming.end();
        self.outgoing.end();
    }
}
