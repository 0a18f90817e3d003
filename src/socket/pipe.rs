//! Two ends of a connection in memory, for simulations: bounded both ways, cut in mid-message where a test wants it, and
//! without a kernel, so that the same seed gives the same run. The server's end is a `Socket`; the client's end is here too.

use std::collections::VecDeque;
use std::io::{Error, ErrorKind, IoSlice, Result};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::Socket;

/// One direction; nothing waits under its lock.
type Way = Arc<Mutex<Flow>>;

/// What is under way in it.
#[derive(Debug)]
struct Flow {
    bytes: VecDeque<u8>,
    room: usize,
    /// No more will come, or be taken.
    over: bool,
    /// Woken when there is more to read.
    reader: Option<Waker>,
    /// Woken when there is room again.
    writer: Option<Waker>,
}

/// One end.
#[derive(Debug)]
pub struct Pipe {
    incoming: Way,
    outgoing: Way,
}

/// Both ends; each way holds so many bytes that the other end has not read.
pub fn pipe(room: usize) -> (Socket, Socket) {
    let way = || {
        let bytes = VecDeque::new();
        Arc::new(Mutex::new(Flow { bytes, room, over: false, reader: None, writer: None }))
    };
    let (there, back) = (way(), way());
    let near = Pipe { incoming: there.clone(), outgoing: back.clone() };
    (Socket::Pipe(near), Socket::Pipe(Pipe { incoming: back, outgoing: there }))
}

impl Pipe {
    pub(crate) fn poll_read_ready(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut flow = self.incoming.lock();
        if flow.over || !flow.bytes.is_empty() {
            return Poll::Ready(Ok(()));
        }
        flow.reader = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn poll_write_ready(&self, context: &mut Context<'_>) -> Poll<Result<()>> {
        let mut flow = self.outgoing.lock();
        if flow.over || flow.bytes.len() < flow.room {
            return Poll::Ready(Ok(()));
        }
        flow.writer = Some(context.waker().clone());
        Poll::Pending
    }

    pub(crate) fn try_read(&self, into: &mut [u8]) -> Result<usize> {
        let mut flow = self.incoming.lock();
        if flow.bytes.is_empty() && !flow.over {
            return Err(Error::from(ErrorKind::WouldBlock));
        }
        let taken = flow.bytes.len().min(into.len());
        into.iter_mut().zip(flow.bytes.drain(..taken)).for_each(|(to, from)| *to = from);
        wake(&mut flow.writer);
        Ok(taken)
    }

    pub(crate) fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        let mut flow = self.outgoing.lock();
        match flow.room - flow.bytes.len() {
            _ if flow.over => Err(Error::from(ErrorKind::BrokenPipe)),
            0 => Err(ErrorKind::WouldBlock.into()),
            room => {
                let taken = room.min(bytes.len());
                flow.bytes.extend(&bytes[..taken]);
                wake(&mut flow.reader);
                Ok(taken)
            }
        }
    }

    pub(crate) fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        self.try_write(&pieces.iter().flat_map(|piece| piece.iter().copied()).collect::<Vec<u8>>())
    }
}

impl Flow {
    fn end(&mut self) {
        self.over = true;
        wake(&mut self.reader);
        wake(&mut self.writer);
    }
}

fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

/// What was written is still read; what was not read is lost, and the other end learns of it when it writes.
impl Drop for Pipe {
    fn drop(&mut self) {
        self.incoming.lock().end();
        self.outgoing.lock().end();
    }
}
