//! Who has a stream open in one session, here and on other instances, and what of it has been told to whom. Knows no
//! sockets and no clock. Owned by `watched.rs`, under its lock; `presence.rs` carries it between instances.

use std::collections::{HashMap, HashSet};

use crate::domain::ParticipantId;

/// Instances tell each other once in one exchange, so the second one knows who was there when a session was first watched here;
/// a hall comes in within some seconds.
const ASKED_MIN: u8 = 3;

/// Participants of one session, each by mark, and whether presenters are with them.
#[derive(Debug, Default)]
pub(super) struct Attendance {
    /// Those with a stream here, and how many streams each has.
    here: HashMap<i64, usize>,
    /// Streams of presenters here.
    hosts: usize,
    /// Those with a stream on other instances.
    elsewhere: Elsewhere,
    /// How often nobody was found there, up to [`ASKED_MIN`].
    asked: u8,
    /// Who is here has changed since the other instances were told.
    untold: bool,
    /// The number that clients were sent last.
    shown: Option<usize>,
    /// Somebody came who has not been sent it.
    newcomers: bool,
}

/// What is known of other instances.
#[derive(Debug, Default)]
enum Elsewhere {
    /// They were not asked often enough yet: who came there a moment ago has not been told of.
    #[default]
    Unknown,
    /// Nobody has a stream open there.
    Nobody,
    /// Somebody has: these participants, or presenters alone.
    Some(HashSet<i64>),
}

impl Attendance {
    /// Somebody takes their place in the ring, past every number in it: the next one has to come, though it has not moved.
    pub(super) fn expect_news(&mut self) {
        self.newcomers = true;
    }

    /// A stream opens; `None`: a presenter's, who is not counted but wants to know.
    pub(super) fn enter(&mut self, participant: Option<ParticipantId>) {
        match participant {
            Some(participant) => {
                *self.here.entry(mark(participant)).or_default() += 1;
                self.untold = true;
            }
            None => {
                self.hosts += 1;
                self.untold |= self.hosts == 1;
            }
        }
    }

    /// A stream closes.
    pub(super) fn leave(&mut self, participant: Option<ParticipantId>) {
        let Some(participant) = participant else {
            self.hosts -= 1;
            self.untold |= self.hosts == 0;
            return;
        };
        if let Some(streams) = self.here.get_mut(&mark(participant)) {
            *streams -= 1;
            if *streams == 0 {
                self.here.remove(&mark(participant));
                self.untold = true;
            }
        }
    }

    /// Distinct participants, on any instance.
    pub(super) fn everywhere(&self) -> usize {
        let only_there = match &self.elsewhere {
            Elsewhere::Some(marks) => {
                marks.iter().filter(|mark| !self.here.contains_key(mark)).count()
            }
            Elsewhere::Unknown | Elsewhere::Nobody => 0,
        };
        self.here.len() + only_there
    }

    /// Whether somebody may have a stream open on another instance, presenters included.
    pub(super) fn is_followed_elsewhere(&self) -> bool {
        !matches!(self.elsewhere, Elsewhere::Nobody)
    }

    /// Distinct participants here.
    pub(super) fn here(&self) -> usize {
        self.here.len()
    }

    /// The number that a newcomer is shown: what the others see, so that it moves for all at once.
    pub(super) fn shown(&self) -> usize {
        self.shown.unwrap_or_else(|| self.everywhere())
    }

    /// Who is here, if that has changed since it was last asked for, or `again`: no mark where only presenters are, `None`
    /// inside where nobody is.
    pub(super) fn take_untold(&mut self, again: bool) -> Option<Option<Vec<i64>>> {
        let anybody = !self.here.is_empty() || self.hosts > 0;
        let untold = std::mem::take(&mut self.untold) || (again && anybody);
        untold.then(|| anybody.then(|| self.here.keys().copied().collect()))
    }

    /// The others were not told after all.
    pub(super) fn untell(&mut self) {
        self.untold = true;
    }

    /// Who is on other instances; `None`: nobody, not even a presenter.
    pub(super) fn set_elsewhere(&mut self, marks: Option<HashSet<i64>>) {
        self.elsewhere = match marks {
            Some(marks) => Elsewhere::Some(marks),
            None if self.asked < ASKED_MIN => {
                self.asked += 1;
                Elsewhere::Unknown
            }
            None => Elsewhere::Nobody,
        };
    }

    /// The number to send now, and whether it moved; `None` where everybody has it.
    pub(super) fn take_news(&mut self) -> Option<(usize, bool)> {
        let now = self.everywhere();
        let moved = self.shown != Some(now);
        let newcomers = std::mem::take(&mut self.newcomers);
        self.shown = Some(now);
        (moved || newcomers).then_some((now, moved))
    }
}

/// 64 bits of a participant's id, 62 of them random: enough to count by, over instances too.
fn mark(participant: ParticipantId) -> i64 {
    participant.0.as_u64_pair().1.cast_signed()
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_participant_counts_once_however_many_streams_it_has_and_wherever() {
        let mut attendance = Attendance::default();
        let [ada, ben] = [1, 2].map(|n| ParticipantId(Uuid::from_u128(n)));
        for participant in [Some(ada), Some(ada), Some(ben), None] {
            attendance.enter(participant);
        }
        attendance.set_elsewhere(Some(HashSet::from([mark(ben), 3])));
        assert_eq!((attendance.here(), attendance.everywhere()), (2, 3));
        attendance.leave(Some(ada));
        assert_eq!(attendance.here(), 2);
        attendance.leave(Some(ada));
        assert_eq!((attendance.here(), attendance.everywhere()), (1, 2));
    }

    #[test]
    fn others_are_told_of_presenters_too_though_nobody_counts_them() {
        let mut attendance = Attendance::default();
        assert!(attendance.is_followed_elsewhere(), "nobody was asked yet");
        attendance.enter(None);
        assert_eq!(attendance.take_untold(false), Some(Some(vec![])));
        attendance.enter(None);
        attendance.leave(None);
        assert_eq!(attendance.take_untold(false), None, "a presenter is still here");
        assert_eq!(attendance.take_untold(true), Some(Some(vec![])));
        attendance.leave(None);
        assert_eq!(attendance.take_untold(false), Some(None));
        assert_eq!(attendance.take_untold(true), None, "there is nothing to say again");
        for _ in 0..ASKED_MIN {
            attendance.set_elsewhere(None);
            assert!(attendance.is_followed_elsewhere(), "others may not have been told yet");
        }
        attendance.set_elsewhere(None);
        assert!(!attendance.is_followed_elsewhere());
        attendance.set_elsewhere(Some(HashSet::new()));
        assert!(attendance.is_followed_elsewhere());
        assert_eq!(attendance.everywhere(), 0);
    }

    #[test]
    fn a_number_is_news_when_it_moved_and_to_those_who_have_had_none() {
        let mut attendance = Attendance::default();
        attendance.enter(None);
        attendance.expect_news();
        assert_eq!(attendance.take_news(), Some((0, true)));
        assert_eq!(attendance.take_news(), None);
        attendance.enter(None);
        attendance.expect_news();
        assert_eq!(attendance.take_news(), Some((0, false)));
        attendance.enter(Some(ParticipantId(Uuid::from_u128(1))));
        assert_eq!(attendance.shown(), 0);
        assert_eq!(attendance.take_news(), Some((1, true)));
        assert_eq!(attendance.shown(), 1);
    }
}
