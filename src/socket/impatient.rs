//! The TCP connection under hyper, which waits for a reader for ever: here one that takes next to nothing loses its
//! connection, with the answer that it keeps in memory. Must never hurry whoever reads at all. Used by `http`; `ws` takes the
//! stream out of it at an upgrade.

use std::io::{Error, ErrorKind, IoSlice, Result};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use crate::limits::{CLIENT_TAKE_MAX, CLIENT_TAKES_BYTES};

/// A client's connection.
#[derive(Debug)]
pub struct Impatient<S = TcpStream> {
    stream: S,
    /// Since it took nothing, and how much it has taken from then on.
    stalled: Option<(Pin<Box<Sleep>>, usize)>,
}

impl<S> Impatient<S> {
    /// Around a connection that was accepted.
    #[must_use]
    pub const fn new(stream: S) -> Self {
        Self { stream, stalled: None }
    }

    /// What is left of a connection whose protocol is another one from here on.
    #[must_use]
    pub fn into_inner(self) -> S {
        self.stream
    }

    fn watch(
        &mut self,
        context: &mut Context<'_>,
        written: Poll<Result<usize>>,
    ) -> Poll<Result<usize>> {
        match written {
            Poll::Pending => {
                let (end, _) =
                    self.stalled.get_or_insert_with(|| (Box::pin(sleep(CLIENT_TAKE_MAX)), 0));
                end.as_mut().poll(context).map(|()| Err(Error::from(ErrorKind::TimedOut)))
            }
            Poll::Ready(Ok(bytes)) => {
                if let Some((_, taken)) = &mut self.stalled {
                    *taken += bytes;
                    if *taken >= CLIENT_TAKES_BYTES {
                        self.stalled = None;
                    }
                }
                Poll::Ready(Ok(bytes))
            }
            failed => failed,
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Impatient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Impatient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.watch(context, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.watch(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// All that there was has been taken.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        self.stalled = None;
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
    use tokio::time::Instant;

    use super::*;

    /// What the way to the client holds.
    const BUFFER: usize = 64 * 1024;
    const MUCH: usize = 10 * BUFFER;

    #[tokio::test(start_paused = true)]
    async fn who_takes_next_to_nothing_is_cut_off() {
        let (here, mut there) = duplex(BUFFER);
        let (mut here, since) = (Impatient::new(here), Instant::now());
        let reading = async {
            loop {
                sleep(CLIENT_TAKE_MAX / 4).await;
                let _ = there.read_exact(&mut [0; CLIENT_TAKES_BYTES / 8]).await;
            }
        };
        tokio::select! {
            written = here.write_all(&[0; MUCH]) => {
                assert_eq!(written.unwrap_err().kind(), ErrorKind::TimedOut);
            }
            () = reading => {}
        }
        assert_eq!(since.elapsed(), CLIENT_TAKE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_gets_everything() {
        let (here, mut there) = duplex(BUFFER);
        let (mut here, since) = (Impatient::new(here), Instant::now());
        let reading = async {
            for _ in 0..MUCH / CLIENT_TAKES_BYTES {
                sleep(CLIENT_TAKE_MAX / 2).await;
                there.read_exact(&mut [0; CLIENT_TAKES_BYTES]).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(here.write_all(&[0; MUCH]), reading);
        written.unwrap();
        assert!(since.elapsed() > 10 * CLIENT_TAKE_MAX);
        // What one answer was late with is not held against the next.
        here.flush().await.unwrap();
        sleep(2 * CLIENT_TAKE_MAX).await;
        here.write_all(&[0; BUFFER]).await.unwrap();
    }
}
