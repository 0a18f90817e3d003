//! The socket of a client: TCP, or, in tests alone, a pipe in memory whose other end is a simulated client. Owns nothing
//! beside it and decides nothing. Written to by `outbox.rs`, read by `ws/`.

pub mod impatient;
#[cfg(test)]
pub mod pipe;

use std::future::poll_fn;
use std::io::{ErrorKind, IoSlice, Result};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use tokio::io::Interest;
use tokio::net::TcpStream;

/// A connection to a client. Waiting for it is cancel safe, for one task at a time, since it keeps one waker each way: a
/// waiting future then holds nothing, of which there is one or two per connection.
#[derive(Debug)]
pub enum Socket {
    /// As everybody comes.
    Tcp(TcpStream),
    /// As simulated clients come.
    #[cfg(test)]
    Pipe(pipe::Pipe),
}

impl From<TcpStream> for Socket {
    fn from(stream: TcpStream) -> Self {
        Self::Tcp(stream)
    }
}

/// Does the same with whichever it is.
macro_rules! either {
    ($self:ident, $socket:ident => $does:expr) => {
        match $self {
            Socket::Tcp($socket) => $does,
            #[cfg(test)]
            Socket::Pipe($socket) => $does,
        }
    };
}

impl Socket {
    /// Waits until there is something to read, or the end.
    ///
    /// # Errors
    /// Those of the socket, here and below.
    pub fn readable(&self) -> impl Future<Output = Result<()>> {
        poll_fn(|context| either!(self, socket => socket.poll_read_ready(context)))
    }

    /// Waits until it takes more.
    ///
    /// # Errors
    /// Those of the socket.
    pub fn writable(&self) -> impl Future<Output = Result<()>> {
        poll_fn(|context| either!(self, socket => socket.poll_write_ready(context)))
    }

    /// Reads what is there; 0 at the end.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` where nothing is there.
    pub fn try_read(&self, into: &mut [u8]) -> Result<usize> {
        match self {
            Self::Tcp(socket) => read(socket, into),
            #[cfg(test)]
            Self::Pipe(socket) => socket.try_read(into),
        }
    }

    /// Writes as much as it takes.
    ///
    /// # Errors
    /// Those of the socket; `WouldBlock` where it takes nothing.
    pub fn try_write(&self, bytes: &[u8]) -> Result<usize> {
        match self {
            Self::Tcp(socket) => write(socket, bytes),
            #[cfg(test)]
            Self::Pipe(socket) => socket.try_write(bytes),
        }
    }

    /// As [`Socket::try_write`], of several pieces in order.
    ///
    /// # Errors
    /// As there.
    pub fn try_write_vectored(&self, pieces: &[IoSlice<'_>]) -> Result<usize> {
        either!(self, socket => socket.try_write_vectored(pieces))
    }
}

/// A read that fills less than it might has taken all there is. The runtime hears of it as of a socket where nothing is, and
/// waits for the next packet: one call less for each. What comes in between is not missed, since the runtime compares what
/// it has heard of the socket before the read and after it; nor is the end, which it never takes for less.
fn read(socket: &TcpStream, into: &mut [u8]) -> Result<usize> {
    let mut all = None;
    let read = socket.try_io(Interest::READABLE, || {
        let read = rustix::net::recv(socket, &mut *into, RecvFlags::empty())?.0;
        if (1..into.len()).contains(&read) {
            all = Some(read);
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(read)
    });
    all.map_or(read, Ok)
}

/// Without a look at what the runtime knows of the socket, which in a fan-out is one more cold piece of memory for each: it
/// is asked where the socket takes nothing, and then knows that room is waited for.
fn write(socket: &TcpStream, bytes: &[u8]) -> Result<usize> {
    match rustix::net::send(socket, bytes, SendFlags::empty()) {
        Err(Errno::AGAIN) => socket.try_write(bytes),
        written => Ok(written?),
    }
}
