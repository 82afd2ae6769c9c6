//! Settings of the embedded database. Only its place has no default.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Most readers that may be asked for: each has a page cache of its own.
const READERS_MAX: usize = 64;

/// Where the database is and how it is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Directory of the database, made (mode 0700) if it is not there. It belongs to one process at a time, and must be on a
    /// local disk.
    pub data_dir: PathBuf,
    /// How many of the newest rows of the feed are kept; at least 1,000. A reader who was away for longer reads everything
    /// again. Default 1,000,000.
    #[serde(default = "default_change_rows_max")]
    pub change_rows_max: u64,
    /// Threads that read beside the one that writes, 1 to 64. Default 4.
    #[serde(default = "default_readers")]
    pub readers: usize,
    /// The pages of a database up to this size, in bytes, are all looked at when it is opened; of a greater one only the ends
    /// of the streams. Default 268,435,456 (256 MiB), which takes about a second; 0 never.
    #[serde(default = "default_page_check_bytes_max")]
    pub page_check_bytes_max: u64,
}

fn default_change_rows_max() -> u64 {
    1_000_000
}

fn default_readers() -> usize {
    4
}

fn default_page_check_bytes_max() -> u64 {
    256 * 1024 * 1024
}

impl Config {
    /// Everything at its default, in this directory.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            change_rows_max: default_change_rows_max(),
            readers: default_readers(),
            page_check_bytes_max: default_page_check_bytes_max(),
        }
    }

    /// Says what is out of bounds: field, value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        if self.data_dir.as_os_str().is_empty() {
            return Err("data_dir is empty; allowed is the path of a directory".to_owned());
        }
        if self.change_rows_max < 1_000 {
            return Err(format!("change_rows_max is `{}`; allowed are 1000 and more", self.change_rows_max));
        }
        if self.readers == 0 || self.readers > READERS_MAX {
            return Err(format!("readers is `{}`; allowed are 1 to {READERS_MAX}", self.readers));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_named() {
        let good = Config::new("data");
        assert_eq!(good.validate(), Ok(()));
        let refused = |config: Config| config.validate().unwrap_err();
        assert_eq!(refused(Config { readers: 0, ..good.clone() }), "readers is `0`; allowed are 1 to 64");
        assert_eq!(refused(Config { readers: 65, ..good.clone() }), "readers is `65`; allowed are 1 to 64");
        assert_eq!(refused(Config { change_rows_max: 999, ..good }), "change_rows_max is `999`; allowed are 1000 and more");
        assert!(refused(Config::new("")).contains("data_dir is empty"));
    }
}
