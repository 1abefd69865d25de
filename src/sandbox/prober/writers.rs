//! The judge of writers: when each database accepted the application's writes, how long both did, and the gap of a flip. Pure.

use super::words::Span;
use crate::plan::Side;

/// Two accepted probes further apart than this say nothing about the time between them.
const JOIN_US: u64 = 300_000;

/// What one probe row met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// The database took the row (and rolled it back).
    Accepted,
    /// The fence refused it (SQLSTATE 25006).
    Fenced,
    /// It was refused otherwise: locked, no connection.
    Refused,
    /// There is no such table.
    Absent,
}

/// An uninterrupted run of accepted writes on one side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// The first acceptance is certain from here.
    pub(super) from_us: u64,
    /// The last acceptance was not before this.
    pub(super) until_us: u64,
    /// The last acknowledgement.
    pub(super) acked_us: u64,
}

/// What is known of one side.
#[derive(Debug, Clone)]
pub(super) struct Acceptance {
    runs: Vec<Run>,
    open: bool,
    is_built: IsBuilt,
}

/// Whether a side is built while the prober looks on: green is nobody's to write from when it is empty until its fence first refuses somebody.
#[derive(Debug, Clone, Copy)]
enum IsBuilt {
    /// Never: it served from the start.
    Never,
    /// It is being built, since this many runs.
    Since(usize),
    /// It stands, and may be emptied and built anew.
    Already,
}

impl Acceptance {
    fn new(is_built: IsBuilt) -> Self {
        Self { runs: Vec::new(), open: false, is_built }
    }

    /// Adds one probe; probes come in order of time.
    pub(super) fn push(&mut self, start_us: u64, end_us: u64, met: Met) {
        match met {
            Met::Accepted => return self.accept(start_us, end_us),
            Met::Refused => {}
            Met::Fenced => self.stands(),
            Met::Absent => self.is_empty(),
        }
        self.open = false;
    }

    /// What was accepted while it was being built was nobody's.
    fn stands(&mut self) {
        if let IsBuilt::Since(runs) = self.is_built {
            self.runs.truncate(runs);
            self.is_built = IsBuilt::Already;
        }
    }

    fn is_empty(&mut self) {
        if let IsBuilt::Already = self.is_built {
            self.is_built = IsBuilt::Since(self.runs.len());
        }
    }

    fn accept(&mut self, start_us: u64, end_us: u64) {
        match self.runs.last_mut() {
            Some(run) if self.open && start_us.saturating_sub(run.acked_us) <= JOIN_US => {
                run.until_us = start_us.max(run.until_us);
                run.acked_us = end_us.max(run.acked_us);
            }
            _ => self.runs.push(Run { from_us: end_us, until_us: end_us, acked_us: end_us }),
        }
        self.open = true;
    }

    /// Whether the latest probe was accepted.
    pub(super) fn accepts(&self) -> bool {
        self.open
    }
}

/// Both sides' probe rows.
#[derive(Debug, Clone)]
pub(super) struct Writers {
    pub(super) blue: Acceptance,
    pub(super) green: Acceptance,
    /// Whether acknowledged writes of clients stand for probe rows: with one database the rows would tell nothing of who writes it.
    pub(super) by_answers: bool,
}

impl Default for Writers {
    fn default() -> Self {
        Self { blue: Acceptance::new(IsBuilt::Never), green: Acceptance::new(IsBuilt::Since(0)), by_answers: false }
    }
}

/// The move of writes from one side to the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// The side that took over.
    pub(super) to: Side,
    /// Last write accepted on the side left.
    pub(super) last_us: u64,
    /// First accepted on the other.
    pub(super) first_us: u64,
}

impl Writers {
    pub(super) fn of(&mut self, side: Side) -> &mut Acceptance {
        match side {
            Side::Blue => &mut self.blue,
            Side::Green => &mut self.green,
        }
    }

    /// Takes a client's acknowledged write for a probe row, where there are none.
    pub(super) fn acknowledged(&mut self, side: Option<Side>, start_us: u64, end_us: u64) {
        if let Some(side) = side.filter(|_| self.by_answers) {
            self.of(side).push(start_us, end_us, Met::Accepted);
        }
    }

    /// The side that accepts writes now, when exactly one does; by answers the one that accepted the last.
    pub(super) fn live(&self) -> Option<Side> {
        if self.by_answers {
            let last = |side: &Acceptance| side.runs.last().map(|run| run.acked_us);
            return match (last(&self.blue), last(&self.green)) {
                (None, None) => None,
                (blue, green) => Some(if blue >= green { Side::Blue } else { Side::Green }),
            };
        }
        match (self.blue.accepts(), self.green.accepts()) {
            (true, false) => Some(Side::Blue),
            (false, true) => Some(Side::Green),
            _ => None,
        }
    }

    /// Time during which both sides accepted, in milliseconds, rounded up: one stray row counts.
    pub(super) fn two_writer_ms(&self) -> u64 {
        let (blue, green) = (&self.blue.runs, &self.green.runs);
        let both = blue.iter().flat_map(|left| green.iter().map(move |right| overlap_us(*left, *right)));
        both.map(|us| us.div_ceil(1000)).sum()
    }

    /// Every move of writes between the sides, in order.
    pub(super) fn gaps(&self, calls: &[Span]) -> Vec<Gap> {
        let mut runs: Vec<(Side, Run)> = self.blue.runs.iter().map(|run| (Side::Blue, *run)).collect();
        runs.extend(self.green.runs.iter().map(|run| (Side::Green, *run)));
        runs.sort_by_key(|(_, run)| run.from_us);
        let moves = runs.windows(2).filter(|pair| pair[0].0 != pair[1].0);
        moves.map(|pair| narrowed(pair[0], pair[1], calls)).collect()
    }
}

/// The gap between two runs, narrowed by acknowledged writes of clients within it.
fn narrowed(left: (Side, Run), right: (Side, Run), calls: &[Span]) -> Gap {
    let within = |call: &&Span| call.acked_write && call.end_us > left.1.acked_us && call.start_us < right.1.from_us;
    let mut gap = Gap { to: right.0, last_us: left.1.acked_us, first_us: right.1.from_us };
    for call in calls.iter().filter(within) {
        if call.side == Some(left.0) {
            gap.last_us = gap.last_us.max(call.start_us);
        } else if call.side == Some(right.0) {
            gap.first_us = gap.first_us.min(call.end_us);
        }
    }
    Gap { last_us: gap.last_us.min(gap.first_us), ..gap }
}

/// Overlap of two runs; runs that only touch count a microsecond, so that a single stray row is seen.
fn overlap_us(left: Run, right: Run) -> u64 {
    let (from, until) = (left.from_us.max(right.from_us), left.until_us.min(right.until_us));
    if from <= until { (until - from).max(1) } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sandbox::prober::words::Kind;

    /// Probes every 20 ms, each taking 2 ms.
    fn probe(side: &mut Acceptance, from_ms: u64, until_ms: u64, met: Met) {
        for at in (from_ms..until_ms).step_by(20) {
            side.push(at * 1000, (at + 2) * 1000, met);
        }
    }

    fn flip(blue_until_ms: u64, green_from_ms: u64) -> Writers {
        let mut writers = Writers::default();
        probe(&mut writers.blue, 0, blue_until_ms, Met::Accepted);
        probe(&mut writers.blue, blue_until_ms, blue_until_ms + 100, Met::Refused);
        probe(&mut writers.blue, blue_until_ms + 100, 3000, Met::Fenced);
        probe(&mut writers.green, 0, green_from_ms, Met::Fenced);
        probe(&mut writers.green, green_from_ms, 3000, Met::Accepted);
        writers
    }

    #[test]
    fn a_clean_flip_has_one_writer_and_a_gap() {
        let writers = flip(1000, 1200);
        assert_eq!(writers.two_writer_ms(), 0);
        assert_eq!(writers.gaps(&[]), vec![Gap { to: Side::Green, last_us: 982_000, first_us: 1_202_000 }]);
        assert_eq!(writers.live(), Some(Side::Green));
    }

    /// A flip as above, and at `back_ms` the way back, which takes 150 ms; green goes on until `green_until_ms`.
    fn there_and_back(back_ms: u64, green_until_ms: u64) -> Writers {
        let mut writers = flip(1000, 1200);
        probe(&mut writers.blue, 3000, back_ms + 150, Met::Fenced);
        probe(&mut writers.blue, back_ms + 150, 6000, Met::Accepted);
        probe(&mut writers.green, 3000, green_until_ms, Met::Accepted);
        probe(&mut writers.green, green_until_ms, 6000, Met::Fenced);
        writers
    }

    #[test]
    fn the_way_back_is_a_move_of_its_own() {
        let writers = there_and_back(4000, 4000);
        assert_eq!((writers.two_writer_ms(), writers.live()), (0, Some(Side::Blue)));
        let back = Gap { to: Side::Blue, last_us: 3_982_000, first_us: 4_152_000 };
        assert_eq!(writers.gaps(&[])[1..], [back], "from the last write on green to the first on blue");
    }

    #[test]
    fn a_green_that_goes_on_writing_after_the_way_back_is_a_second_writer() {
        let ms = there_and_back(4000, 4500).two_writer_ms();
        assert!((300..=350).contains(&ms), "{ms}");
    }

    #[test]
    fn two_writers_are_measured() {
        let ms = flip(1500, 1200).two_writer_ms();
        assert!((250..=300).contains(&ms), "{ms}");
    }

    #[test]
    fn a_single_stray_row_counts() {
        let mut writers = flip(3000, 3000);
        writers.green.push(1_500_000, 1_502_000, Met::Accepted);
        assert_eq!(writers.two_writer_ms(), 1);
    }

    #[test]
    fn a_green_that_was_never_fenced_is_a_second_writer() {
        let mut writers = Writers::default();
        probe(&mut writers.blue, 0, 1000, Met::Accepted);
        probe(&mut writers.green, 500, 1000, Met::Accepted);
        assert!(writers.two_writer_ms() > 400);
        probe(&mut writers.green, 1000, 1100, Met::Fenced);
        assert_eq!(writers.two_writer_ms(), 0, "it was being built");
    }

    #[test]
    fn a_green_that_is_emptied_and_built_anew_is_nobodys_until_it_is_fenced() {
        let mut writers = Writers::default();
        probe(&mut writers.blue, 0, 3000, Met::Accepted);
        for (from_ms, met) in [(0, Met::Absent), (100, Met::Accepted), (200, Met::Fenced), (300, Met::Refused)] {
            probe(&mut writers.green, from_ms, from_ms + 100, met);
        }
        for (from_ms, met) in [(400, Met::Absent), (500, Met::Accepted), (600, Met::Fenced)] {
            probe(&mut writers.green, from_ms, from_ms + 100, met);
        }
        assert_eq!(writers.two_writer_ms(), 0);
        writers.green.push(750_000, 752_000, Met::Accepted);
        assert_eq!(writers.two_writer_ms(), 1, "it stands, and blue serves");
        probe(&mut writers.green, 760, 800, Met::Fenced);
        assert_eq!(writers.two_writer_ms(), 1, "what was seen is not forgotten");
    }

    #[test]
    fn a_client_write_narrows_the_gap() {
        let write = Span {
            kind: Kind::Issue,
            start_us: 1_050_000,
            end_us: 1_060_000,
            side: Some(Side::Blue),
            acked_write: true,
        };
        assert_eq!(flip(1000, 1200).gaps(&[write])[0].last_us, 1_050_000);
    }
}
