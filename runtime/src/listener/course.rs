//! How far a connection is in its life, and what its next step is: pure, with the time and what was seen of the connection as
//! arguments. `connection.rs` performs the steps.

use std::time::Duration;

use tokio::time::Instant;

use super::config::ListenerConfig;

/// A beginning of HTTP/2: the 24 bytes that announce it, and the head of the SETTINGS that has to follow (RFC 9113, 3.4).
const PREFACE_LEN: u64 = 24 + 9;
/// A peer answers the PING that comes with being told to go. From whom nothing was heard for so long after it, nothing will be:
/// a host that vanished, a process that stands still.
const FAREWELL_MAX: Duration = Duration::from_secs(2);
/// Who drains ends its own streams at once. What else there is (reflection) is ended after so long.
const DRAIN_STREAMS_AFTER: Duration = Duration::from_secs(5);
/// Streams that are ended at the end of the grace have so long to say so to their callers.
const LAST_WORDS_MAX: Duration = Duration::from_secs(2);
/// An answer is being taken as long as so much is written in [`LAST_WORDS_MAX`]; answers to PINGs are much less. That is not for ever:
/// refusals of calls that come all the same can be as much.
const ANSWER_PART_LEN: u64 = 16 << 10;
const ANSWER_TAKEN_MAX: Duration = Duration::from_secs(15);
/// Looks at whether a call that is finished while the process drains is answered.
const CALL_LOOK: Duration = Duration::from_secs(1);
/// Looks at whether a connection is idle, over the time that it may be: idle is who had no call at so many in a row.
const IDLE_LOOKS: u32 = 4;

/// What can be seen of a connection from outside.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// Bytes that came, behind TLS.
    pub(super) read: u64,
    /// Bytes that were written, likewise.
    pub(super) written: u64,
    /// Calls that have begun.
    pub(super) begun: u64,
    /// Whether any is under way.
    pub(super) under_way: bool,
    /// Whether nothing is answered yet of any.
    pub(super) unanswered: bool,
}

/// Why a connection was told to go or dropped; what `tessera_connections_ended_total` calls it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// The beginning of HTTP/2 did not come in time.
    Preface,
    /// It had no calls for too long.
    Idle,
    /// It had reached its age.
    Age,
    /// The certificate of its peer ends.
    Certificate,
    /// The process drains.
    Drain,
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing until then.
    Wait(Instant),
    /// Say GOAWAY; then ask again.
    TellToGo,
    /// End what streams there are, with a hint; then ask again.
    EndStreams,
    /// Close it.
    Drop,
}

/// The life of one connection.
#[derive(Debug)]
pub(super) struct Course {
    stage: Stage,
    /// When it is told to go, whatever it does, and why.
    until: (Instant, Cause),
    grace: Duration,
    idle_look: Duration,
    cause: Option<Cause>,
}

#[derive(Debug)]
enum Stage {
    /// Has until then to begin.
    Beginning { until: Instant },
    /// Serves. Looked at next at `look`; `quiet` looks in a row have found no call, `begun` had begun by the last.
    Serving { look: Instant, quiet: u32, begun: u64 },
    /// Was told to go. More than so much has to have been heard by then.
    Told { heard: u64, until: Instant, grace_until: Instant },
    /// Was heard since. May finish what it has begun; streams by then.
    Going { grace_until: Instant },
    /// Its streams are ended, and no call begins any more. Has until then to take the last words. Before that, if it drains, as long
    /// as a call is not answered; and longer, but not after `taken_by`, for as long as it takes an answer, of which so much had been
    /// written at the last look.
    Ended { until: Option<Instant>, taken_by: Instant, written: u64 },
}

impl Course {
    /// Begins at `now`. `draw` is a random number; it spreads the ages of connections that began together. The peer's
    /// certificate, if it has one that ends, is good for so long.
    ///
    /// The connection ends before the certificate, by the grace if there is time for that: whoever has a new one by then opens
    /// another connection with it, and none of its calls is refused.
    pub(super) fn begin(config: &ListenerConfig, now: Instant, draw: u64, certificate_good_for: Option<Duration>) -> Self {
        let grace = Duration::from_secs(config.age_grace_s);
        let of_age = (now + spread(Duration::from_secs(config.age_max_s), draw), Cause::Age);
        let of_certificate = certificate_good_for.and_then(|left| now.checked_add(left.saturating_sub(grace.min(left / 2))));
        let until = of_certificate.filter(|until| *until < of_age.0).map_or(of_age, |until| (until, Cause::Certificate));
        Self {
            stage: Stage::Beginning { until: now + Duration::from_secs(config.first_bytes_timeout_s) },
            until,
            grace,
            idle_look: Duration::from_secs(config.idle_max_s) / IDLE_LOOKS,
            cause: None,
        }
    }

    /// Why it ends, once that is known.
    pub(super) fn cause(&self) -> Option<Cause> {
        self.cause
    }

    /// It is being told to go.
    fn tell_to_go(&mut self, cause: Cause, grace: Duration, now: Instant, seen: Seen) {
        self.cause = Some(cause);
        // Who has not begun may go on doing so, but a byte now and then is nothing.
        let heard = seen.read.max(PREFACE_LEN - 1);
        self.stage = Stage::Told { heard, until: now + FAREWELL_MAX, grace_until: now + grace };
    }

    /// The process drains: whether it is to be told. Who was told before has no more time than others.
    pub(super) fn drain(&mut self, now: Instant, seen: Seen) -> bool {
        let until = now + DRAIN_STREAMS_AFTER;
        match &mut self.stage {
            Stage::Beginning { .. } | Stage::Serving { .. } => {
                self.tell_to_go(Cause::Drain, DRAIN_STREAMS_AFTER, now, seen);
                return true;
            }
            Stage::Told { grace_until, .. } | Stage::Going { grace_until } => {
                *grace_until = until.min(*grace_until);
                self.cause = Some(Cause::Drain);
            }
            Stage::Ended { .. } => {}
        }
        false
    }

    /// What to do at `now`.
    pub(super) fn next(&mut self, now: Instant, seen: Seen) -> Step {
        match &mut self.stage {
            Stage::Beginning { until } => {
                if seen.read >= PREFACE_LEN {
                    let look = now + self.idle_look;
                    self.stage = Stage::Serving { look, quiet: 0, begun: seen.begun };
                    return Step::Wait(look.min(self.until.0));
                }
                if now < *until {
                    return Step::Wait(*until);
                }
                self.cause = Some(Cause::Preface);
                Step::Drop
            }
            Stage::Serving { look, quiet, begun } => {
                let (until, cause) = self.until;
                if now >= until {
                    self.tell_to_go(cause, self.grace, now, seen);
                    return Step::TellToGo;
                }
                if now >= *look {
                    let is_quiet = !seen.under_way && seen.begun == *begun;
                    (*look, *quiet, *begun) = (now + self.idle_look, if is_quiet { *quiet + 1 } else { 0 }, seen.begun);
                    if *quiet >= IDLE_LOOKS {
                        self.tell_to_go(Cause::Idle, self.grace, now, seen);
                        return Step::TellToGo;
                    }
                }
                Step::Wait((*look).min(until))
            }
            Stage::Told { heard, until, grace_until } => {
                if now < *until {
                    return Step::Wait(*until);
                }
                if seen.read <= *heard {
                    return Step::Drop;
                }
                let grace_until = *grace_until;
                self.stage = Stage::Going { grace_until };
                self.next(now, seen)
            }
            Stage::Going { grace_until } => {
                if now < *grace_until {
                    return Step::Wait(*grace_until);
                }
                let until = (self.cause != Some(Cause::Drain)).then(|| now + LAST_WORDS_MAX);
                self.stage = Stage::Ended { until, taken_by: now + ANSWER_TAKEN_MAX, written: seen.written };
                Step::EndStreams
            }
            Stage::Ended { until: None, .. } if seen.unanswered => Step::Wait(now + CALL_LOOK),
            // HTTP/2 ends when all streams have, but only for who answers its PING and takes what is left for it.
            Stage::Ended { until, taken_by, written } => {
                let is_late = self.cause != Some(Cause::Drain) || now >= *taken_by;
                let takes_an_answer = !is_late && seen.written >= *written + ANSWER_PART_LEN;
                match until {
                    Some(until) if now < *until => Step::Wait(*until),
                    Some(_) if !takes_an_answer => Step::Drop,
                    _ => {
                        let end = now + LAST_WORDS_MAX;
                        (*until, *written) = (Some(end), seen.written);
                        Step::Wait(end)
                    }
                }
            }
        }
    }
}

/// The length, or up to a tenth more or less.
fn spread(length: Duration, draw: u64) -> Duration {
    // Per mille of a fifth, so that nothing overflows and nothing is a float.
    let part = u32::try_from(draw % 1_001).unwrap_or_default();
    length / 10 * 9 + length / 5 * part / 1_000
}

#[cfg(test)]
mod tests;
