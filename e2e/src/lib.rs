//! Black-box tests of the real binaries: what stands here starts `tessera`, waits for it, asks it and stops it.
//!
//! Nothing of server, loader or backends is linked in: only the messages of the API, and how revisions are read. The binary is
//! one that was built with the cargo feature `test-hooks`. Nothing pauses for a time: everything waits for a condition, up to a
//! deadline.
//!
//! - [`authority`]: certificates and their keys;
//! - [`binary`]: which binary, and running it to its end;
//! - [`process`]: a running process, whichever binary;
//! - [`dev`]: `tessera dev`;
//! - [`cluster`]: several loaders and servers over one store and one feed;
//! - [`history`]: what servers answered, held against what was acknowledged;
//! - [`load`]: writers that go on whatever happens to the processes;
//! - [`generator`]: the load generator, and the scenario that it asks about;
//! - [`proxy`]: connections that are cut, held up or deaf;
//! - [`lines`]: what a process prints, line by line;
//! - [`hostile`]: peers that mean no good, frame by frame;
//! - [`http`]: the pages for machines;
//! - [`planes`]: gRPC clients of both planes;
//! - [`shop`]: a small catalog and plan for suites that need something to sell;
//! - [`commands`]: commands whose fate is followed;
//! - [`tools`]: programs that are not ours;
//! - [`waiting`]: conditions and deadlines.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};

use anyhow::Context as _;

pub mod authority;
pub mod binary;
pub mod cluster;
pub mod commands;
pub mod dev;
pub mod generator;
pub mod history;
pub mod hostile;
pub mod http;
pub mod lines;
pub mod load;
pub mod planes;
pub mod process;
pub mod proxy;
pub mod shop;
pub mod tools;
pub mod waiting;

pub use dev::{Dev, Launch};
pub use planes::Planes;
pub use process::{Running, Start};

/// What a suite draws its randomness from: `TESSERA_SEED`, else any. Printed, so that a run can be repeated.
pub fn seed() -> anyhow::Result<u64> {
    let seed = match std::env::var("TESSERA_SEED") {
        Ok(text) => text.parse().with_context(|| format!("TESSERA_SEED is `{text}`; allowed are whole numbers"))?,
        Err(_) => RandomState::new().build_hasher().finish(),
    };
    println!("TESSERA_SEED={seed}");
    Ok(seed)
}
