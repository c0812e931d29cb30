//! A disk in memory that behaves as badly as disks may: until it is told to sync, what is written reaches it in any order, in
//! part, or not at all; and any change can be made to fail.

use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard};

use kes_keystore_embedded::Medium;

/// The disk. Clones are the same disk, so that a test can break what a store stands on.
#[derive(Clone)]
pub(crate) struct Disk(Arc<Mutex<State>>);

struct State {
    /// What reads see.
    visible: Vec<u8>,
    /// What is known to be on the disk, and what may be.
    plate: Plate,
    /// Changes asked for so far, with those that failed.
    changes: u64,
    reads: u64,
    failure: Option<Failure>,
    unreadable: Range<u64>,
    random: Random,
    history: History,
}

impl Disk {
    /// An empty disk.
    pub(crate) fn new() -> Self {
        Self::holding(Vec::new())
    }

    /// A disk with these bytes on it.
    pub(crate) fn holding(image: Vec<u8>) -> Self {
        Self(Arc::new(Mutex::new(State {
            visible: image.clone(),
            plate: Plate::holding(image.clone()),
            changes: 0,
            reads: 0,
            failure: None,
            unreadable: 0..0,
            random: Random::new(0),
            history: History {
                start: image,
                events: Vec::new(),
            },
        })))
    }

    /// What reads see now.
    pub(crate) fn image(&self) -> Vec<u8> {
        self.state().visible.clone()
    }

    /// How many writes, syncs and changes of length there were.
    pub(crate) fn changes(&self) -> u64 {
        self.state().changes
    }

    /// Lets changes fail as `failure` says, from now on.
    pub(crate) fn fail(&self, failure: Failure) {
        self.state().failure = Some(failure);
    }

    /// How many reads there were.
    pub(crate) fn reads(&self) -> u64 {
        self.state().reads
    }

    /// Lets the reads with these numbers fail.
    pub(crate) fn fail_reads(&self, numbers: Range<u64>) {
        self.state().unreadable = numbers;
    }

    /// Ends every failure.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.failure = None;
        state.unreadable = 0..0;
    }

    /// Notes that `mark` has happened, in order with the changes.
    pub(crate) fn mark(&self, mark: usize) {
        self.state().history.events.push(Event::Mark(mark));
    }

    /// All changes so far, for crashes at each of them. Only for a disk on which none has failed.
    pub(crate) fn history(&self) -> History {
        let state = self.state();
        assert!(state.failure.is_none(), "a history has no place for failures");
        state.history.clone()
    }

    /// What may be on the disk after a crash now.
    pub(crate) fn crash(&self, seed: u64) -> Vec<u8> {
        self.state().plate.crash(seed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }
}

impl Medium for Disk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.state().visible.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<()> {
        let mut state = self.state();
        let number = state.reads;
        state.reads += 1;
        if state.unreadable.contains(&number) {
            return Err(rustix::io::Errno::IO.into());
        }
        let start = usize::try_from(offset).unwrap();
        let bytes = start
            .checked_add(into.len())
            .and_then(|end| state.visible.get(start..end))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        into.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let whole = Change::Write {
            offset: usize::try_from(offset).unwrap(),
            bytes: bytes.to_vec(),
        };
        let Some(failure) = state.failure_of(Kind::Write) else {
            state.change(whole);
            return Ok(());
        };
        match failure.effect {
            Effect::None | Effect::Lost | Effect::Forgotten => {}
            Effect::Part => {
                let some = state.random.below(bytes.len());
                state.change(Change::Write {
                    offset: usize::try_from(offset).unwrap(),
                    bytes: bytes.get(..some).unwrap().to_vec(),
                });
            }
            Effect::Whole => state.change(whole),
        }
        Err(failure.error.into())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.state();
        let change = Change::SetSize(usize::try_from(size).unwrap());
        let Some(failure) = state.failure_of(Kind::SetSize) else {
            state.change(change);
            return Ok(());
        };
        match failure.effect {
            Effect::None | Effect::Lost | Effect::Forgotten => {}
            Effect::Part | Effect::Whole => state.change(change),
        }
        Err(failure.error.into())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        let Some(failure) = state.failure_of(Kind::Sync) else {
            state.sync();
            return Ok(());
        };
        match failure.effect {
            Effect::None => {}
            Effect::Part => {
                let seed = state.random.next();
                state.plate.durable = state.plate.crash(seed);
            }
            Effect::Whole => state.sync(),
            Effect::Lost => state.plate.pending.clear(),
            Effect::Forgotten => {
                state.plate.pending.clear();
                state.visible = state.plate.durable.clone();
            }
        }
        Err(failure.error.into())
    }
}

impl State {
    /// How the next change fails, if it does.
    fn failure_of(&mut self, kind: Kind) -> Option<Failure> {
        let number = self.changes;
        self.changes += 1;
        self.failure.clone().filter(|failure| {
            failure.changes.contains(&number) && failure.only.is_none_or(|only| only == kind)
        })
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.visible);
        self.plate.pending.push(change.clone());
        self.history.events.push(Event::Change(change));
    }

    fn sync(&mut self) {
        self.plate.sync();
        self.history.events.push(Event::Sync);
    }
}

impl fmt::Debug for Disk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disk").finish_non_exhaustive()
    }
}

/// Which changes fail, and how.
#[derive(Clone, Debug)]
pub(crate) struct Failure {
    /// The numbers of the changes, counted from the disk's first one.
    pub(crate) changes: Range<u64>,
    /// Only changes of this kind; else of every kind.
    pub(crate) only: Option<Kind>,
    /// What the caller is told.
    pub(crate) error: rustix::io::Errno,
    /// What happens all the same.
    pub(crate) effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Write,
    SetSize,
    Sync,
}

/// What a failed change has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing.
    None,
    /// Some of it: the first bytes of a write, any part of what a sync should have made durable.
    Part,
    /// All of it.
    Whole,
    /// A sync has failed to write and takes everything as written: reads see it, it never gets to the disk, and the next
    /// sync succeeds. That is what Linux does.
    Lost,
    /// The same, and reads see again what is on the disk.
    Forgotten,
}

impl Effect {
    pub(crate) const ALL: [Self; 5] = [Self::None, Self::Part, Self::Whole, Self::Lost, Self::Forgotten];
}

/// Everything that was done to a disk, in order.
#[derive(Clone)]
pub(crate) struct History {
    start: Vec<u8>,
    events: Vec<Event>,
}

#[derive(Clone)]
enum Event {
    Change(Change),
    Sync,
    Mark(usize),
}

impl History {
    /// Crashes before the first change, and then in each change and sync: when it has been begun and nobody has been told
    /// that it is done. With each, the last mark before it.
    pub(crate) fn crashes(&self) -> impl Iterator<Item = Crash> {
        let mut plate = Plate::holding(self.start.clone());
        let mut mark = None;
        let first = Crash {
            step: 0,
            mark,
            plate: plate.clone(),
        };
        let events = self.events.iter().enumerate().filter_map(move |(step, event)| {
            match event {
                Event::Mark(new) => {
                    mark = Some(*new);
                    return None;
                }
                Event::Change(change) => plate.pending.push(change.clone()),
                Event::Sync => {}
            }
            let crash = Crash {
                step: step + 1,
                mark,
                plate: plate.clone(),
            };
            if matches!(event, Event::Sync) {
                plate.sync();
            }
            Some(crash)
        });
        std::iter::once(first).chain(events)
    }
}

/// The moment of a crash.
pub(crate) struct Crash {
    /// The place in the history.
    pub(crate) step: usize,
    /// The last mark before it.
    pub(crate) mark: Option<usize>,
    plate: Plate,
}

impl Crash {
    /// What may be on the disk afterwards.
    pub(crate) fn image(&self, seed: u64) -> Vec<u8> {
        self.plate.crash(seed)
    }
}

/// What is certain to survive a crash, and the changes that may.
#[derive(Clone)]
struct Plate {
    durable: Vec<u8>,
    pending: Vec<Change>,
}

impl Plate {
    const fn holding(image: Vec<u8>) -> Self {
        Self {
            durable: image,
            pending: Vec::new(),
        }
    }

    fn sync(&mut self) {
        for change in self.pending.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    /// Each piece of each unsynced change has happened or not, independently of all others: that is what any order of them
    /// comes to. Seeds 0 and 1 are the extremes, nothing and everything; of the others, every other one tears within
    /// sectors too.
    fn crash(&self, seed: u64) -> Vec<u8> {
        let mut image = self.durable.clone();
        if seed == 1 {
            for change in &self.pending {
                change.apply(&mut image);
            }
        }
        if seed < 2 {
            return image;
        }
        let mut random = Random::new(seed);
        // From nearly nothing to nearly everything.
        let kept = 1 + random.below(15);
        let whole_sectors = seed.is_multiple_of(2);
        let lengths: Vec<_> = std::iter::once(image.len())
            .chain(self.pending.iter().filter_map(|change| match change {
                Change::SetSize(len) => Some(*len),
                Change::Write { .. } => None,
            }))
            .collect();
        let len = *lengths.get(random.below(lengths.len())).unwrap();

        for change in &self.pending {
            match change {
                Change::SetSize(len) => {
                    // What was cut off reads as zero when the file grows again.
                    if *len < image.len() && random.below(16) < kept {
                        image.get_mut(*len..).unwrap().fill(0);
                    }
                }
                Change::Write { offset, bytes } => {
                    let mut from = 0;
                    while from < bytes.len() {
                        let to_sector_end = SECTOR - (offset + from) % SECTOR;
                        let piece = if whole_sectors {
                            to_sector_end
                        } else {
                            1 + random.below(to_sector_end)
                        };
                        let to = bytes.len().min(from + piece);
                        if random.below(16) < kept {
                            put(&mut image, offset + from, bytes.get(from..to).unwrap());
                        }
                        from = to;
                    }
                }
            }
        }
        image.resize(len, 0);
        image
    }
}

/// What a disk writes at once, if anything.
const SECTOR: usize = 512;

#[derive(Clone)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    SetSize(usize),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Self::Write { offset, bytes } => put(image, *offset, bytes),
            Self::SetSize(len) => image.resize(*len, 0),
        }
    }
}

fn put(image: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if image.len() < end {
        image.resize(end, 0);
    }
    image.get_mut(offset..end).unwrap().copy_from_slice(bytes);
}

/// Numbers that look random and are the same for the same seed (splitmix64).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`; zero if there is none.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound).unwrap().max(1);
        usize::try_from(self.next() % bound).unwrap()
    }
}

#[test]
fn what_was_synced_survives_every_crash() {
    let disk = Disk::new();
    disk.set_size(2048).unwrap();
    disk.write_at(100, &[7; 1000]).unwrap();
    disk.sync().unwrap();
    disk.write_at(1500, &[9; 100]).unwrap();
    for seed in 0..100 {
        assert_eq!(
            disk.crash(seed).get(..1500),
            disk.image().get(..1500),
            "seed {seed}"
        );
    }
}

#[test]
fn what_was_not_synced_survives_in_any_part() {
    let disk = Disk::holding(vec![0; 4096]);
    disk.write_at(0, &[1; 4096]).unwrap();
    let survived: std::collections::BTreeSet<_> = (0..100)
        .map(|seed| disk.crash(seed).iter().filter(|byte| **byte == 1).count())
        .collect();
    assert!(survived.contains(&0) && survived.contains(&4096), "{survived:?}");
    assert!(survived.contains(&512), "one sector: {survived:?}");
    assert!(
        survived.iter().any(|count| !count.is_multiple_of(SECTOR)),
        "part of one: {survived:?}"
    );
}

#[test]
fn of_two_unsynced_writes_the_second_may_survive_alone() {
    let disk = Disk::holding(vec![0; 4096]);
    disk.write_at(0, &[1; 512]).unwrap();
    disk.write_at(1024, &[1; 512]).unwrap();
    let second_alone = |image: Vec<u8>| (image.first(), image.get(1024)) == (Some(&0), Some(&1));
    assert!((0..100).any(|seed| second_alone(disk.crash(seed))));
}

#[test]
fn a_history_crashes_in_each_change_once() {
    let disk = Disk::holding(vec![0; 512]);
    disk.mark(1);
    disk.write_at(0, &[1; 10]).unwrap();
    disk.sync().unwrap();
    disk.mark(2);
    disk.write_at(0, &[2; 10]).unwrap();
    let seen: Vec<_> = disk
        .history()
        .crashes()
        .map(|crash| {
            (
                crash.mark,
                crash.image(0).first().copied(),
                crash.image(1).first().copied(),
            )
        })
        .collect();
    assert_eq!(
        seen,
        [
            (None, Some(0), Some(0)),
            (Some(1), Some(0), Some(1)),
            (Some(1), Some(0), Some(1)),
            (Some(2), Some(1), Some(2)),
        ]
    );
}

#[test]
fn a_change_fails_with_the_effect_that_was_asked_for() {
    for effect in Effect::ALL {
        let disk = Disk::holding(vec![0; 512]);
        disk.write_at(0, &[1; 10]).unwrap();
        disk.fail(Failure {
            changes: 1..2,
            only: None,
            error: rustix::io::Errno::NOSPC,
            effect,
        });
        let error = disk.sync().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let (visible, certain, possible) = match effect {
            Effect::None => (1, 0, 1),
            Effect::Part => (1, disk.crash(0).first().copied().unwrap(), 1),
            Effect::Whole => (1, 1, 1),
            Effect::Lost => (1, 0, 0),
            Effect::Forgotten => (0, 0, 0),
        };
        assert_eq!(disk.image().first(), Some(&visible), "{effect:?}");
        assert_eq!(disk.crash(0).first(), Some(&certain), "{effect:?}");
        assert_eq!(disk.crash(1).first(), Some(&possible), "{effect:?}");
        disk.write_at(0, &[3; 10]).unwrap();
        disk.sync().unwrap();
        assert_eq!(disk.crash(0).first(), Some(&3), "{effect:?}: it is over");
    }
}
