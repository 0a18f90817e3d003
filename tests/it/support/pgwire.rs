//! Just enough of PostgreSQL's wire protocol to see where a message ends and which statement runs.
//! Must never fail on what it does not know. Called by `proxy` alone.

use std::collections::HashMap;

/// Splits one direction of a connection into messages: a kind byte, a length, a body.
#[derive(Debug, Default)]
pub(super) struct Messages {
    rest: Vec<u8>,
}

impl Messages {
    /// The messages that are complete after these bytes.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        self.rest.extend_from_slice(bytes);
        let mut complete = Vec::new();
        while let [kind, length @ ..] = &self.rest[..]
            && let Some(length) = length.first_chunk()
        {
            let end = 1 + u32::from_be_bytes(*length) as usize;
            if self.rest.len() < end {
                break;
            }
            complete.push((*kind, self.rest[5..end].to_vec()));
            self.rest.drain(..end);
        }
        complete
    }
}

/// What a client sends: first a startup message without a kind, then statements.
#[derive(Debug, Default)]
pub(super) struct FromClient {
    started: bool,
    startup: Vec<u8>,
    messages: Messages,
    /// Text of each prepared statement, by its name.
    prepared: HashMap<Vec<u8>, String>,
    /// Statements run so far.
    pub(super) ran: u64,
}

impl FromClient {
    /// Whether these bytes complete a message that runs a statement containing `text`.
    pub(super) fn runs(&mut self, bytes: &[u8], text: Option<&str>) -> bool {
        let mut bytes = bytes.to_vec();
        if !self.started {
            self.startup.append(&mut bytes);
            let Some(length) = self.startup.first_chunk() else { return false };
            let end = u32::from_be_bytes(*length) as usize;
            if self.startup.len() < end {
                return false;
            }
            bytes = self.startup.split_off(end);
            self.started = true;
        }
        let mut runs = false;
        for (kind, body) in self.messages.read(&bytes) {
            let mut parts = body.split(|byte| *byte == 0);
            let mut part = || parts.next().unwrap_or_default().to_vec();
            let running = match kind {
                b'P' => {
                    let name = part();
                    self.prepared.insert(name, String::from_utf8_lossy(&part()).into_owned());
                    continue;
                }
                b'B' => {
                    let _portal = part();
                    self.prepared.get(&part()).cloned().unwrap_or_default()
                }
                b'Q' => String::from_utf8_lossy(&part()).into_owned(),
                _ => continue,
            };
            self.ran += 1;
            runs |= text.is_some_and(|text| running.contains(text));
        }
        runs
    }
}
