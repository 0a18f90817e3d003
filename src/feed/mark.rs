//! The flag that says "there is news here, and its shard knows": what keeps a session on a shard's list once, however many
//! events come. The one piece of the read path whose correctness hangs on an atomic, so its two operations are checked by loom
//! in every order of threads and memory, as they are. Used by `hub.rs`.
//!
//! Who has news pushes it *before* [`Mark::raise`]; who fans out calls [`Mark::lower`] *before* it looks. So whoever finds the
//! flag raised, and leaves the news to the shard, is seen by a look that is still to come.

macro_rules! mark {
    ($flag:ty) => {
        /// See above.
        #[derive(Debug, Default)]
        pub(super) struct Mark($flag);

        impl Mark {
            /// Says whether the shard has to be told: it does not know yet.
            pub(super) fn raise(&self) -> bool {
                !self.0.swap(true, Ordering::AcqRel)
            }

            /// What comes from here on is told again.
            pub(super) fn lower(&self) {
                self.0.store(false, Ordering::Release);
            }
        }
    };
}

use std::sync::atomic::{AtomicBool, Ordering};

mark!(AtomicBool);

#[cfg(test)]
mod tests {
    use loom::sync::atomic::{AtomicBool, Ordering};
    use loom::sync::{Arc, Mutex};
    use loom::thread;

    mark!(AtomicBool);

    /// A ring of which only the number of frames counts, and the list of a shard.
    #[derive(Default)]
    struct Session {
        mark: Mark,
        frames: Mutex<u32>,
        told: Mutex<u32>,
    }

    impl Session {
        fn publish(&self) {
            *self.frames.lock().unwrap() += 1;
            if self.mark.raise() {
                *self.told.lock().unwrap() += 1;
            }
        }

        /// What the fan-out offers for one entry of its list.
        fn offer(&self, lower_first: bool) -> u32 {
            if lower_first {
                self.mark.lower();
            }
            let seen = *self.frames.lock().unwrap();
            if !lower_first {
                self.mark.lower();
            }
            seen
        }
    }

    /// Two who publish and one who fans out; when all are done, the fan-out empties its list.
    fn run(lower_first: bool) {
        loom::model(move || {
            let session = Arc::new(Session::default());
            let publishers: Vec<_> = (0..2)
                .map(|_| {
                    let session = session.clone();
                    thread::spawn(move || session.publish())
                })
                .collect();
            let take = |session: &Session| {
                let mut told = session.told.lock().unwrap();
                let one = *told > 0;
                *told -= u32::from(one);
                one
            };
            let mut seen = 0;
            if take(&session) {
                seen = session.offer(lower_first);
            }
            publishers.into_iter().for_each(|one| one.join().unwrap());
            while take(&session) {
                seen = session.offer(lower_first);
            }
            assert_eq!(seen, 2, "a frame that nobody is told of");
        });
    }

    #[test]
    fn no_frame_is_left_behind_in_any_order() {
        run(true);
    }

    #[test]
    #[should_panic(expected = "a frame that nobody is told of")]
    fn looking_before_lowering_leaves_one_behind() {
        run(false);
    }
}
