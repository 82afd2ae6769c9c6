//! A folder of snapshots in memory that outlives the processes of a simulation and can be damaged as disks are. It keeps the rules
//! of the folder on a disk: a file is written beside the generations and becomes one when it is finished.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tessera_ports::hooks::{self, Guard};
use tokio::time::Instant;

use super::folder::{KEPT, SnapshotFolder, SnapshotReader, SnapshotWriter};

/// The folder; clones are the same folder.
#[derive(Debug, Clone)]
pub struct MemoryFolder(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    generations: BTreeMap<u64, Arc<Vec<u8>>>,
    /// How many more times writing fails.
    failures: u32,
    finished: Finished,
}

/// What writers have finished so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Finished {
    /// How many files.
    pub count: u64,
    /// When the newest of them was begun.
    pub begun: Option<Instant>,
}

impl MemoryFolder {
    /// Empty. Writers pause for so long after each step.
    pub fn new(pause: Duration) -> Self {
        Self(Arc::new(Inner { pause, state: Mutex::default() }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next so many writes fail, as on a full disk.
    pub fn fail_writes(&self, count: u32) {
        self.state().failures = count;
    }

    /// The newest generation is lost, as if the process had ended before it was finished.
    pub fn lose_newest(&self) {
        self.state().generations.pop_last();
    }

    /// Changes the newest generation, if there is one.
    pub fn damage_newest(&self, damage: impl FnOnce(&mut Vec<u8>)) {
        if let Some(mut newest) = self.state().generations.last_entry() {
            damage(Arc::make_mut(newest.get_mut()));
        }
    }

    /// What writers have finished, whatever became of it since.
    pub fn finished(&self) -> Finished {
        self.state().finished
    }

    /// Every generation, newest first.
    pub fn files(&self) -> Vec<Vec<u8>> {
        self.state().generations.values().rev().map(|file| file.to_vec()).collect()
    }

    /// Puts a file in as the newest generation.
    pub fn put(&self, file: Vec<u8>) {
        let mut state = self.state();
        let next = state.generations.last_key_value().map_or(0, |(newest, _)| *newest) + 1;
        state.generations.insert(next, Arc::new(file));
        while state.generations.len() > KEPT {
            state.generations.pop_first();
        }
    }
}

impl SnapshotFolder for MemoryFolder {
    fn generations(&self) -> io::Result<Vec<u64>> {
        Ok(self.state().generations.keys().rev().copied().collect())
    }

    fn open(&self, generation: u64) -> io::Result<Box<dyn SnapshotReader>> {
        let file = self.state().generations.get(&generation).cloned();
        Ok(Box::new(Reading(file.ok_or(io::ErrorKind::NotFound)?)))
    }

    fn begin(&self) -> io::Result<Box<dyn SnapshotWriter>> {
        // Without the guard: over the newest one.
        let over = (!hooks::holds(Guard::SnapshotWrittenBeside)).then(|| {
            let mut state = self.state();
            let newest = state.generations.last_key_value().map_or(0, |(newest, _)| *newest);
            state.generations.insert(newest, Arc::default());
            newest
        });
        Ok(Box::new(Writing { folder: self.clone(), file: Vec::new(), begun: Instant::now(), over }))
    }

    fn name(&self, generation: u64) -> String {
        format!("generation {generation}")
    }

    fn pause(&self) -> Option<Duration> {
        Some(self.0.pause)
    }
}

#[derive(Debug)]
struct Reading(Arc<Vec<u8>>);

impl SnapshotReader for Reading {
    fn length(&self) -> u64 {
        u64::try_from(self.0.len()).unwrap_or(u64::MAX)
    }

    fn read_at(&self, from: u64, bytes: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let there = self.0.get(from..from.saturating_add(bytes.len())).ok_or(io::ErrorKind::UnexpectedEof)?;
        bytes.copy_from_slice(there);
        Ok(())
    }
}

#[derive(Debug)]
struct Writing {
    folder: MemoryFolder,
    file: Vec<u8>,
    begun: Instant,
    /// The generation in whose place it is written, if it is not written beside.
    over: Option<u64>,
}

impl SnapshotWriter for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.folder.state();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.extend_from_slice(bytes);
        if let Some(file) = self.over.and_then(|generation| state.generations.get_mut(&generation)) {
            Arc::make_mut(file).extend_from_slice(bytes);
        }
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        if self.over.is_none() {
            self.folder.put(self.file);
        }
        let finished = &mut self.folder.state().finished;
        *finished = Finished { count: finished.count.saturating_add(1), begun: Some(self.begun) };
        Ok(())
    }
}
