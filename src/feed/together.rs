//! One read for all who ask while another one runs. Nobody is given an answer whose reading began before they asked: what they
//! were told by then is in it. Used where a hall comes or comes back at once, by `mod.rs`
//! and `replay.rs`.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Mutex;

/// The last answer of one question, and whom it is for.
#[derive(Debug)]
pub(super) struct Together<T> {
    /// How many have asked so far.
    asked: AtomicU64,
    /// Held by whoever reads. The answer is for all who had asked when its reading began: so many.
    answered: Mutex<(u64, Option<T>)>,
}

impl<T> Default for Together<T> {
    fn default() -> Self {
        Self { asked: AtomicU64::new(0), answered: Mutex::new((0, None)) }
    }
}

impl<T: Clone> Together<T> {
    /// The answer of a reading that begins from now on, by `read` or by somebody else's. Cancel safe: whoever waits reads instead.
    ///
    /// # Errors
    /// Those of `read`; nobody shares them.
    pub(super) async fn get<E>(&self, read: impl AsyncFnOnce() -> Result<T, E>) -> Result<T, E> {
        let nth = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        let mut answered = self.answered.lock().await;
        if let (upto, Some(answer)) = &*answered
            && *upto >= nth
        {
            return Ok(answer.clone());
        }
        let upto = self.asked.load(Ordering::Acquire);
        let answer = read().await?;
        *answered = (upto, Some(answer.clone()));
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_during_a_reading_shares_the_next_one() {
        let (together, readings) = (Together::default(), AtomicUsize::new(0));
        let ask = |after_ms| {
            let (together, readings) = (&together, &readings);
            async move {
                tokio::time::sleep(std::time::Duration::from_millis(after_ms)).await;
                let read = async || {
                    let nth = readings.fetch_add(1, Ordering::Relaxed) + 1;
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    Ok::<usize, ()>(nth)
                };
                together.get(read).await.unwrap()
            }
        };
        let answers = tokio::join!(ask(0), ask(1), ask(5), ask(9), ask(30));
        assert_eq!(answers, (1, 2, 2, 2, 3));
    }

    #[tokio::test]
    async fn a_failure_is_nobody_elses() {
        let together = Together::default();
        let (failed, read) =
            tokio::join!(together.get(async || Err(7)), together.get(async || Ok::<u8, u8>(1)));
        assert_eq!((failed, read), (Err(7), Ok(1)));
    }
}
