//! Writers on a few tenants through all loaders at once, which go on whatever happens to the processes: a command is sent, again
//! and again and to another loader each time, until somebody acknowledges it.
//!
//! Each writer raises limits of its own on tenants that all share, so that whoever reads knows how new an answer is. Writers ask
//! servers too, for what they have written themselves and for what another one writes meanwhile; [`check_all_servers`] looks at all
//! that they were answered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::commands::{Change, Command, Ledger};
use crate::history::Read;
use crate::waiting::eventually;
use crate::{Planes, shop};

/// How long a command is sent again: an engine may be started again meanwhile.
const SENT_AGAIN_FOR: Duration = Duration::from_mins(3);
/// Between two attempts.
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Every so many acknowledged commands a writer asks a server whether it knows.
const CHECK_EVERY: usize = 8;

/// Writers at work.
#[derive(Debug)]
pub struct Load {
    writers: JoinSet<anyhow::Result<Written>>,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    acknowledged: AtomicUsize,
    stopping: AtomicBool,
}

/// What writers have done.
#[derive(Debug, Default)]
pub struct Written {
    /// What was acknowledged and answered.
    pub ledger: Ledger,
    /// How many attempts were not, by code and reason.
    pub failed: BTreeMap<String, usize>,
    /// How many answers rested on a demanded revision.
    pub fresh: usize,
    /// How many answers were refused since the server was behind, or away.
    pub behind: usize,
}

/// The tenants that all writers change.
pub fn tenants(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("shared-{number}")).collect()
}

fn limit_of(writer: usize) -> String {
    format!("pieces-{writer}")
}

/// Opens the shop, with a limit for every writer, and makes the tenants.
pub async fn prepare(planes: &Planes, writers: usize, tenants: &[String]) -> anyhow::Result<Ledger> {
    shop::open(planes).await?;
    for writer in 0..writers {
        shop::limit(planes, &limit_of(writer)).await?;
    }
    let mut ledger = Ledger::default();
    for tenant in tenants {
        let create = Command { tenant: tenant.clone(), request_id: format!("create-{tenant}"), change: Change::Create };
        let answer = create.send(planes, false).await.with_context(|| format!("create `{tenant}`"))?;
        ledger.note(create, answer);
    }
    Ok(ledger)
}

impl Load {
    /// Begins. Request ids begin with `name`, and values are greater than `above`, which is that of all loads before.
    pub fn begin(name: &str, writers: usize, tenants: &[String], planes: &[Planes], above: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let mut tasks = JoinSet::new();
        for number in 0..writers {
            let writer = Writer {
                name: format!("{name}-{number}"),
                number,
                writers,
                tenants: tenants.to_vec(),
                planes: planes.to_vec(),
                above,
                shared: Arc::clone(&shared),
            };
            tasks.spawn(writer.run());
        }
        Self { writers: tasks, shared }
    }

    /// How many commands are acknowledged by now.
    pub fn acknowledged(&self) -> usize {
        self.shared.acknowledged.load(Ordering::Relaxed)
    }

    /// Waits until so many more are acknowledged.
    pub async fn goes_on(&self, more: usize) -> anyhow::Result<()> {
        let wanted = self.acknowledged() + more;
        eventually("acknowledged commands", async || {
            let acknowledged = self.acknowledged();
            anyhow::ensure!(acknowledged >= wanted, "{acknowledged} of {wanted}");
            Ok(())
        })
        .await
    }

    /// Waits until the command that each writer is at is acknowledged.
    pub async fn stop(mut self) -> anyhow::Result<Written> {
        self.shared.stopping.store(true, Ordering::Relaxed);
        let mut all = Written::default();
        while let Some(writer) = self.writers.join_next().await {
            let Written { ledger, failed, fresh, behind } = writer.context("a writer panicked")??;
            all.ledger.append(ledger);
            for (reason, count) in failed {
                *all.failed.entry(reason).or_default() += count;
            }
            all.fresh += fresh;
            all.behind += behind;
        }
        Ok(all)
    }
}

struct Writer {
    name: String,
    number: usize,
    writers: usize,
    tenants: Vec<String>,
    planes: Vec<Planes>,
    above: usize,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(self) -> anyhow::Result<Written> {
        let mut written = Written::default();
        let mut count = 0;
        while !self.shared.stopping.load(Ordering::Relaxed) {
            count += 1;
            let tenant = self.tenants.get((self.number + count) % self.tenants.len()).context("there are tenants")?;
            let maximum = i64::try_from(self.above + count)?;
            let command = Command {
                tenant: tenant.clone(),
                request_id: format!("{}-{count}", self.name),
                change: Change::Limit { limit: limit_of(self.number), maximum },
            };
            self.write(&command, count, &mut written).await?;
            self.shared.acknowledged.fetch_add(1, Ordering::Relaxed);
            if count % CHECK_EVERY == 0 {
                self.check(&command, maximum, &mut written).await?;
            }
        }
        Ok(written)
    }

    /// Sends a command until it is acknowledged.
    async fn write(&self, command: &Command, count: usize, written: &mut Written) -> anyhow::Result<()> {
        let deadline = Instant::now() + SENT_AGAIN_FOR;
        let mut pauses = tokio::time::interval(AGAIN_AFTER);
        pauses.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for attempt in 0.. {
            pauses.tick().await;
            let planes = self.planes.get((self.number + count + attempt) % self.planes.len()).context("there are loaders")?;
            match command.send(planes, attempt > 0).await {
                Ok(answer) => {
                    written.ledger.note(command.clone(), answer);
                    break;
                }
                Err(status) if is_to_be_tried_again(&status) && Instant::now() < deadline => {
                    *written.failed.entry(reason_of(&status)).or_default() += 1;
                }
                Err(status) => return Err(anyhow::Error::new(status).context(format!("{command:?}, attempt {attempt}"))),
            }
        }
        Ok(())
    }

    /// A server that is asked for what was acknowledged answers that, something newer, or not; of another writer's limit it knows
    /// what there was by then, which is looked at when all writes are known.
    async fn check(&self, command: &Command, maximum: i64, written: &mut Written) -> anyhow::Result<()> {
        let planes = self.planes.get(usize::try_from(maximum)? / CHECK_EVERY % self.planes.len()).context("there are servers")?;
        let Some((_, answer)) = written.ledger.last() else { return Ok(()) };
        let demanded = answer.revision.clone();
        for writer in [self.number, (self.number + 1) % self.writers] {
            match Read::ask(planes, &command.tenant, &limit_of(writer), &demanded).await {
                Ok(read) => {
                    let is_old = writer == self.number && read.maximum < maximum;
                    anyhow::ensure!(!is_old, "an answer older than demanded: {read:?} after {command:?}");
                    written.fresh += 1;
                    written.ledger.heard(read);
                }
                // The server is behind, or its process has just gone.
                Err(status) if is_to_be_tried_again(&status) => written.behind += 1,
                Err(status) => return Err(anyhow::Error::new(status).context(format!("check after {command:?}"))),
            }
        }
        Ok(())
    }
}

/// The code, and the reason where it is ours.
pub fn reason_of(status: &Status) -> String {
    let ours = status.get_details_error_info();
    ours.map_or_else(|| format!("{:?}", status.code()), |info| format!("{:?} {}", status.code(), info.reason))
}

/// Anything that a process says which dies, cannot reach its store, or is not reached itself.
fn is_to_be_tried_again(status: &Status) -> bool {
    let passing = [Code::Unavailable, Code::Aborted, Code::Cancelled, Code::DeadlineExceeded, Code::ResourceExhausted];
    // A broken connection in the middle of an answer is told as `Unknown`.
    passing.contains(&status.code()) || status.code() == Code::Unknown
}

/// Every answer that writers got was right, and every server knows what was acknowledged last, when it is asked for that much.
/// Returns how many answers of now were looked at.
pub async fn check_all_servers(ledger: &Ledger, planes: &[Planes]) -> anyhow::Result<usize> {
    ledger.check_reads().context("what writers were answered")?;
    let mut looked = 0;
    for (command, answer) in ledger.newest_limits() {
        let Change::Limit { limit, maximum } = &command.change else { continue };
        for planes in planes {
            let found = planes.limit_at_least(&command.tenant, limit, answer.revision.clone()).await;
            let found = found.with_context(|| format!("check after {command:?}"))?;
            anyhow::ensure!(found >= *maximum, "an answer older than demanded: {found} after {command:?}");
            looked += 1;
        }
    }
    Ok(looked)
}
