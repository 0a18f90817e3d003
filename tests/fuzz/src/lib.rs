//! What the targets in `targets/` share: a reader that makes choices out of a fuzzer's bytes, and second opinions written from
//! the specifications instead of from the server. Must never call the reader that it is the second opinion of.

pub mod frames;
pub mod messages;

/// Takes choices off the front of an input; past its end all of them are zero.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Two bytes, the high one first.
    pub fn number(&mut self) -> usize {
        usize::from(self.byte()) << 8 | usize::from(self.byte())
    }

    /// So many bytes, or those that are left.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Exactly `N` bytes, filled up with zeros.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.byte())
    }

    /// Text up to the next line break.
    pub fn line(&mut self) -> &'a str {
        let end = self.0.iter().position(|byte| *byte == b'\n').unwrap_or(self.0.len());
        let line = self.bytes(end);
        self.byte();
        // What is no UTF-8 ends the line.
        std::str::from_utf8(line).unwrap_or_else(|error| {
            std::str::from_utf8(&line[..error.valid_up_to()]).unwrap_or_default()
        })
    }
}
