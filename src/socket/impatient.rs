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
pub struct Impatient {
    stream: TcpStream,
    /// Since it took nothing, and how much it has taken from then on.
    stalled: Option<(Pin<Box<Sleep>>, usize)>,
}

impl Impatient {
    /// Around a connection that was accepted.
    #[must_use]
    pub const fn new(stream: TcpStream) -> Self {
        Self { stream, stalled: None }
    }

    /// What is left of a connection whose protocol is another one from here on.
    #[must_use]
    pub fn into_inner(self) -> TcpStream {
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

impl AsyncRead for Impatient {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for Impatient {
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
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::*;

    /// More than the buffers of both sides take.
    const MUCH: usize = 32 * 1024 * 1024;

    async fn pair() -> (Impatient, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let there = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (Impatient::new(listener.accept().await.unwrap().0), there)
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_cut_off() {
        let (mut here, _there) = pair().await;
        let since = Instant::now();
        let failed = here.write_all(&vec![0; MUCH]).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::TimedOut);
        assert!(since.elapsed() >= CLIENT_TAKE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_slow_gets_everything() {
        let (mut here, mut there) = pair().await;
        let reading = async move {
            let (mut taken, mut part) = (0, vec![0; MUCH / 16]);
            while taken < MUCH {
                sleep(CLIENT_TAKE_MAX / 2).await;
                let wanted = part.len().min(MUCH - taken);
                taken += there.read_exact(&mut part[..wanted]).await.unwrap();
            }
        };
        let all = vec![0; MUCH];
        let (written, ()) = tokio::join!(here.write_all(&all), reading);
        written.unwrap();
    }
}
