//! The thread that knows the topic: it asks the brokers every second, and when somebody wants to know now.
//!
//! Readers and publishers look at what it found last, so that neither waits for an answer on its way. All calls of librdkafka
//! that block are made here. It ends when the handle is dropped; an answer that it waits for holds up nobody.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use tessera_ports::change_feed::{FeedError, Position, Topic};
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::client::{Connection, Context, Told};
use crate::describe::{Failure, describe};
use crate::error::text_of;

/// Between two looks that nobody asked for.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long brokers have for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long they have for one that nobody waits for: the next look is due.
const NOTE_TIMEOUT: Duration = Duration::from_secs(1);
/// Beyond this age what is known of the topic is asked for anew.
const KNOWN_FOR: Duration = Duration::from_secs(3);
/// Messages of librdkafka taken at once.
const WORDS_MAX: usize = 256;

/// Which topic is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Watched {
    /// That of changes: its readers want to know its ends, and it is said aloud when its brokers do not answer.
    Feed,
    /// That of events for others, on the same brokers: nobody reads it here.
    Events,
}

/// What is known of the topic.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known {
    /// As it was found last; `None` if there was none of its name.
    pub(crate) topic: Option<Topic>,
    /// When the brokers answered last.
    pub(crate) at: Option<Instant>,
    /// The end of every partition, and when it was found there; older than the rest when their leaders do not answer.
    pub(crate) ends: Option<(Instant, Vec<Position>)>,
    /// Since when the brokers give no answer, and what they say instead.
    pub(crate) failing: Option<(Instant, String)>,
}

impl Known {
    /// When the brokers answered last; `None` while they do not.
    pub(crate) fn answered(&self) -> Option<Instant> {
        self.at.filter(|_| self.failing.is_none())
    }

    /// The end of this partition, and when it was found there; `None` while the brokers do not answer.
    pub(crate) fn end(&self, partition: u32) -> Option<(Instant, Position)> {
        let (at, ends) = self.ends.as_ref().filter(|_| self.failing.is_none())?;
        Some((*at, *ends.get(usize::try_from(partition).ok()?)?))
    }
}

enum Question {
    Topic(oneshot::Sender<Result<Option<Topic>, Failure>>),
    Ends(oneshot::Sender<Result<Vec<Position>, FeedError>>),
}

/// The handle.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    questions: Sender<Question>,
    known: Arc<Mutex<Known>>,
    told: Told,
}

impl Watch {
    /// Starts the thread. Nothing has been asked yet.
    pub(crate) fn start(connection: &Connection, topic: &str, which: Watched) -> Result<Self, String> {
        let told = Told::default();
        let mut settings = connection.settings();
        // The end of a partition is behind its last record, whatever transactions somebody else has open.
        settings.set("isolation.level", "read_uncommitted");
        let context = match which {
            Watched::Feed => Context::loud(told.clone()),
            Watched::Events => Context::quiet(told.clone()),
        };
        let consumer: BaseConsumer<Context> = settings.create_with_context(context).map_err(|error| error.to_string())?;
        let known = Arc::new(Mutex::new(Known::default()));
        let (questions, asked) = mpsc::channel();
        let watcher = Watcher { consumer, which, topic: topic.to_owned(), known: Arc::clone(&known), told: told.clone() };
        let thread = std::thread::Builder::new().name("kafka-watch".to_owned()).spawn(move || watcher.run(&asked));
        thread.map_err(|error| format!("no thread for the feed: {error}"))?;
        Ok(Self { questions, known, told })
    }

    /// The topic as it is now; `None` if there is none of its name.
    pub(crate) async fn topic(&self) -> Result<Option<Topic>, Failure> {
        let ended = || Failure { code: RDKafkaErrorCode::Fail, reason: "the feed is closed".to_owned() };
        let (sender, answer) = oneshot::channel();
        self.questions.send(Question::Topic(sender)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// How many partitions the topic has, if that was found a moment ago.
    pub(crate) fn partitions(&self) -> Option<u32> {
        self.known(|known| {
            let is_fresh = known.at.is_some_and(|at| Instant::now().saturating_duration_since(at) < KNOWN_FOR);
            known.topic.as_ref().filter(|_| is_fresh).map(|topic| topic.partitions)
        })
    }

    /// The end of every partition there is now.
    pub(crate) async fn ends(&self) -> Result<Vec<Position>, FeedError> {
        let ended = || FeedError::Unavailable("the feed is closed".to_owned());
        let (sender, answer) = oneshot::channel();
        self.questions.send(Question::Ends(sender)).map_err(|_| ended())?;
        answer.await.map_err(|_| ended())?
    }

    /// Runs `look` on what was found last.
    pub(crate) fn known<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the brokers said last of the connection.
    pub(crate) fn told(&self) -> &Told {
        &self.told
    }
}

/// What the thread has.
struct Watcher {
    consumer: BaseConsumer<Context>,
    which: Watched,
    topic: String,
    known: Arc<Mutex<Known>>,
    told: Told,
}

impl Watcher {
    fn run(self, asked: &Receiver<Question>) {
        let in_a_while = || Instant::now().checked_add(LOOK_EVERY).unwrap_or_else(Instant::now);
        let mut due = in_a_while();
        loop {
            match asked.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(question) => self.answer(question, asked),
                Err(RecvTimeoutError::Timeout) => {
                    let topic = self.look();
                    if self.which == Watched::Feed {
                        // Whoever reads compares with the ends; that there are none now is no news.
                        drop(self.ends(&topic, NOTE_TIMEOUT));
                    }
                    due = in_a_while();
                }
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// One look answers everybody who waits.
    fn answer(&self, first: Question, asked: &Receiver<Question>) {
        let questions: Vec<Question> = std::iter::once(first).chain(asked.try_iter()).collect();
        let topic = self.look();
        let wants_ends = questions.iter().any(|question| matches!(question, Question::Ends(_)));
        let ends = if wants_ends { self.ends(&topic, ANSWER_TIMEOUT) } else { Ok(Vec::new()) };
        for question in questions {
            // Whoever has left does not want to know.
            match question {
                Question::Topic(sender) => drop(sender.send(topic.clone())),
                Question::Ends(sender) => drop(sender.send(ends.clone())),
            }
        }
    }

    fn look(&self) -> Result<Option<Topic>, Failure> {
        let found = self.reached().and_then(|()| describe(self.consumer.client(), &self.topic, ANSWER_TIMEOUT));
        self.listen();
        let found = found.map_err(|failure| Failure { reason: self.told.explain(&failure.reason), ..failure });
        if found.is_ok() {
            self.told.forget();
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &found {
            Ok(topic) => {
                if let Some((since, _)) = known.failing.take()
                    && self.which == Watched::Feed
                {
                    info!(seconds = since.elapsed().as_secs(), "the brokers of the feed answer again");
                }
                known.topic.clone_from(topic);
                known.at = Some(Instant::now());
            }
            Err(failure) => {
                let since = known.failing.as_ref().map(|(since, _)| *since);
                if since.is_none() && self.which == Watched::Feed {
                    warn!(reason = failure.reason, "the brokers of the feed do not answer");
                }
                known.failing = Some((since.unwrap_or_else(Instant::now), failure.reason.clone()));
            }
        }
        found
    }

    /// Whether any broker answers, where that is in doubt. While it looks for the one to ask for a description, librdkafka connects
    /// again and again without a pause, which costs half a core; for this question it pauses.
    fn reached(&self) -> Result<(), Failure> {
        let is_sure = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.at.is_some() && known.failing.is_none()
        };
        if is_sure {
            return Ok(());
        }
        let answer = self.consumer.fetch_metadata(Some(&self.topic), ANSWER_TIMEOUT);
        answer.map(drop).map_err(|error| Failure {
            code: error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail),
            reason: text_of(&error),
        })
    }

    /// Lets librdkafka say what it has to say; its messages pile up otherwise.
    fn listen(&self) {
        for _ in 0..WORDS_MAX {
            drop(self.consumer.poll(Duration::ZERO));
        }
    }

    /// Of every partition, in one request to each broker.
    fn ends(&self, topic: &Result<Option<Topic>, Failure>, timeout: Duration) -> Result<Vec<Position>, FeedError> {
        let topic = match topic {
            Ok(Some(topic)) => topic,
            Ok(None) => return Err(FeedError::Unavailable(format!("there is no topic `{}`", self.topic))),
            Err(failure) => return Err(FeedError::Unavailable(failure.reason.clone())),
        };
        let unavailable = |error: rdkafka::error::KafkaError| FeedError::Unavailable(text_of(&error));
        let mut partitions = TopicPartitionList::new();
        let last = i32::try_from(topic.partitions.saturating_sub(1)).unwrap_or(i32::MAX);
        partitions.add_partition_range(&self.topic, 0, last);
        partitions.set_all_offsets(Offset::End).map_err(unavailable)?;
        let found = self.consumer.offsets_for_times(partitions, timeout).map_err(unavailable)?;
        let mut ends = Vec::new();
        for (number, element) in (0..).zip(found.elements()) {
            element.error().map_err(unavailable)?;
            match element.offset() {
                Offset::Offset(end) if element.partition() == number => ends.extend(Position::try_from(end).ok()),
                other => return Err(FeedError::Unavailable(format!("partition {number} has no end, but `{other:?}`"))),
            }
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.ends = Some((Instant::now(), ends.clone()));
        Ok(ends)
    }
}
