//! Opening the database, step by step, and the handle on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tessera_core::stream::Epoch;
use tessera_ports::clock::IdSource;
use tessera_ports::event_store::StoreIdentity;

use crate::config::Config;
use crate::data_dir::DataDir;
use crate::error::{OpenError, Trouble};
use crate::fatal::{Fatal, Stop};
use crate::feed::Tip;
use crate::readers::Readers;
use crate::row::Told;
use crate::schema::SchemaVersions;
use crate::verdict::Verdict;
use crate::writer::{Writer, feed_rows};
use crate::{connection, integrity, schema};

/// The epoch of a new database, unless somebody says another.
const EPOCH_FIRST: Epoch = 1;

/// An open database: event store, feed, publisher and hint store in one. A cheap handle; when the last one is dropped, what
/// waits is written, the database is closed, and the directory is free for another process. Dropping the last one blocks for
/// that long.
#[derive(Debug, Clone)]
pub struct Sqlite(pub(crate) Arc<Inner>);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) identity: StoreIdentity,
    /// Damaged rows that the log has been told of.
    pub(crate) told: Told,
    pub(crate) tip: Tip,
    pub(crate) verdict: Verdict,
    // The readers go before the writer, which has the lock on the directory.
    pub(crate) readers: Readers,
    pub(crate) writer: Writer,
    schema: SchemaVersions,
    path: PathBuf,
    fatal: Fatal,
}

/// The checks of a database that is used already.
#[derive(Debug)]
pub struct Checks {
    path: PathBuf,
    page_bytes_max: u64,
    verdict: Verdict,
}

/// When a database is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before it is used.
    Now,
    /// While it is used already.
    Later,
}

impl Sqlite {
    /// As [`Self::open`], of a database that is there already; a directory without one is left alone.
    pub fn open_existing(config: &Config, ids: &dyn IdSource) -> Result<Self, OpenError> {
        config.validate().map_err(OpenError::Config)?;
        if !DataDir::has_database(&config.data_dir) {
            return Err(OpenError::Absent { path: config.data_dir.clone() });
        }
        Self::open(config, ids)
    }

    /// Opens the database in the directory of `config`, and makes both if they are not there; a new database is named by
    /// `ids`. Takes the directory for this process, brings the schema up to date, and checks what is stored. It blocks: for a
    /// million streams some seconds.
    pub fn open(config: &Config, ids: &dyn IdSource) -> Result<Self, OpenError> {
        Self::open_in_epoch(config, ids, EPOCH_FIRST)
    }

    /// As [`Self::open`]; a new database begins in `epoch`. One that is there keeps its own.
    pub fn open_in_epoch(config: &Config, ids: &dyn IdSource, epoch: Epoch) -> Result<Self, OpenError> {
        Ok(Self::open_and_check(config, ids, epoch, When::Now)?.0)
    }

    /// As [`Self::open`], for whoever has something to serve meanwhile: what is stored is checked by [`Checks::run`], which has to be
    /// called. Until it is over single streams can be read, and the feed, of which each is checked as it is read; scans and writes
    /// wait. If it finds damage the database is closed to everybody, and [`EventStore::problems`] says why.
    ///
    /// [`EventStore::problems`]: tessera_ports::EventStore::problems
    pub fn open_unchecked(config: &Config, ids: &dyn IdSource) -> Result<(Self, Checks), OpenError> {
        Self::open_and_check(config, ids, EPOCH_FIRST, When::Later)
    }

    fn open_and_check(config: &Config, ids: &dyn IdSource, epoch: Epoch, when: When) -> Result<(Self, Checks), OpenError> {
        config.validate().map_err(OpenError::Config)?;
        let data_dir = DataDir::take(&config.data_dir)?;
        let path = data_dir.database()?;
        let failed = |trouble: &Trouble| schema::open_error(&path, trouble);
        connection::check_library().map_err(|reason| OpenError::Sqlite { path: path.clone(), reason })?;
        let sqlite = |error: rusqlite::Error| failed(&Trouble::from(&error));
        let mut writer = connection::looking_on(&path).map_err(sqlite)?;
        let found = schema::recognize(&writer, &path)?;
        connection::prepare_writer(&writer).map_err(sqlite)?;
        let (identity, schema) = schema::prepare(&mut writer, &path, found, || StoreIdentity { epoch, store: ids.unique() })?;
        let page_bytes_max = config.page_check_bytes_max;
        let checks = Checks { path: path.clone(), page_bytes_max, verdict: Verdict::unchecked() };
        if when == When::Now {
            checks.run()?;
        }

        let tip = Tip::at(feed_rows(&writer).map_err(sqlite)?);
        let (stop, fatal) = Stop::new();
        let verdict = checks.verdict.clone();
        let readers = Readers::start(&path, config.readers, stop.clone(), verdict.clone()).map_err(|trouble| failed(&trouble))?;
        let writer = Writer::start(writer, data_dir, tip.clone(), config.change_rows_max, stop, verdict.clone());
        let writer = writer.map_err(|error| failed(&Trouble::Io(error.to_string())))?;
        tracing::info!(path = %path.display(), epoch = identity.epoch, database = identity.store, "the database is open");
        let told = Told::default();
        Ok((Self(Arc::new(Inner { identity, told, tip, verdict, readers, writer, schema, path, fatal })), checks))
    }

    /// Tells when the process must end because the disk cannot be relied on any more.
    pub fn fatal(&self) -> Fatal {
        self.0.fatal.clone()
    }

    /// Which database this is.
    pub fn which(&self) -> &StoreIdentity {
        &self.0.identity
    }

    /// The version of the schema before it was opened, and now.
    pub fn schema(&self) -> SchemaVersions {
        self.0.schema
    }

    /// The database file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }
}

impl Checks {
    /// Checks what is stored, and tells the database what came of it: it blocks as [`Sqlite::open`] does. When it could not be found
    /// out ([`OpenError::Damaged`] is an answer), it may be called again.
    pub fn run(&self) -> Result<(), OpenError> {
        let checked = integrity::check(&self.path, self.page_bytes_max);
        match &checked {
            Ok(()) => self.verdict.sound(),
            Err(error @ OpenError::Damaged { .. }) => self.verdict.damaged(&error.to_string()),
            Err(error) => self.verdict.unknown(&error.to_string()),
        }
        checked
    }
}
