//! The two halves of one WebSocket below `socket`: bytes that arrived with the upgrade come first
//! on the read side; the write side keeps what a cancelled write left over.
//! Must never decide what a message means. Called by `socket` alone.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use fastwebsockets::{Frame, OpCode, Payload};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

/// The longest head of a frame: 2 bytes, 8 of length, 4 of mask.
const HEAD_MAX: usize = 16;

/// The read half, with what the HTTP layer had already read in front.
#[derive(Debug)]
pub(super) struct ReadSide {
    early: Bytes,
    half: OwnedReadHalf,
}

impl ReadSide {
    pub(super) fn new(early: Bytes, half: OwnedReadHalf) -> ReadSide {
        ReadSide { early, half }
    }
}

impl AsyncRead for ReadSide {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.early.is_empty() {
            return Pin::new(&mut self.half).poll_read(context, buffer);
        }
        let take = self.early.len().min(buffer.remaining());
        buffer.put_slice(&self.early.split_to(take));
        Poll::Ready(Ok(()))
    }
}

/// The frame parser asks for a writer although, with its automatic answers off, it never writes;
/// if it ever did, two writers would mix their bytes, so this refuses.
impl AsyncWrite for ReadSide {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Err(io::Error::other("the read side does not write")))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// The write half: frames are queued whole, and what a cancelled flush did not send goes first.
#[derive(Debug)]
pub(super) struct WriteSide {
    half: OwnedWriteHalf,
    queued: BytesMut,
    close_sent: bool,
}

impl WriteSide {
    pub(super) fn new(half: OwnedWriteHalf) -> WriteSide {
        WriteSide { half, queued: BytesMut::new(), close_sent: false }
    }

    /// Queues one masked frame; `finished` is the FIN bit.
    pub(super) fn queue(&mut self, opcode: OpCode, finished: bool, payload: &[u8]) {
        let mut frame = Frame::new(finished, opcode, None, Payload::Owned(payload.to_vec()));
        frame.mask();
        let mut head = [0; HEAD_MAX];
        let length = frame.fmt_head(&mut head);
        self.queued.extend(head.iter().take(length));
        self.queued.extend_from_slice(&frame.payload);
        self.close_sent |= opcode == OpCode::Close;
    }

    pub(super) fn close_sent(&self) -> bool {
        self.close_sent
    }

    /// Writes what is queued. Cancel safe: what was not written stays queued.
    pub(super) async fn flush(&mut self) -> io::Result<()> {
        while self.queued.has_remaining() {
            if self.half.write_buf(&mut self.queued).await? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}
