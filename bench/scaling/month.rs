//! A month of events, made up from a seed: who is announced, who comes, when, and for how long. The same seed makes the same
//! month on every machine. Called by `main.rs`.

/// Days of it.
pub(crate) const DAYS: u64 = 30;
const DAY: f64 = 24.0 * 3600.0;
const HOUR: f64 = 3600.0;

/// One session as it is going to be.
#[derive(Debug)]
pub(crate) struct Event {
    /// Seconds from the beginning of the month.
    pub(crate) starts: f64,
    /// Its presenter told when and for how many (4 of 5 do).
    pub(crate) announced: bool,
    pub(crate) expected: u32,
    /// Who comes: arrival and departure, in seconds.
    pub(crate) people: Vec<(f64, f64)>,
}

/// `SplitMix64`: a few lines, and good enough for a made-up month.
#[derive(Debug)]
struct Dice(u64);

impl Dice {
    fn share(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * self.share()
    }
}

/// On weekdays a dozen sessions from 8 to 18 h, most of 20 to 200 people; now and then a hall of up to 1,500, often on the hour,
/// when others begin too; two at a weekend's day.
pub(crate) fn make(seed: u64) -> Vec<Event> {
    let mut dice = Dice(seed);
    let mut events = Vec::new();
    for day in 0..DAYS {
        let sessions = if day % 7 >= 5 { 2 } else { 12 };
        for _ in 0..sessions {
            let hour = dice.between(8.0, 18.0).floor()
                + if dice.share() < 0.7 { 0.0 } else { dice.share() };
            let expected = match dice.share() {
                rare if rare < 0.03 => dice.between(700.0, 1_500.0),
                some if some < 0.15 => dice.between(200.0, 700.0),
                _ => dice.between(20.0, 200.0),
            };
            events.push(event(&mut dice, day as f64 * DAY + hour * HOUR, expected));
        }
    }
    events
}

fn event(dice: &mut Dice, starts: f64, expected: f64) -> Event {
    let lasts = dice.between(0.75, 2.0) * HOUR;
    let come = expected * dice.between(0.6, 1.15);
    let people = (0..come as u32)
        .map(|_| {
            // Most in the five minutes before and the three after; some later.
            let late = dice.share() < 0.15;
            let arrives =
                starts + if late { dice.between(0.0, 900.0) } else { dice.between(-300.0, 180.0) };
            (arrives, starts + lasts + dice.between(-600.0, 300.0))
        })
        .collect();
    Event { starts, announced: dice.share() < 0.8, expected: expected as u32, people }
}
