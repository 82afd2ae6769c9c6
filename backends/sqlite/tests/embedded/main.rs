//! What the embedded database promises beyond the ports: it finds damage, keeps others out, survives a full disk, and feeds.

mod damage;
mod directory;
mod disk;
mod feeding;
mod restoring;
mod setup;
mod writing;
