//! The bytes of PostgreSQL's protocol, the server's side, as far as the client library needs them. No meaning, no waits.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio_postgres::types::{IsNull, ToSql, Type};

/// One value of a row.
pub(super) type Cell = Box<dyn ToSql + Sync + Send>;

/// What waits to be sent.
#[derive(Debug, Default)]
pub(super) struct Answer(BytesMut);

/// Takes a whole message from the front: its tag and body.
pub(super) fn split(buffer: &mut BytesMut) -> Option<(u8, Bytes)> {
    let length = (&buffer.get(1..5)?[..]).get_u32() as usize;
    if buffer.len() < length + 1 {
        return None;
    }
    let mut message = buffer.split_to(length + 1).freeze();
    let tag = message.get_u8();
    message.advance(4);
    Some((tag, message))
}

/// Takes a text that ends with a zero.
pub(super) fn text(body: &mut Bytes) -> String {
    let end = body.iter().position(|byte| *byte == 0).unwrap();
    let text = String::from_utf8(body.split_to(end).to_vec()).unwrap();
    body.advance(1);
    text
}

impl Answer {
    pub(super) fn take(&mut self) -> Bytes {
        self.0.split().freeze()
    }

    fn message(&mut self, tag: u8, body: impl FnOnce(&mut BytesMut)) {
        self.0.put_u8(tag);
        let at = self.0.len();
        self.0.put_u32(0);
        body(&mut self.0);
        let length = u32::try_from(self.0.len() - at).unwrap();
        self.0[at..at + 4].copy_from_slice(&length.to_be_bytes());
    }

    pub(super) fn done(&mut self, tag: u8) {
        self.message(tag, |_| {});
    }

    pub(super) fn ready(&mut self) {
        self.message(b'Z', |body| body.put_u8(b'I'));
    }

    /// Authenticated; the key that a cancel would need.
    pub(super) fn welcome(&mut self) {
        self.message(b'R', |body| body.put_u32(0));
        self.message(b'K', |body| body.put_u64(0));
    }

    pub(super) fn complete(&mut self, command: &str) {
        self.message(b'C', |body| put_text(body, command));
    }

    pub(super) fn error(&mut self, state: &str) {
        self.message(b'E', |body| put_fields(body, "ERROR", state, "simulated", "simulated"));
    }

    pub(super) fn not_replicated(&mut self) {
        let text = "storniere Warten auf synchrone Replikation wegen Benutzeranfrage";
        self.message(b'N', |body| {
            put_fields(body, "WARNING", "01000", text, "SyncRepWaitForLSN");
        });
    }

    pub(super) fn notification(&mut self, payload: &str) {
        self.message(b'A', |body| {
            body.put_u32(0);
            put_text(body, "plenum");
            put_text(body, payload);
        });
    }

    pub(super) fn description(&mut self, params: &[Type], columns: &[Type]) {
        self.message(b't', |body| {
            body.put_u16(u16::try_from(params.len()).unwrap());
            params.iter().for_each(|one| body.put_u32(one.oid()));
        });
        self.columns(columns);
    }

    fn columns(&mut self, columns: &[Type]) {
        self.message(b'T', |body| {
            body.put_u16(u16::try_from(columns.len()).unwrap());
            for column in columns {
                put_text(body, "c");
                body.put_u32(0);
                body.put_u16(0);
                body.put_u32(column.oid());
                body.put_i16(-1);
                body.put_i32(-1);
                body.put_u16(1);
            }
        });
    }

    /// Rows in binary form, and the end of them.
    pub(super) fn rows(&mut self, columns: &[Type], rows: &[Vec<Cell>]) {
        for row in rows {
            assert_eq!(row.len(), columns.len());
            self.message(b'D', |body| {
                body.put_u16(u16::try_from(row.len()).unwrap());
                for (cell, column) in row.iter().zip(columns) {
                    let at = body.len();
                    body.put_i32(-1);
                    if let IsNull::No = cell.to_sql_checked(column, body).unwrap() {
                        let length = i32::try_from(body.len() - at - 4).unwrap();
                        body[at..at + 4].copy_from_slice(&length.to_be_bytes());
                    }
                }
            });
        }
        self.complete(&format!("SELECT {}", rows.len()));
    }

    /// One row of text, as a simple query is answered.
    pub(super) fn texts(&mut self, values: &[&str]) {
        self.columns(&vec![Type::TEXT; values.len()]);
        self.message(b'D', |body| {
            body.put_u16(u16::try_from(values.len()).unwrap());
            for value in values {
                body.put_i32(i32::try_from(value.len()).unwrap());
                body.put_slice(value.as_bytes());
            }
        });
        self.complete("SELECT 1");
    }
}

fn put_text(body: &mut BytesMut, text: &str) {
    body.put_slice(text.as_bytes());
    body.put_u8(0);
}

fn put_fields(body: &mut BytesMut, severity: &str, state: &str, text: &str, routine: &str) {
    let fields = [(b'S', severity), (b'V', severity), (b'C', state), (b'M', text), (b'R', routine)];
    for (field, value) in fields {
        body.put_u8(field);
        put_text(body, value);
    }
    body.put_u8(0);
}
