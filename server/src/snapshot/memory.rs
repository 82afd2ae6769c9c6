//! A folder of snapshots in memory that outlives the processes of a simulation and can be damaged as disks are.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

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
        Ok(Box::new(Writing { folder: self.clone(), file: Vec::new() }))
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
}

impl SnapshotWriter for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.folder.state();
        if state.failures > 0 {
            state.failures -= 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> io::Result<()> {
        self.folder.put(self.file);
        Ok(())
    }
}
