//! How the bytes of a connection reach a database server: the network with or without TLS, or, in tests alone, a pipe in
//! memory with a simulated server at its other end. Called by `connection.rs`, which decides everything about a connection.

use std::task::{Context, Poll};

#[cfg(test)]
use tokio::io::DuplexStream;
#[cfg(test)]
use tokio_postgres::NoTls;
use tokio_postgres::tls::MakeTlsConnect;
#[cfg(test)]
use tokio_postgres::tls::NoTlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::StoreError;

type Encrypted = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;

/// Opens a connection to a simulated server; `None`: it takes none now.
#[cfg(test)]
pub(crate) type Dial = std::sync::Arc<dyn Fn() -> Option<DuplexStream> + Send + Sync>;

/// How a server is reached.
#[derive(Clone)]
pub(super) enum Way {
    /// By TCP or a socket of the system.
    Network(MakeRustlsConnect),
    /// Within the test.
    #[cfg(test)]
    Memory(Dial),
}

/// The socket, and what comes over it beside answers. Whoever has it must poll it, or nothing moves.
pub(super) enum Wire {
    /// To a server.
    Network(Box<Connection<Socket, Encrypted>>),
    /// To a simulated one.
    #[cfg(test)]
    Memory(Box<Connection<DuplexStream, NoTlsStream>>),
}

impl Way {
    /// Connects and authenticates. Cancel safe: the connection is dropped with it.
    pub(super) async fn connect(&self, config: &Config) -> Result<(Client, Wire), StoreError> {
        match self {
            Self::Network(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, Wire::Network(Box::new(connection))))
            }
            #[cfg(test)]
            Self::Memory(dial) => {
                let stream = dial().ok_or(StoreError::NoPrimary)?;
                let (client, connection) = config.connect_raw(stream, NoTls).await?;
                Ok((client, Wire::Memory(Box::new(connection))))
            }
        }
    }
}

impl Wire {
    /// See [`Connection::poll_message`].
    pub(super) fn poll_message(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<AsyncMessage, Error>>> {
        match self {
            Self::Network(connection) => connection.poll_message(cx),
            #[cfg(test)]
            Self::Memory(connection) => connection.poll_message(cx),
        }
    }
}
