//! The PROXY protocol, versions 1 and 2: what a trusted proxy says of the client it speaks for, ahead of the first byte of
//! HTTP. Takes a header's bytes off the socket and not one more, within a time and a size. Never guesses whether there is
//! one: `--proxy-protocol` says so, for a client of a proxy that sends none could send its own. Called by `mod.rs`.

use std::net::IpAddr;

use ppp::{HeaderResult, v1, v2};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::limits::{PROXY_HEADER_BYTES_MAX, PROXY_HEADER_WAIT_MAX, PROXY_LINE_BYTES_MAX};

/// The address of the client; the proxy's own where it speaks for itself, as in a health check. `None`: no header, or none
/// that reads.
pub(super) async fn client(socket: &mut TcpStream, proxy: IpAddr) -> Option<IpAddr> {
    let header = timeout(PROXY_HEADER_WAIT_MAX, read(socket)).await.ok()??;
    said(&header, proxy)
}

/// Not cancel safe: what was read is lost, and the connection with it.
async fn read(socket: &mut TcpStream) -> Option<Vec<u8>> {
    // No header of either version is shorter, so this takes nothing of the request.
    let mut header = vec![0; v2::PROTOCOL_PREFIX.len()];
    socket.read_exact(&mut header).await.ok()?;
    if header == v2::PROTOCOL_PREFIX {
        let mut fixed = [0; 4];
        socket.read_exact(&mut fixed).await.ok()?;
        let [_, _, high, low] = fixed;
        header.extend_from_slice(&fixed);
        let begins = header.len();
        let ends = begins + usize::from(u16::from_be_bytes([high, low]));
        if ends > PROXY_HEADER_BYTES_MAX {
            return None;
        }
        header.resize(ends, 0);
        socket.read_exact(header.get_mut(begins..)?).await.ok()?;
        return Some(header);
    }
    if !header.starts_with(b"PROXY ") {
        return None;
    }
    // Looked at before it is taken: the request may have come in the same packet.
    let mut seen = [0; PROXY_LINE_BYTES_MAX];
    while !header.ends_with(b"\n") {
        let room = PROXY_LINE_BYTES_MAX - header.len();
        let waiting = socket.peek(seen.get_mut(..room)?).await.ok()?;
        let end = seen.get(..waiting)?.iter().position(|byte| *byte == b'\n');
        let line = seen.get_mut(..end.map_or(waiting, |end| end + 1))?;
        if line.is_empty() {
            return None; // the end of the connection, or a line that is too long
        }
        socket.read_exact(line).await.ok()?;
        header.extend_from_slice(line);
    }
    Some(header)
}

pub(super) fn said(header: &[u8], proxy: IpAddr) -> Option<IpAddr> {
    let whole = |line: &str| line.len() == header.len() && line.ends_with("\r\n");
    match HeaderResult::parse(header) {
        HeaderResult::V1(Ok(line)) if whole(&line.header) => match line.addresses {
            v1::Addresses::Tcp4(of) => Some(of.source_address.into()),
            v1::Addresses::Tcp6(of) => Some(of.source_address.to_canonical()),
            v1::Addresses::Unknown => Some(proxy),
        },
        HeaderResult::V2(Ok(block)) => match (block.command, block.addresses, block.protocol) {
            (v2::Command::Local, _, _) | (_, v2::Addresses::Unspecified, _) => Some(proxy),
            (_, v2::Addresses::IPv4(of), v2::Protocol::Stream) => Some(of.source_address.into()),
            (_, v2::Addresses::IPv6(of), v2::Protocol::Stream) => {
                Some(of.source_address.to_canonical())
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROXY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 0, 0, 1));

    fn block(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut block = v2::PROTOCOL_PREFIX.to_vec();
        block.extend([command, family]);
        block.extend(u16::try_from(rest.len()).unwrap().to_be_bytes());
        block.extend(rest);
        block
    }

    fn check(header: &[u8], client: Option<&str>) {
        let client = client.map(|client| client.parse().unwrap());
        assert_eq!(said(header, PROXY), client, "{:?}", String::from_utf8_lossy(header));
    }

    #[test]
    fn lines_say_who_the_client_is() {
        check(b"PROXY TCP4 192.0.2.7 10.0.0.2 5000 80\r\n", Some("192.0.2.7"));
        check(b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 80\r\n", Some("2001:db8::7"));
        check(b"PROXY TCP6 ::ffff:192.0.2.7 ::1 5000 80\r\n", Some("192.0.2.7"));
        check(b"PROXY UNKNOWN\r\n", Some("10.0.0.1"));
        check(b"PROXY UNKNOWN whatever it says\r\n", Some("10.0.0.1"));
    }

    #[test]
    fn lines_are_read_strictly() {
        for line in [
            "PROXY TCP4 192.0.2.7 10.0.0.2 5000 80\n",
            "PROXY UNKNOWN \n",
            "PROXY TCP4 192.0.2.7 10.0.0.2 5000 80 \r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.2 5000\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.2 05000 80\r\n",
            "PROXY TCP4 192.0.2.7 10.0.0.2 65536 80\r\n",
            "PROXY TCP4 2001:db8::7 10.0.0.2 5000 80\r\n",
            "PROXY TCP6 192.0.2.7 10.0.0.2 5000 80\r\n",
            "PROXY TCP4  192.0.2.7 10.0.0.2 5000 80\r\n",
            "PROXY TCP4 192.0.2.7\r10.0.0.2 5000 80\r\n",
            "PROXY UDP4 192.0.2.7 10.0.0.2 5000 80\r\n",
            "PROXY TCP4 192.0.2.7, 10.0.0.2 5000 80\r\n",
            "proxy TCP4 192.0.2.7 10.0.0.2 5000 80\r\n",
        ] {
            check(line.as_bytes(), None);
        }
    }

    #[test]
    fn blocks_say_who_the_client_is() {
        let four = [192, 0, 2, 7, 10, 0, 0, 2, 1, 1, 0, 80];
        check(&block(0x21, 0x11, &four), Some("192.0.2.7"));
        let with_more = [&four[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        check(&block(0x21, 0x11, &with_more), Some("192.0.2.7"));
        let mut six = [0; 36];
        six[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        check(&block(0x21, 0x21, &six), Some("2001:db8::"));
        // Health checks: whatever else it says, the proxy speaks for itself.
        check(&block(0x20, 0x00, &[]), Some("10.0.0.1"));
        check(&block(0x20, 0x11, &four), Some("10.0.0.1"));
        check(&block(0x21, 0x00, &[]), Some("10.0.0.1"));
    }

    #[test]
    fn blocks_are_read_strictly() {
        let four = [192, 0, 2, 7, 10, 0, 0, 2, 1, 1, 0, 80];
        check(&block(0x11, 0x11, &four), None); // version 1 in a block
        check(&block(0x22, 0x11, &four), None); // neither LOCAL nor PROXY
        check(&block(0x21, 0x12, &four), None); // a datagram
        check(&block(0x21, 0x51, &four), None); // a family that is none
        check(&block(0x21, 0x21, &four), None); // too short for its family
        check(&block(0x21, 0x31, &[0; 216]), None); // a unix socket
        check(&block(0x21, 0x11, &four)[..27], None); // cut off
    }
}
