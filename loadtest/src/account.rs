//! What became of the messages: every one that was due is answered, failed or not sent, and each of these is counted by name.
//!
//! Accounts of workers are added up. Nothing here looks at a clock; latencies come as arguments and count from when a message
//! was due.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

/// Longest latency that is told apart: beyond every deadline.
const LATENCY_MAX: Duration = Duration::from_hours(2);
/// Digits of latencies that count.
const DIGITS: u8 = 3;
/// A message that leaves later than this after it was due, though nothing but the generator held it, is late.
pub const LATE: Duration = Duration::from_millis(1);
/// Wrong answers that are kept to be shown.
pub const EXAMPLES_MAX: usize = 10;

/// Why a message could not be sent before its deadline was over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hold {
    /// As many messages were under way as may be.
    UnderWay,
    /// There was no connection (or no stream on one).
    NoConnection,
    /// The generator itself did not come to it.
    Generator,
}

impl Hold {
    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::UnderWay => "IN_FLIGHT_LIMIT",
            Self::NoConnection => "NO_CONNECTION",
            Self::Generator => "GENERATOR_TOO_SLOW",
        }
    }
}

/// What went wrong, by name: counted together.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cause {
    /// gRPC's code, or `CLIENT` where no status came.
    pub code: String,
    /// Tessera's stable reason, or what the generator saw; may be empty.
    pub reason: String,
}

/// How often, and what was said the first time.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Occurrences {
    /// How often.
    pub count: u64,
    /// The first one's message.
    pub example: String,
}

/// An answer that was not the expected one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrongAnswer {
    /// Who was asked about.
    pub tenant_id: String,
    /// Which service.
    pub service: String,
    /// Which feature of it.
    pub feature: String,
    /// What the answer should have said.
    pub expected: String,
    /// What it said.
    pub answered: String,
}

/// What became of the messages of a step, or of one worker's part of it.
#[derive(Debug, Clone)]
pub struct Account {
    /// Messages that were due.
    pub due: u64,
    /// Messages with an answer, whatever it says.
    pub answered: u64,
    /// Messages that were sent and got no answer.
    pub failed: u64,
    /// Messages that could not be sent before their deadline, by what held them.
    pub not_sent: BTreeMap<Hold, u64>,
    /// Messages that left late though nothing but the generator held them.
    pub late: u64,
    /// Checks with an answer.
    pub checks: u64,
    /// Checks that failed by themselves in messages that were answered.
    pub failed_checks: u64,
    /// Checks with an answer that is not the expected one.
    pub wrong: u64,
    /// The first of them.
    pub examples: Vec<WrongAnswer>,
    /// Failures of messages and of single checks.
    pub errors: BTreeMap<Cause, Occurrences>,
    /// Connections and streams that broke or could not be made.
    pub broken: BTreeMap<Cause, Occurrences>,
    /// From when a message was due until its whole answer was there; answered messages, in nanoseconds.
    pub latency: Histogram<u64>,
    /// From when a message was due until it was sent, where nothing but the generator held it; in nanoseconds.
    pub lateness: Histogram<u64>,
    /// From when a message was due until a server had refused it as a whole; they are among the failed, in nanoseconds.
    pub refusal: Histogram<u64>,
    /// The same from when it was sent.
    pub refusal_since_sent: Histogram<u64>,
}

impl Account {
    /// Nothing happened yet.
    pub fn new() -> anyhow::Result<Self> {
        let highest = nanos(LATENCY_MAX);
        Ok(Self {
            due: 0,
            answered: 0,
            failed: 0,
            not_sent: BTreeMap::new(),
            late: 0,
            checks: 0,
            failed_checks: 0,
            wrong: 0,
            examples: Vec::new(),
            errors: BTreeMap::new(),
            broken: BTreeMap::new(),
            latency: Histogram::new_with_max(highest, DIGITS)?,
            lateness: Histogram::new_with_max(highest, DIGITS)?,
            refusal: Histogram::new_with_max(highest, DIGITS)?,
            refusal_since_sent: Histogram::new_with_max(highest, DIGITS)?,
        })
    }

    /// A message left that long after it was due. `held`: something else than the generator held it.
    pub fn sent(&mut self, lateness: Duration, held: bool) {
        self.due += 1;
        if !held {
            self.lateness.saturating_record(nanos(lateness));
            self.late += u64::from(lateness > LATE);
        }
    }

    /// A message was not sent before its deadline.
    pub fn not_sent(&mut self, hold: Hold) {
        self.due += 1;
        *self.not_sent.entry(hold).or_default() += 1;
    }

    /// An answer came that long after its message was due.
    pub fn answered(&mut self, latency: Duration) {
        self.answered += 1;
        self.latency.saturating_record(nanos(latency));
    }

    /// A message that was sent got no answer.
    pub fn failed(&mut self, cause: Cause, said: &str) {
        self.failed += 1;
        note(&mut self.errors, cause, said);
    }

    /// A message that was sent failed because a server refused it, so long after it was due and after it was sent.
    pub fn refused(&mut self, latency: Duration, since_sent: Duration, cause: Cause, said: &str) {
        self.refusal.saturating_record(nanos(latency));
        self.refusal_since_sent.saturating_record(nanos(since_sent));
        self.failed(cause, said);
    }

    /// A single check failed in a message that was answered.
    pub fn failed_check(&mut self, cause: Cause, said: &str) {
        self.failed_checks += 1;
        note(&mut self.errors, cause, said);
    }

    /// A connection or stream broke, or could not be made.
    pub fn broke(&mut self, cause: Cause, said: &str) {
        note(&mut self.broken, cause, said);
    }

    /// A wrong answer; `describe` is asked only for the first few.
    pub fn wrong(&mut self, describe: impl FnOnce() -> WrongAnswer) {
        self.wrong += 1;
        if self.examples.len() < EXAMPLES_MAX {
            self.examples.push(describe());
        }
    }

    /// Messages that could not be sent.
    pub fn not_sent_count(&self) -> u64 {
        self.not_sent.values().sum()
    }

    /// Messages whose fate is not known yet.
    pub fn under_way(&self) -> u64 {
        self.due.saturating_sub(self.answered + self.failed + self.not_sent_count())
    }

    /// Adds what another worker counted.
    pub fn add(&mut self, other: Self) -> anyhow::Result<()> {
        self.due += other.due;
        self.answered += other.answered;
        self.failed += other.failed;
        self.late += other.late;
        self.checks += other.checks;
        self.failed_checks += other.failed_checks;
        self.wrong += other.wrong;
        for (hold, count) in other.not_sent {
            *self.not_sent.entry(hold).or_default() += count;
        }
        self.examples.extend(other.examples);
        self.examples.truncate(EXAMPLES_MAX);
        add(&mut self.errors, other.errors);
        add(&mut self.broken, other.broken);
        self.latency.add(other.latency)?;
        self.lateness.add(other.lateness)?;
        self.refusal.add(other.refusal)?;
        self.refusal_since_sent.add(other.refusal_since_sent)?;
        Ok(())
    }
}

fn note(counts: &mut BTreeMap<Cause, Occurrences>, cause: Cause, said: &str) {
    let occurrences = counts.entry(cause).or_insert_with(|| Occurrences { count: 0, example: said.to_owned() });
    occurrences.count += 1;
}

fn add(counts: &mut BTreeMap<Cause, Occurrences>, others: BTreeMap<Cause, Occurrences>) {
    for (cause, other) in others {
        let occurrences = counts.entry(cause).or_insert_with(|| Occurrences { count: 0, example: other.example });
        occurrences.count += other.count;
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Something that happens to a message.
    #[derive(Debug, Clone)]
    enum Fate {
        Answered { late: u64, latency: u64, held: bool },
        Failed(u8),
        Refused { late: u64, wait: u64 },
        NotSent(Hold),
        Wrong(u8),
    }

    fn fate() -> impl Strategy<Value = Fate> {
        let hold = prop_oneof![Just(Hold::UnderWay), Just(Hold::NoConnection), Just(Hold::Generator)];
        prop_oneof![
            4 => (0..5_000_000_u64, 0..100_000_000_000_u64, any::<bool>())
                .prop_map(|(late, more, held)| Fate::Answered { late, latency: late + more, held }),
            1 => (0..3_u8).prop_map(Fate::Failed),
            1 => (0..5_000_000_u64, 0..100_000_000_000_u64).prop_map(|(late, wait)| Fate::Refused { late, wait }),
            1 => hold.prop_map(Fate::NotSent),
            1 => any::<u8>().prop_map(Fate::Wrong),
        ]
    }

    fn happen(account: &mut Account, fate: &Fate) {
        match fate {
            Fate::Answered { late, latency, held } => {
                account.sent(Duration::from_nanos(*late), *held);
                account.answered(Duration::from_nanos(*latency));
            }
            Fate::Failed(number) => {
                account.sent(Duration::ZERO, false);
                account.failed(Cause { code: "UNAVAILABLE".into(), reason: number.to_string() }, "said");
            }
            Fate::Refused { late, wait } => {
                account.sent(Duration::from_nanos(*late), true);
                let cause = Cause { code: "RESOURCE_EXHAUSTED".into(), reason: "OVERLOADED".into() };
                account.refused(Duration::from_nanos(late + wait), Duration::from_nanos(*wait), cause, "said");
            }
            Fate::NotSent(hold) => account.not_sent(*hold),
            Fate::Wrong(number) => account.wrong(|| WrongAnswer {
                tenant_id: number.to_string(),
                service: String::new(),
                feature: String::new(),
                expected: String::new(),
                answered: String::new(),
            }),
        }
    }

    fn counted<'a>(fates: impl IntoIterator<Item = &'a Fate>) -> Account {
        let mut account = Account::new().unwrap();
        fates.into_iter().for_each(|fate| happen(&mut account, fate));
        account
    }

    proptest! {
        #[test]
        fn parts_add_up_to_the_whole(fates in proptest::collection::vec(fate(), 0..100), cut in 0_usize..100) {
            let whole = counted(&fates);
            let (first, second) = fates.split_at(cut.min(fates.len()));
            let mut sum = counted(first);
            sum.add(counted(second)).unwrap();
            prop_assert_eq!(sum.latency, whole.latency);
            prop_assert_eq!(sum.lateness, whole.lateness);
            prop_assert_eq!((sum.refusal, sum.refusal_since_sent), (whole.refusal, whole.refusal_since_sent));
            prop_assert_eq!((sum.due, sum.answered, sum.failed, sum.late), (whole.due, whole.answered, whole.failed, whole.late));
            prop_assert_eq!(&sum.not_sent, &whole.not_sent);
            prop_assert_eq!(&sum.errors, &whole.errors);
            prop_assert_eq!((sum.wrong, &sum.examples), (whole.wrong, &whole.examples));
        }

        #[test]
        fn every_message_has_one_fate(fates in proptest::collection::vec(fate(), 0..100)) {
            let account = counted(&fates);
            let messages = fates.iter().filter(|fate| !matches!(fate, Fate::Wrong(_))).count() as u64;
            prop_assert_eq!(account.due, messages);
            prop_assert_eq!(account.under_way(), 0);
            prop_assert_eq!(account.latency.len(), account.answered);
            let refused = fates.iter().filter(|fate| matches!(fate, Fate::Refused { .. })).count() as u64;
            prop_assert_eq!((account.refusal.len(), account.refusal_since_sent.len()), (refused, refused));
            prop_assert!(account.refusal.max() >= account.refusal_since_sent.max());
            let failures: u64 = account.errors.values().map(|occurrences| occurrences.count).sum();
            prop_assert_eq!(failures, account.failed);
            let wrong = fates.iter().filter(|fate| matches!(fate, Fate::Wrong(_))).count();
            prop_assert_eq!(account.wrong, wrong as u64, "all are counted, few are kept");
            prop_assert_eq!(account.examples.len(), wrong.min(EXAMPLES_MAX));
        }

        /// A message that waited for others (or for the generator) is as slow as its caller sees it.
        #[test]
        fn waiting_counts_as_latency(late in 1_000_000_u64..1_000_000_000, service in 0_u64..1_000_000) {
            let mut account = Account::new().unwrap();
            account.sent(Duration::from_nanos(late), false);
            account.answered(Duration::from_nanos(late + service));
            prop_assert!(account.latency.max() >= late);
            prop_assert_eq!(account.late, u64::from(late > 1_000_000));
        }
    }
}
