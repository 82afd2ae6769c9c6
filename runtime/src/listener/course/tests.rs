//! Lives of connections, step by step.

use super::*;

/// Bytes of a client that has begun well.
const BEGUN: Seen = Seen { read: 60, written: 40, begun: 0, under_way: false, unanswered: false };

fn config() -> ListenerConfig {
    ListenerConfig { idle_max_s: 40, age_max_s: 1_000, age_grace_s: 30, first_bytes_timeout_s: 5, ..ListenerConfig::default() }
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Follows a connection until something is to be done, and says what and after how long.
fn follow(course: &mut Course, from: Instant, seen: impl Fn(Duration) -> Seen) -> (Step, Duration) {
    let mut now = from;
    for _ in 0..1_000 {
        match course.next(now, seen(now - from)) {
            Step::Wait(until) => {
                assert!(until > now, "it would be asked again at once");
                now = until;
            }
            step => return (step, now - from),
        }
    }
    panic!("nothing happens: {course:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_begin_is_dropped() {
    for read in [0, 1, 23, 24, PREFACE_LEN - 1] {
        let start = Instant::now();
        let mut course = Course::begin(&config(), start, 0, None);
        let (step, after) = follow(&mut course, start, |_| Seen { read, ..Seen::default() });
        assert_eq!((step, after, course.cause()), (Step::Drop, seconds(5), Some(Cause::Preface)), "{read} bytes");
    }
}

#[tokio::test(start_paused = true)]
async fn the_deadline_of_the_beginning_is_for_all_of_it() {
    let start = Instant::now();
    let mut course = Course::begin(&config(), start, 0, None);
    // A byte a second.
    let (step, after) = follow(&mut course, start, |elapsed| Seen { read: elapsed.as_secs(), ..Seen::default() });
    assert_eq!((step, after), (Step::Drop, seconds(5)));
}

#[tokio::test(start_paused = true)]
async fn who_has_no_calls_goes_and_who_has_some_stays() {
    let start = Instant::now();
    let mut idle = Course::begin(&config(), start, 500, None);
    let (step, after) = follow(&mut idle, start, |_| BEGUN);
    assert_eq!((step, idle.cause()), (Step::TellToGo, Some(Cause::Idle)));
    // No sooner than allowed, and no later than the looks are apart.
    assert!((seconds(40)..=seconds(50)).contains(&after), "{after:?}");

    // One long stream; and a call now and then.
    let watching = |_| Seen { begun: 1, under_way: true, ..BEGUN };
    let calling = |elapsed: Duration| Seen { begun: elapsed.as_secs() / 30, ..BEGUN };
    for seen in [&watching as &dyn Fn(Duration) -> Seen, &calling] {
        let mut course = Course::begin(&config(), start, 500, None);
        let (step, after) = follow(&mut course, start, seen);
        assert_eq!((step, course.cause(), after), (Step::TellToGo, Some(Cause::Age), seconds(1_000)));
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_of_its_age_it_has_its_grace_then_streams_end_then_it_does() {
    let start = Instant::now();
    let mut course = Course::begin(&config(), start, 500, None);
    // It goes on talking.
    let busy = |elapsed: Duration| Seen { read: 60 + elapsed.as_secs(), begun: 1, under_way: true, ..BEGUN };
    let (step, told) = follow(&mut course, start, busy);
    assert_eq!((step, told), (Step::TellToGo, seconds(1_000)));
    assert_eq!(course.cause(), Some(Cause::Age));
    let later = |elapsed: Duration| busy(told + elapsed);
    let (step, ended) = follow(&mut course, start + told, later);
    assert_eq!((step, ended), (Step::EndStreams, seconds(30)));
    let (step, dropped) = follow(&mut course, start + told + ended, later);
    assert_eq!((step, dropped), (Step::Drop, LAST_WORDS_MAX));
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_after_being_told_is_gone() {
    for cause in [Cause::Drain, Cause::Age] {
        let start = Instant::now();
        let mut course = Course::begin(&config(), start, 0, None);
        course.tell_to_go(cause, seconds(30), start, BEGUN);
        let (step, after) = follow(&mut course, start, |_| BEGUN);
        assert_eq!((step, after, course.cause()), (Step::Drop, FAREWELL_MAX, Some(cause)));
    }
}

#[tokio::test(start_paused = true)]
async fn who_drains_goes_when_its_calls_are_answered_whatever_else_it_says() {
    for answered in [0, 6, 20, 900] {
        let start = Instant::now();
        let mut course = Course::begin(&config(), start, 0, None);
        assert!(course.drain(start, BEGUN));
        // It says something every second, and never the one thing that HTTP/2 waits for.
        let seen = |elapsed: Duration| {
            let said = elapsed.as_secs();
            let unanswered = elapsed < seconds(answered);
            Seen { read: 61 + said, written: 40 + 17 * said, begun: 1, under_way: unanswered, unanswered }
        };
        let (step, ended) = follow(&mut course, start, seen);
        assert_eq!((step, ended), (Step::EndStreams, DRAIN_STREAMS_AFTER));
        let (step, dropped) = follow(&mut course, start + ended, |elapsed| seen(ended + elapsed));
        let since_answered = (ended + dropped).saturating_sub(seconds(answered).max(ended));
        assert_eq!((step, course.cause()), (Step::Drop, Some(Cause::Drain)));
        assert!((LAST_WORDS_MAX..=LAST_WORDS_MAX + CALL_LOOK).contains(&since_answered), "{answered}: {since_answered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_drains_goes_on_while_an_answer_is_being_taken() {
    let start = Instant::now();
    let mut course = Course::begin(&config(), start, 0, None);
    assert!(course.drain(start, BEGUN));
    // A tenth of a megabyte a second, of an answer that is finished; none of it after 19 s.
    let seen = |elapsed: Duration| Seen { read: 61 + elapsed.as_secs(), written: elapsed.as_secs().min(19) * 100_000, ..BEGUN };
    let (step, ended) = follow(&mut course, start, seen);
    assert_eq!((step, ended), (Step::EndStreams, DRAIN_STREAMS_AFTER));
    let (step, dropped) = follow(&mut course, start + ended, |elapsed| seen(ended + elapsed));
    assert_eq!(step, Step::Drop);
    assert!((seconds(19)..=seconds(19) + 2 * LAST_WORDS_MAX).contains(&(ended + dropped)), "{ended:?} and {dropped:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_however_often_does_not_hold_up_the_end() {
    let start = Instant::now();
    let mut course = Course::begin(&config(), start, 0, None);
    assert!(course.drain(start, BEGUN));
    // Five hundred refusals a second, as much as an answer.
    let seen = |elapsed: Duration| {
        let said = elapsed.as_secs();
        Seen { read: 61 + 50_000 * said, written: 40 + 50_000 * said, begun: 1 + 500 * said, ..BEGUN }
    };
    let (step, ended) = follow(&mut course, start, seen);
    assert_eq!((step, ended), (Step::EndStreams, DRAIN_STREAMS_AFTER));
    let (step, dropped) = follow(&mut course, start + ended, |elapsed| seen(ended + elapsed));
    assert_eq!(step, Step::Drop);
    assert!((ANSWER_TAKEN_MAX..=ANSWER_TAKEN_MAX + LAST_WORDS_MAX).contains(&dropped), "{dropped:?}");
}

#[tokio::test(start_paused = true)]
async fn who_takes_no_answer_and_goes_on_calling_does_not_hold_up_the_end() {
    let start = Instant::now();
    let mut course = Course::begin(&config(), start, 0, None);
    assert!(course.drain(start, BEGUN));
    // A call a second, each refused by then, and an answer from before that is taken a few bytes at a time.
    let seen = |elapsed: Duration| {
        let said = elapsed.as_secs();
        Seen { read: 61 + 130 * said, written: 40 + 100 * said, begun: 1 + said, under_way: true, unanswered: false }
    };
    let (step, ended) = follow(&mut course, start, seen);
    assert_eq!((step, ended), (Step::EndStreams, DRAIN_STREAMS_AFTER));
    let (step, dropped) = follow(&mut course, start + ended, |elapsed| seen(ended + elapsed));
    assert_eq!((step, dropped, course.cause()), (Step::Drop, LAST_WORDS_MAX, Some(Cause::Drain)));
}

#[tokio::test(start_paused = true)]
async fn who_has_not_begun_when_it_drains_has_to_begin_now() {
    let start = Instant::now();
    let mut course = Course::begin(&config(), start, 0, None);
    assert!(course.drain(start, Seen { read: 3, ..Seen::default() }));
    let (step, dropped) = follow(&mut course, start, |elapsed| Seen { read: 3 + elapsed.as_secs() * 10, ..Seen::default() });
    assert_eq!((step, dropped, course.cause()), (Step::Drop, FAREWELL_MAX, Some(Cause::Drain)));
}

#[tokio::test(start_paused = true)]
async fn who_was_told_before_has_no_more_time_to_drain_than_others() {
    let start = Instant::now();
    let busy = |elapsed: Duration| Seen { read: 60 + elapsed.as_secs(), begun: 1, under_way: true, unanswered: true, ..BEGUN };
    for since in [0, 10, 29] {
        let mut course = Course::begin(&config(), start, 500, None);
        let (step, told) = follow(&mut course, start, busy);
        assert_eq!((step, told), (Step::TellToGo, seconds(1_000)));
        let drains = start + told + seconds(since);
        // As far as it is by then.
        let Step::Wait(_) = course.next(drains, busy(told + seconds(since))) else { panic!("{course:?}") };
        assert!(!course.drain(drains, busy(told + seconds(since))), "it was told already");
        let (step, ended) = follow(&mut course, drains, |elapsed| busy(told + seconds(since) + elapsed));
        assert_eq!((step, ended), (Step::EndStreams, DRAIN_STREAMS_AFTER.min(seconds(30 - since))), "told {since} s before");
        // And its calls have as long as those of others.
        let Step::Wait(_) = course.next(drains + ended + LAST_WORDS_MAX, busy(told + seconds(60))) else { panic!("{course:?}") };
    }
}

#[test]
fn ages_are_spread_by_a_tenth_and_no_more() {
    let age = seconds(3_600);
    assert_eq!(spread(age, 0), seconds(3_240));
    assert_eq!(spread(age, 500), age);
    assert_eq!(spread(age, 1_000), seconds(3_960));
    assert_eq!(spread(age, 1_001), spread(age, 0));
    let lengths: std::collections::BTreeSet<Duration> = (0..2_000).map(|draw| spread(age, draw)).collect();
    assert!(lengths.iter().all(|length| (seconds(3_240)..=seconds(3_960)).contains(length)));
    assert!(lengths.len() > 1_000, "{}", lengths.len());
}

#[tokio::test(start_paused = true)]
async fn it_ends_before_the_certificate_of_its_peer_does() {
    let start = Instant::now();
    let watching = |elapsed: Duration| Seen { read: 60 + elapsed.as_secs(), begun: 1, under_way: true, ..BEGUN };
    // With the grace before the end; at half of what is left where that is less; and at its age where that comes first.
    for (good_for, told, cause) in [
        (seconds(500), seconds(470), Cause::Certificate),
        (seconds(20), seconds(10), Cause::Certificate),
        (seconds(5_000), seconds(1_000), Cause::Age),
        (Duration::MAX, seconds(1_000), Cause::Age),
    ] {
        let mut course = Course::begin(&config(), start, 500, Some(good_for));
        let (step, after) = follow(&mut course, start, watching);
        assert_eq!((step, course.cause(), after), (Step::TellToGo, Some(cause), told), "{good_for:?}");
        let (step, ended) = follow(&mut course, start + told, |elapsed| watching(told + elapsed));
        assert_eq!((step, ended), (Step::EndStreams, seconds(30)));
    }
}
