//! What servers answered to those who demanded a revision, recorded while others write, and what of it contradicts what was
//! acknowledged, or what the same process had answered before.
//!
//! [`check`] is a function of what was recorded alone. It knows limits that no plan has: a tenant has of such a one what it was
//! given last, and nothing before.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::Context as _;
use tessera_core::revision::Revision;
use tessera_core::stream::{Epoch, Seq, StreamKind, stream_hash};
use tonic::Status;
use tonic::codegen::Bytes;

use crate::Planes;

/// Orders what happens in all tasks of a test.
static MOMENTS: AtomicU64 = AtomicU64::new(0);

/// An acknowledged write: the tenant has that much of the limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write<'a> {
    /// Which tenant.
    pub tenant: &'a str,
    /// Which limit.
    pub limit: &'a str,
    /// How much.
    pub maximum: i64,
    /// What the acknowledgement said.
    pub revision: &'a [u8],
}

/// An answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read {
    /// About which tenant.
    pub tenant: String,
    /// About which limit.
    pub limit: String,
    /// The revision that it was to rest on, or a newer one.
    pub demanded: Bytes,
    /// Who was asked.
    pub server: SocketAddr,
    /// Which of the server's processes has answered; `None`: another one was begun meanwhile.
    pub process: Option<u64>,
    /// The moment in which it was asked: each is another one, and later ones are greater.
    pub asked: u64,
    /// The moment in which the answer was there.
    pub heard: u64,
    /// What the answer rests on.
    pub revision: Bytes,
    /// How much there is.
    pub maximum: i64,
}

/// By tenant and limit: what was given at each seq of the tenant.
type Given<'a> = BTreeMap<(&'a str, &'a str), BTreeMap<Seq, (Epoch, i64)>>;

/// An answer whose revision was read.
struct Answer<'a> {
    read: &'a Read,
    rests_on: Revision,
}

// === impl Read ===

impl Read {
    /// Asks for what a tenant has of a limit, by an answer that rests on `demanded` or newer.
    pub async fn ask(planes: &Planes, tenant: &str, limit: &str, demanded: &Bytes) -> Result<Self, Status> {
        let moment = || MOMENTS.fetch_add(1, Ordering::SeqCst);
        let (before, asked) = (planes.server.begun(), moment());
        let (maximum, revision) = planes.limit_and_revision(tenant, limit, demanded.clone()).await?;
        let (heard, after) = (moment(), planes.server.begun());
        Ok(Self {
            tenant: tenant.to_owned(),
            limit: limit.to_owned(),
            demanded: demanded.clone(),
            server: planes.server.address,
            process: (before == after).then_some(before),
            asked,
            heard,
            revision,
            maximum,
        })
    }
}

/// Every answer rests on what was demanded or on something newer, and says what the writes say as of then; whoever asks a process
/// later than others were answered is answered from nothing older. `writes` are all there are to the limits that were asked about.
pub fn check(writes: &[Write<'_>], reads: &[Read]) -> anyhow::Result<()> {
    let mut given = Given::new();
    for write in writes {
        let (epoch, seq) = place(write.revision, write.tenant).with_context(|| format!("the revision of {write:?}"))?;
        given.entry((write.tenant, write.limit)).or_default().insert(seq, (epoch, write.maximum));
    }
    let mut answers = Vec::with_capacity(reads.len());
    for read in reads {
        let rests_on = Revision::parse(&read.revision).with_context(|| format!("the revision of {read:?}"))?;
        let answer = Answer { read, rests_on };
        answer.is_as_new_as_demanded()?;
        answer.says_what_was_given(&given)?;
        answers.push(answer);
    }
    nobody_goes_back(&answers)
}

/// Where a revision has that tenant.
fn place(revision: &[u8], tenant: &str) -> anyhow::Result<(Epoch, Seq)> {
    let revision = Revision::parse(revision)?;
    Ok((revision.epoch, seq_of(&revision, StreamKind::Tenant, tenant_hash(tenant)).context("it does not name the tenant")?))
}

fn tenant_hash(tenant: &str) -> u64 {
    stream_hash(StreamKind::Tenant, tenant)
}

fn seq_of(revision: &Revision, kind: StreamKind, hash: u64) -> Option<Seq> {
    let mut streams = revision.streams.iter();
    streams.find(|named| (named.kind, named.hash) == (kind, hash)).map(|named| named.seq)
}

fn nobody_goes_back(answers: &[Answer<'_>]) -> anyhow::Result<()> {
    let mut moments: Vec<(u64, &Answer<'_>)> = Vec::with_capacity(2 * answers.len());
    for answer in answers.iter().filter(|answer| answer.read.process.is_some()) {
        moments.extend([(answer.read.asked, answer), (answer.read.heard, answer)]);
    }
    moments.sort_unstable_by_key(|(moment, _)| *moment);
    // By process and stream.
    let mut heard = BTreeMap::new();
    for (moment, answer) in moments {
        let read = answer.read;
        for named in &answer.rests_on.streams {
            let (stream, at) = ((read.server, read.process, named.kind, named.hash), (answer.rests_on.epoch, named.seq));
            if moment == read.heard {
                let newest = heard.entry(stream).or_insert(at);
                *newest = at.max(*newest);
            } else if let Some(newest) = heard.get(&stream) {
                anyhow::ensure!(at >= *newest, "a process went back from {newest:?} to {at:?} in its answer {read:?}");
            }
        }
    }
    Ok(())
}

// === impl Answer ===

impl Answer<'_> {
    fn is_as_new_as_demanded(&self) -> anyhow::Result<()> {
        let Self { read, rests_on } = self;
        let demanded = Revision::parse(&read.demanded).with_context(|| format!("what was demanded of {read:?}"))?;
        anyhow::ensure!(rests_on.epoch >= demanded.epoch, "an answer of an older epoch than demanded: {read:?}");
        if rests_on.epoch > demanded.epoch {
            return Ok(());
        }
        for named in &demanded.streams {
            let has = seq_of(rests_on, named.kind, named.hash);
            // An answer need not name what it does not rest on; it always rests on the tenant.
            let is_met = has.map_or(named.kind != StreamKind::Tenant, |has| has >= named.seq);
            anyhow::ensure!(is_met, "an answer older than demanded: {named:?} was, it rests on {has:?}: {read:?}");
        }
        Ok(())
    }

    fn says_what_was_given(&self, given: &Given<'_>) -> anyhow::Result<()> {
        let Self { read, rests_on } = self;
        let seq = seq_of(rests_on, StreamKind::Tenant, tenant_hash(&read.tenant));
        let seq = seq.with_context(|| format!("an answer that does not rest on its tenant: {read:?}"))?;
        let of_limit = given.get(&(read.tenant.as_str(), read.limit.as_str()));
        let mut newest_first = of_limit.into_iter().flat_map(|given| given.range(..=seq).rev());
        let last = newest_first.find(|(_, (epoch, _))| *epoch <= rests_on.epoch);
        let expected = last.map_or(0, |(_, (_, maximum))| *maximum);
        anyhow::ensure!(read.maximum == expected, "at {seq} of the tenant it has {expected}, the answer is {read:?}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tessera_core::ids::TenantId;
    use tessera_core::revision::of_write;
    use tessera_core::stream::StreamId;

    use super::*;

    const LIMIT: &str = "pieces";
    const TENANT: &str = "acme";

    fn revision(epoch: Epoch, seq: Seq) -> Vec<u8> {
        of_write(epoch, &StreamId::Tenant(TenantId::parse(TENANT).unwrap()), seq)
    }

    /// Answered by the first process of a server, after all answers whose moment is smaller.
    fn read(moment: u64, demanded: Seq, answered: (Epoch, Seq), maximum: i64) -> Read {
        Read {
            tenant: TENANT.to_owned(),
            limit: LIMIT.to_owned(),
            demanded: revision(1, demanded).into(),
            server: SocketAddr::from(([127, 0, 0, 1], 1)),
            process: Some(1),
            asked: 2 * moment,
            heard: 2 * moment + 1,
            revision: revision(answered.0, answered.1).into(),
            maximum,
        }
    }

    /// The tenant got 10 at 3 and 20 at 6, and, after a restore, 30 at 7.
    fn found(reads: &[Read]) -> Result<(), String> {
        let revisions = [revision(1, 3), revision(1, 6), revision(2, 7)];
        let maxima = [10, 20, 30];
        let writes = revisions.iter().zip(maxima);
        let writes = writes.map(|(revision, maximum)| Write { tenant: TENANT, limit: LIMIT, maximum, revision });
        check(&writes.collect::<Vec<_>>(), reads).map_err(|error| format!("{error:#}"))
    }

    #[track_caller]
    fn violates(reads: &[Read], why: &str) {
        let told = found(reads).unwrap_err();
        assert!(told.contains(why), "{told}");
    }

    #[test]
    fn a_history_in_which_all_is_well_holds() {
        let reads = [
            read(0, 1, (1, 2), 0),
            read(1, 3, (1, 3), 10),
            read(2, 3, (1, 5), 10),
            read(3, 3, (1, 6), 20),
            // Others have written since.
            read(4, 6, (1, 9), 20),
            read(5, 6, (2, 7), 30),
        ];
        assert_eq!(found(&reads), Ok(()));
        assert_eq!(found(&[]), Ok(()));
    }

    #[test]
    fn an_answer_older_than_demanded_is_found() {
        violates(&[read(0, 6, (1, 5), 10)], "older than demanded");
        let demanded = revision(2, 1).into();
        violates(&[Read { demanded, ..read(0, 1, (1, 6), 20) }], "older epoch than demanded");
    }

    #[test]
    fn an_answer_that_is_not_what_its_revision_names_is_found() {
        violates(&[read(0, 3, (1, 6), 10)], "it has 20");
        violates(&[read(0, 3, (1, 5), 20)], "it has 10");
        violates(&[read(0, 1, (1, 2), 10)], "it has 0");
        // What was given after the restore was not there before it.
        violates(&[read(0, 1, (1, 8), 30)], "it has 20");
        let tenant = "globex".to_owned();
        violates(&[Read { tenant, ..read(0, 1, (1, 6), 20) }], "does not rest on its tenant");
    }

    #[test]
    fn a_process_that_goes_back_is_found() {
        let (newer, older) = (read(0, 3, (1, 6), 20), read(1, 3, (1, 5), 10));
        violates(&[newer.clone(), older.clone()], "went back from (1, 6) to (1, 5)");
        violates(&[older.clone(), newer.clone()], "went back from (1, 6) to (1, 5)");
        violates(&[read(0, 3, (2, 7), 30), read(1, 3, (1, 8), 20)], "went back from (2, 7) to (1, 8)");

        // Another process, another server, or one that may be either, and calls that were under way at the same time.
        for other in [
            Read { process: Some(2), ..older.clone() },
            Read { process: None, ..older.clone() },
            Read { server: SocketAddr::from(([127, 0, 0, 1], 2)), ..older.clone() },
            Read { asked: 0, ..older },
        ] {
            let newer = Read { asked: 1, heard: 2, ..newer.clone() };
            assert_eq!(found(&[newer, other]), Ok(()));
        }
    }
}
