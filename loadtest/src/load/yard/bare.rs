//! The yardstick of fan-out: one thread that writes a frame to every socket in a loop, and does
//! nothing else. It is a process of its own, so that its processor time can be told apart.
//! Must never do less than a server has to: the same frames, as long, to the same clients.
//! Called by `kinds/fanout.rs`; the other half is a hidden command of this program.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;

use base64::Engine;
use clap::Args;
use sha1::{Digest, Sha1};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};

use crate::failure::Failure;

/// The longest head of a request of ours.
const HEAD_BYTES_MAX: usize = 4 * 1024;
/// Publishes that may wait together.
const TOGETHER_MAX: usize = 64;

/// Arguments of the hidden command.
#[derive(Debug, Clone, Args)]
pub(crate) struct BareLoopArguments {
    /// Bytes of each message.
    #[arg(long)]
    bytes: usize,
    /// Frames that arrive together leave in one write.
    #[arg(long)]
    together: bool,
}

/// The running loop, as its parent sees it.
#[derive(Debug)]
pub(in crate::load) struct BareLoop {
    child: Child,
    pub(in crate::load) pid: i32,
    pub(in crate::load) url: String,
    control: Option<tokio::net::TcpStream>,
}

impl BareLoop {
    /// Starts it; `bytes` is how long the server's own message is.
    pub(in crate::load) async fn start(bytes: usize, together: bool) -> Result<BareLoop, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("bare-loop").args(["--bytes", &bytes.to_string()]);
        if together {
            command.arg("--together");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn()?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or_default();
        let stdout = child.stdout.take().ok_or_else(|| Failure::told("no stdout"))?;
        let mut lines = tokio::io::BufReader::new(stdout).lines();
        let address = lines.next_line().await?;
        let address = address.ok_or_else(|| Failure::told("the bare loop did not start"))?;
        Ok(BareLoop { child, pid, url: format!("http://{address}"), control: None })
    }

    /// After everyone has joined: opens the line by which it is told to publish.
    pub(in crate::load) async fn take_control(&mut self) -> Result<(), Failure> {
        let address = self.url.trim_start_matches("http://");
        let mut control = tokio::net::TcpStream::connect(address).await?;
        control.set_nodelay(true)?;
        control.write_all(b"GET /control HTTP/1.1\r\n\r\n").await?;
        self.control = Some(control);
        Ok(())
    }

    /// Has one frame written to everybody.
    pub(in crate::load) async fn publish(&mut self) -> Result<(), Failure> {
        let control = self.control.as_mut().ok_or_else(|| Failure::told("no control"))?;
        Ok(control.write_all(b"p").await?)
    }

    /// Ends it.
    pub(in crate::load) async fn stop(mut self) -> Result<(), Failure> {
        drop(self.control.take());
        Ok(self.child.kill().await?)
    }
}

/// The hidden command: serves until its control line is closed.
pub(crate) fn run(arguments: &BareLoopArguments) -> Result<bool, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?);
    let mut sockets = Vec::new();
    for stream in listener.incoming() {
        let mut stream = stream?;
        stream.set_nodelay(true)?;
        let head = read_head(&mut stream)?;
        if head.starts_with("GET /control ") {
            return publish(stream, &mut sockets, arguments).map(|()| true);
        }
        greet(&mut stream, &head, sockets.len())?;
        sockets.push(stream);
    }
    Ok(false)
}

/// Byte by byte: what follows the head on the control line belongs to somebody else.
fn read_head(stream: &mut TcpStream) -> Result<String, Failure> {
    let mut head = Vec::new();
    let mut byte = [0; 1];
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        stream.read_exact(&mut byte)?;
        head.extend_from_slice(&byte);
    }
    Ok(String::from_utf8_lossy(&head).into_owned())
}

/// The upgrade and a welcome; the client's hello is left unread.
fn greet(stream: &mut TcpStream, head: &str, nth: usize) -> Result<(), Failure> {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let key = key.unwrap_or_default();
    let digest = Sha1::new()
        .chain_update(key)
        .chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11")
        .finalize();
    let accept = base64::engine::general_purpose::STANDARD.encode(digest);
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    );
    let welcome = format!(
        r#"{{"type":"welcome","seq":0,"epoch":"-","participant":{{"id":"{nth}","token":"-"}}}}"#
    );
    let mut bytes = answer.into_bytes();
    push_frame(&mut bytes, &welcome);
    Ok(stream.write_all(&bytes)?)
}

fn push_frame(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(0x81);
    match (u8::try_from(text.len()), u16::try_from(text.len())) {
        (Ok(short @ 0..=125), _) => bytes.push(short),
        (_, Ok(middle)) => {
            bytes.push(126);
            bytes.extend_from_slice(&middle.to_be_bytes());
        }
        _ => {
            bytes.push(127);
            bytes.extend_from_slice(&(text.len() as u64).to_be_bytes());
        }
    }
    bytes.extend_from_slice(text.as_bytes());
}

fn publish(
    mut control: TcpStream,
    sockets: &mut [TcpStream],
    arguments: &BareLoopArguments,
) -> Result<(), Failure> {
    let mut asked = [0; TOGETHER_MAX];
    let mut seq = 0_u64;
    loop {
        let count = match control.read(&mut asked) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::ConnectionReset => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (writes, frames) = if arguments.together { (1, count) } else { (count, 1) };
        for _ in 0..writes {
            let mut bytes = Vec::new();
            for _ in 0..frames {
                seq += 1;
                push_frame(&mut bytes, &event(seq, arguments.bytes));
            }
            for socket in &mut *sockets {
                socket.write_all(&bytes)?;
            }
        }
    }
}

fn event(seq: u64, bytes: usize) -> String {
    let head = format!(
        r#"{{"type":"event","seq":{seq},"prev":{},"kind":"session.updated","at":"-","data":""#,
        seq - 1
    );
    let padding = bytes.saturating_sub(head.len() + 2);
    format!("{head}{:padding$}\"}}", "")
}
