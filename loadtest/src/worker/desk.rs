//! What the tasks of a worker share: the account, the questions, and how much is under way.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;
use tessera_benches::scenario;
use tessera_proto::v1;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::account::{Account, Hold, WrongAnswer};
use crate::answer::{self, Answer, Item, Malformed};
use crate::failure::Failed;
use crate::question::{Mode, Question, Questions};

/// Counters that other threads look at while the load runs.
#[derive(Debug, Default)]
pub struct Progress {
    /// Messages with an answer.
    pub answered: AtomicU64,
    /// Messages that failed or could not be sent.
    pub failed: AtomicU64,
    /// Checks with a wrong answer.
    pub wrong: AtomicU64,
    /// Answers of any kind, errors that a server told included: somebody is there.
    pub alive: AtomicU64,
}

/// When a message was due, and when it was sent: given to HTTP/2, on whose connection it may still wait for the other side.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) due: Instant,
    pub(super) sent: Instant,
}

/// Shared by the tasks of one worker. No borrow lives across a wait.
pub(super) struct Desk {
    questions: RefCell<Questions>,
    account: RefCell<Account>,
    mode: Mode,
    /// From when a message is due.
    pub(super) deadline: Duration,
    under_way: Cell<usize>,
    under_way_max: usize,
    changed: Notify,
    progress: Arc<Progress>,
}

impl Desk {
    pub(super) fn new(
        questions: Questions,
        mode: Mode,
        deadline: Duration,
        under_way_max: usize,
        progress: Arc<Progress>,
    ) -> anyhow::Result<Self> {
        Ok(Self {
            questions: RefCell::new(questions),
            account: RefCell::new(Account::new()?),
            mode,
            deadline,
            under_way: Cell::new(0),
            under_way_max,
            changed: Notify::new(),
            progress,
        })
    }

    /// A new account; the old one is returned. What broke before a step began is told with it.
    pub(super) fn begin(&self) -> anyhow::Result<Account> {
        let mut fresh = Account::new()?;
        let mut account = self.account.borrow_mut();
        if account.due == 0 {
            fresh.broken.clone_from(&account.broken);
        }
        Ok(std::mem::replace(&mut *account, fresh))
    }

    /// Whether nothing more may be sent at the moment.
    pub(super) fn full(&self) -> bool {
        self.under_way.get() >= self.under_way_max
    }

    /// Something may be possible now that was not before.
    pub(super) fn change(&self) {
        self.changed.notify_one();
    }

    /// Waits for that. Only the worker itself waits here.
    pub(super) fn changed(&self) -> impl Future<Output = ()> {
        self.changed.notified()
    }

    /// Waits until nothing is under way. Deadlines see to it that this ends.
    pub(super) async fn idle(&self) {
        while self.under_way.get() > 0 {
            self.changed().await;
        }
    }

    /// The next message to send.
    pub(super) fn draw(&self, id: u64, count: usize) -> anyhow::Result<(Vec<Question>, Bytes)> {
        self.questions.borrow_mut().draw(id, count)
    }

    // What becomes of messages.

    pub(super) fn sent(&self, lateness: Duration, held: bool) {
        self.under_way.set(self.under_way.get() + 1);
        self.account.borrow_mut().sent(lateness, held);
    }

    pub(super) fn not_sent(&self, hold: Hold) {
        self.account.borrow_mut().not_sent(hold);
        self.progress.failed.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failed(&self, times: Times, failed: Failed) {
        if failed.by_server {
            self.progress.alive.fetch_add(1, Ordering::Relaxed);
        }
        self.progress.failed.fetch_add(1, Ordering::Relaxed);
        let mut account = self.account.borrow_mut();
        if failed.is_refusal() {
            account.refused(times.due.elapsed(), times.sent.elapsed(), failed.cause, &failed.said);
        } else {
            account.failed(failed.cause, &failed.said);
        }
        drop(account);
        self.ended();
    }

    pub(super) fn broke(&self, failed: Failed) {
        self.account.borrow_mut().broke(failed.cause, &failed.said);
        self.change();
    }

    /// A message came back at that time: looks at every answer in it.
    pub(super) fn answered(&self, times: Times, at: Instant, questions: &[Question], message: &[u8]) {
        self.progress.alive.fetch_add(1, Ordering::Relaxed);
        if let Err(failed) = self.look(questions, message) {
            self.failed(times, failed);
            return;
        }
        self.progress.answered.fetch_add(1, Ordering::Relaxed);
        self.account.borrow_mut().answered(at.saturating_duration_since(times.due));
        self.ended();
    }

    fn ended(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        self.change();
    }

    // What answers say.

    fn look(&self, questions: &[Question], message: &[u8]) -> Result<(), Failed> {
        let malformed = |error: Malformed| Failed::malformed(error.to_string());
        match self.mode {
            Mode::Unary => {
                let question = questions.first().ok_or_else(|| Failed::malformed("an answer to nothing"))?;
                self.one(question, message).map_err(malformed)
            }
            Mode::Batch => self.many(questions, answer::batch(message)),
            Mode::Stream => {
                if let Some(error) = answer::frame(message).map_err(malformed)?.error {
                    return Err(Failed::rpc_status(error));
                }
                self.many(questions, answer::frame_items(message))
            }
        }
    }

    fn many<'a>(
        &self,
        questions: &[Question],
        mut items: impl Iterator<Item = Result<Item<'a>, Malformed>>,
    ) -> Result<(), Failed> {
        let malformed = |error: Malformed| Failed::malformed(error.to_string());
        for (number, question) in questions.iter().enumerate() {
            let Some(item) = items.next() else {
                return Err(Failed::malformed(format!("{number} results to {} checks", questions.len())));
            };
            match item.map_err(malformed)? {
                Item::Answer(bytes) => self.one(question, bytes).map_err(malformed)?,
                Item::Error(bytes) => {
                    let failed = Failed::rpc_status(bytes);
                    self.account.borrow_mut().failed_check(failed.cause, &failed.said);
                }
                Item::Nothing => {
                    let failed = Failed::malformed("a result that is neither answer nor error");
                    self.account.borrow_mut().failed_check(failed.cause, &failed.said);
                }
            }
        }
        match items.next() {
            None => Ok(()),
            Some(_) => Err(Failed::malformed(format!("more results than the {} checks", questions.len()))),
        }
    }

    fn one(&self, question: &Question, bytes: &[u8]) -> Result<(), Malformed> {
        let answer = Answer::read(bytes)?;
        let mut account = self.account.borrow_mut();
        account.checks += 1;
        let mut questions = self.questions.borrow_mut();
        if !answer.says(&question.expected, questions.oracle()) {
            self.progress.wrong.fetch_add(1, Ordering::Relaxed);
            account.wrong(|| describe(question, bytes, questions.oracle().plan_id(question.expected.plan)));
        }
        Ok(())
    }
}

/// A wrong answer, in full.
fn describe(question: &Question, bytes: &[u8], plan_id: &str) -> WrongAnswer {
    let (service, feature) = scenario::names(usize::from(question.feature));
    let expected = question.expected;
    let answered = match v1::CheckEntitlementResponse::decode(bytes) {
        Ok(answer) => {
            let told = facts(answer.entitled, answer.reason, &answer.plan_id, answer.familiarity_basis_points);
            format!("{told}, plan_version {}", answer.plan_version)
        }
        Err(error) => error.to_string(),
    };
    WrongAnswer {
        tenant_id: question.tenant.id(),
        service,
        feature,
        expected: facts(expected.entitled, expected.reason, plan_id, expected.familiarity_basis_points),
        answered,
    }
}

/// The facts of an answer that are looked at.
pub fn facts(entitled: bool, reason: i32, plan_id: &str, familiarity_basis_points: i32) -> String {
    let reason = v1::Reason::try_from(reason).map_or_else(|_| reason.to_string(), |reason| reason.as_str_name().to_owned());
    format!("entitled {entitled}, {reason}, plan `{plan_id}`, familiarity {familiarity_basis_points}")
}
