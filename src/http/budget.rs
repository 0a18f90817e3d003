//! The memory that requests and answers of REST may hold at one time, all together: each is bounded, but there are thousands
//! of connections. Must never count what is small, which most are, or costs nothing. Used by `body.rs` and `respond.rs`.

use bytes::Bytes;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::limits::{REST_BYTES_FREE, REST_BYTES_MAX};
use crate::wire::{Code, Fault};

const UNIT: usize = 1024;
static LEFT: Semaphore = Semaphore::const_new(REST_BYTES_MAX / UNIT);

/// What is held until it is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(Option<SemaphorePermit<'static>>);

impl Held {
    /// Holds so many bytes in all; less than before is as before.
    ///
    /// # Errors
    /// `overloaded` where all together would be too many.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<(), Fault> {
        let units = bytes.saturating_sub(REST_BYTES_FREE).div_ceil(UNIT);
        let held = self.0.as_ref().map_or(0, SemaphorePermit::num_permits);
        let more = u32::try_from(units.saturating_sub(held)).unwrap_or(u32::MAX);
        if more > 0 {
            let permit = LEFT.try_acquire_many(more).map_err(|_| {
                Fault::new(Code::Overloaded, "too much is on its way here; try again in a moment")
            })?;
            match &mut self.0 {
                Some(held) => held.merge(permit),
                None => self.0 = Some(permit),
            }
        }
        Ok(())
    }
}

struct Counted {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Counted {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The bytes of an answer, counted until the last of them is sent.
///
/// # Errors
/// See [`Held::grow`].
pub(super) fn counted(bytes: Bytes) -> Result<Bytes, Fault> {
    // What is part of the program, or shared by many, is in memory anyway.
    if bytes.len() <= REST_BYTES_FREE || !bytes.is_unique() {
        return Ok(bytes);
    }
    let mut held = Held::default();
    held.grow(bytes.len())?;
    Ok(Bytes::from_owner(Counted { bytes, _held: held }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_bounded_and_given_back() {
        let large = || counted(Bytes::from(vec![b'x'; REST_BYTES_MAX / 2 + REST_BYTES_FREE]));
        let (one, two) = (large().unwrap(), large().unwrap());
        assert!(large().is_err_and(|fault| fault.code == Code::Overloaded));
        assert!(counted(Bytes::from(vec![b'x'; REST_BYTES_FREE])).is_ok(), "what is small goes on");
        assert!(counted(Bytes::from_static(&[b'x'; 2 * REST_BYTES_FREE])).is_ok());
        let part = two.slice(1..2);
        drop((one, two));
        assert!(large().is_ok(), "the first is given back");
        let (_one, whole) = (large().unwrap(), large());
        assert!(whole.is_err(), "of the second, a part is still on its way: {part:?}");
    }
}
