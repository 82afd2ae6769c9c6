//! Servers that crash and start from their snapshots: from the newest one, the one before it, a damaged one; with the store at
//! hand or cut off from it; soon or when their snapshots are too old; and with another store than they were written of.
//!
//! What is checked beside the properties of answers: (s1) whoever has written a snapshot starts without its store, however it
//! ended, unless its disk was harmed since; (s2) nobody answers from a snapshot that is older than allowed.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tessera_core::stream::StreamKind;
use tessera_ports::memory::{Backup, SplitMix64};
use tokio::time::Instant;

use crate::checks;
use crate::cluster::{Cluster, PROCESSES, SNAPSHOT_AGE_MAX};
use crate::faults::{STANDSTILL_MAX, SWEEP, Storm, cut_all};
use crate::journal::Journal;
use crate::line::Slowness;

/// What the writing of a snapshot pauses for between two parts of the rows, at most: much changes meanwhile.
pub const SNAPSHOT_STEP_MAX: Duration = Duration::from_millis(30);
/// How soon a server serves its snapshot that cannot reach its store: twice what it waits for that.
const SERVES_WITHIN: Duration = Duration::from_millis(300);
/// How old a copy is at most when everything moves to it.
const COPY_AGE_MAX: Duration = Duration::from_millis(900);
/// A snapshot that is nearly too old may be too old when it is looked at.
const NEARLY: Duration = Duration::from_millis(50);

/// Servers crash and start from their snapshots, until `stop` says so and once more.
pub async fn now_and_then(cluster: Rc<Cluster>, mut random: SplitMix64, storm: Storm, stop: Rc<Cell<bool>>) {
    while !stop.get() {
        tokio::time::sleep(random.duration(Duration::from_millis(900))).await;
        restart(&cluster, &mut random, storm).await;
    }
    // Nobody writes any more who would repair what is missing by chance.
    restart(&cluster, &mut random, storm).await;
}

async fn restart(cluster: &Cluster, random: &mut SplitMix64, storm: Storm) {
    let place = random.index(PROCESSES);
    let folder = cluster.folder(place);
    match random.below(10) {
        0 | 1 => folder.lose_newest(),
        2 => folder.damage_newest(|file| file.truncate(file.len() / 2)),
        3 => {
            let bit = random.below(1 << 20);
            folder.damage_newest(|file| flip(file, bit));
        }
        4 => folder.fail_writes(2),
        _ => {}
    }
    cluster.crash_server(place);
    if random.chance(400) {
        let line = cluster.server(place).process.line;
        line.cut();
        tokio::time::sleep(random.duration(STANDSTILL_MAX)).await;
        let cut = storm.cuts && random.chance(500);
        if cut {
            cut_all(cluster, random).await;
            // It hydrates again, slowly, and crashes in the middle of that or soon after.
            line.slow(Slowness { scans: STANDSTILL_MAX, ..Slowness::default() });
        }
        line.mend();
        if cut {
            tokio::time::sleep(SWEEP + random.duration(STANDSTILL_MAX)).await;
            cluster.crash_server(place);
        }
    }
}

/// One bit is another.
fn flip(file: &mut [u8], bit: u64) {
    let length = u64::try_from(file.len()).unwrap_or(u64::MAX).max(1);
    let at = usize::try_from(bit / 8 % length).unwrap_or(0);
    if let Some(byte) = file.get_mut(at) {
        *byte ^= 1 << (bit % 8);
    }
}

/// Who does hardly anything but start servers anew.
#[derive(Debug)]
pub struct Restarts {
    random: SplitMix64,
    cluster: Rc<Cluster>,
    journal: Rc<Journal>,
    /// How many snapshots each server had finished when its disk was last harmed.
    harmed_at: [u64; PROCESSES],
    /// Whether a server was gone until its snapshots were too old.
    was_long_gone: bool,
}

/// When everything moves to a store that was made of a copy.
#[derive(Debug)]
enum Moving {
    Never,
    /// The copy is made then.
    Copied(Instant),
    /// It is made; everything moves then.
    Moved(Instant, Backup),
}

impl Restarts {
    /// Of these processes.
    pub fn new(cluster: &Rc<Cluster>, journal: &Rc<Journal>, random: SplitMix64) -> Self {
        Self { random, cluster: Rc::clone(cluster), journal: Rc::clone(journal), harmed_at: [0; PROCESSES], was_long_gone: false }
    }

    /// Again and again, until `stop` says so, and then all at once, with nobody writing who would repair by chance what is missing.
    pub async fn run(mut self, stop: Rc<Cell<bool>>) {
        let mut moving = self.moving();
        while !stop.get() {
            tokio::time::sleep(self.random.duration(Duration::from_millis(500))).await;
            moving = match moving {
                Moving::Copied(at) if Instant::now() >= at => {
                    let copy = self.cluster.store.back_up(&StreamKind::ALL);
                    Moving::Moved(Instant::now() + Duration::from_millis(200) + self.random.duration(COPY_AGE_MAX), copy)
                }
                Moving::Moved(at, copy) if Instant::now() >= at => {
                    self.cluster.move_to_another_store(&copy, "simulated-another", "topic-another");
                    Moving::Never
                }
                later => {
                    let place = self.random.index(PROCESSES);
                    self.restart(place).await;
                    later
                }
            };
        }
        for place in 0..PROCESSES {
            self.harm(place);
            self.cluster.stop_server(place);
        }
        for place in 0..PROCESSES {
            self.start(place).await;
        }
    }

    fn moving(&mut self) -> Moving {
        if self.random.chance(400) { Moving::Copied(Instant::now() + self.random.duration(COPY_AGE_MAX)) } else { Moving::Never }
    }

    async fn restart(&mut self, place: usize) {
        self.harm(place);
        self.cluster.stop_server(place);
        if !self.was_long_gone && self.random.chance(100) {
            self.was_long_gone = true;
            tokio::time::sleep(SNAPSHOT_AGE_MAX + self.random.duration(STANDSTILL_MAX)).await;
        }
        self.start(place).await;
    }

    /// With the store at hand, or without.
    async fn start(&mut self, place: usize) {
        self.cluster.start_server(place);
        if self.random.chance(600) {
            self.without_the_store(place).await;
        }
    }

    /// What disks do.
    fn harm(&mut self, place: usize) {
        let folder = self.cluster.folder(place);
        match self.random.below(10) {
            0 => folder.lose_newest(),
            1 => folder.damage_newest(|file| file.truncate(file.len() / 2)),
            2..6 => {
                let bit = self.random.below(1 << 20);
                folder.damage_newest(|file| flip(file, bit));
            }
            6 => return folder.fail_writes(2),
            _ => return,
        }
        self.harmed_at[place] = folder.finished().count;
    }

    /// The server that has just been started is cut off for a while, from its first moment on.
    async fn without_the_store(&mut self, place: usize) {
        let server = self.cluster.server(place);
        let line = &server.process.line;
        line.cut();
        let finished = self.cluster.folder(place).finished();
        let is_young = finished.begun.is_some_and(|begun| begun.elapsed() + NEARLY < SNAPSHOT_AGE_MAX);
        let until = Instant::now() + SERVES_WITHIN;
        let is_served = tokio::time::timeout_at(until, server.handle.loaded()).await.is_ok();
        if !is_served && is_young && finished.count > self.harmed_at[place] {
            self.journal.violated(format!(
                "s1: server {place} has finished {} snapshots, {} since its disk was harmed, and cannot start without its store",
                finished.count,
                finished.count - self.harmed_at[place]
            ));
        }
        checks::ask_of_all(&self.cluster, &self.journal, place).await;
        tokio::time::sleep(self.random.duration(STANDSTILL_MAX / 2)).await;
        line.mend();
    }
}
