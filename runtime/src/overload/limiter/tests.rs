//! A thread with the limiter before it, on time that is counted: calls come on connections at given rates, each costs the thread
//! some time to read, and more to serve or less to refuse.

#![expect(clippy::cast_precision_loss, reason = "counts of a simulation, which are small")]

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};

use tessera_ports::memory::SplitMix64;

use super::*;

const TARGET: Duration = Duration::from_millis(5);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Calls of a connection that are under way, at most; further ones are not sent, as HTTP/2 has it.
const AT_ONCE: usize = 100;

/// What a connection asks for, and what came of it.
#[derive(Debug, Default)]
struct Connection {
    /// Calls per second, evenly spread; the first comes after this part of the time between two.
    rate: f64,
    phase: f64,
    /// When those were sent that were not read yet.
    unread: VecDeque<Instant>,
    asked: u64,
    own: Own,
    /// Calls that wait.
    waiting: usize,
    not_before: Option<Instant>,
    /// Since then there is something to read.
    unread_since: Option<Instant>,
    waits: Vec<Duration>,
    refused: Vec<Duration>,
}

/// What a call costs the thread.
#[derive(Debug, Clone, Copy)]
struct Costs {
    serve: Duration,
    refuse: Duration,
}

/// What the thread did from one second to the end.
struct Course {
    connections: Vec<Connection>,
    elapsed: Duration,
}

impl Course {
    fn served_per_second(&self) -> f64 {
        let served: usize = self.connections.iter().map(|connection| connection.waits.len()).sum();
        served as f64 / self.elapsed.as_secs_f64()
    }
}

/// Runs for `seconds`; what came before the first second is forgotten, since the limit has to be found first.
fn run(mut connections: Vec<Connection>, costs: Costs, seconds: u64, limited: bool) -> Course {
    let began = Instant::now();
    let (mut now, end) = (began, began + Duration::from_secs(seconds));
    let target = if limited { TARGET } else { Duration::from_hours(1) };
    let thread = Limiter::new(target, now);
    let mut queue: VecDeque<(usize, Instant, Instant)> = VecDeque::new();
    let mut warm = None;
    while now < end {
        if warm.is_none() && now >= began + Duration::from_secs(1) {
            warm = Some(now);
            for connection in &mut connections {
                connection.waits.clear();
                connection.refused.clear();
            }
        }
        let turn = now;
        for (number, connection) in connections.iter_mut().enumerate() {
            loop {
                let due = (connection.asked as f64 + connection.phase) / connection.rate;
                let due = began + Duration::from_secs_f64(due);
                if due > now {
                    break;
                }
                connection.asked += 1;
                if connection.waiting + connection.unread.len() < AT_ONCE {
                    connection.unread.push_back(due);
                }
            }
            if connection.not_before.is_some_and(|not_before| now < not_before) {
                continue;
            }
            let most = match thread.readiness(&connection.own, now) {
                Readiness::Free => connection.unread.len(),
                Readiness::InTurns(calls) => connection.unread.len().min(calls),
                Readiness::Later(pause) => {
                    connection.unread_since.get_or_insert(now);
                    connection.not_before = Some(now + pause);
                    continue;
                }
            };
            let read = now;
            let arrived = connection.unread_since.unwrap_or(now);
            connection.unread_since = (most < connection.unread.len()).then_some(now);
            for sent in connection.unread.drain(..most) {
                match thread.arrive(&mut connection.own, now - arrived, now) {
                    Arrival::AtOnce => {
                        now += costs.serve;
                        connection.waits.push(now - sent);
                    }
                    Arrival::Waits => {
                        connection.waiting += 1;
                        queue.push_back((number, sent, arrived));
                    }
                    Arrival::Refused => {
                        now += costs.refuse;
                        connection.refused.push(now - read);
                    }
                }
            }
        }
        // What was there when the turn began is served in it.
        for _ in 0..queue.len() {
            let Some((number, sent, arrived)) = queue.pop_front() else { break };
            let Some(connection) = connections.get_mut(number) else { continue };
            connection.waiting -= 1;
            thread.begin(&Place::default(), now - arrived, now);
            now += costs.serve;
            connection.waits.push(now - sent);
        }
        if now == turn {
            now += 20 * MICROSECOND;
        }
    }
    Course { connections, elapsed: now - warm.unwrap_or(now) }
}

fn percentile(mut all: Vec<Duration>, percent: usize) -> Duration {
    all.sort();
    all.get((all.len() * percent / 100).min(all.len().saturating_sub(1))).copied().unwrap_or_default()
}

fn connection(rate: f64) -> Connection {
    Connection { rate, phase: 0.5, ..Connection::default() }
}

/// Connections that ask for `rate` calls per second together.
fn connections(count: u64, rate: f64) -> Vec<Connection> {
    let each =
        |number: u64| Connection { rate: rate / count as f64, phase: number as f64 / count as f64, ..Connection::default() };
    (0..count).map(each).collect()
}

#[test]
fn three_times_too_much_is_served_nearly_as_well_as_just_enough() {
    let seed = RandomState::new().hash_one(0);
    println!("seed {seed}");
    let mut draws = SplitMix64::new(seed);
    for _ in 0..30 {
        let serve = MICROSECOND * (5 + u32::try_from(draws.next_u64() % 1_000).unwrap());
        // At most what it costs to serve.
        let refuse = serve * u32::try_from(20 + draws.next_u64() % 81).unwrap() / 100;
        let costs = Costs { serve, refuse };
        let capacity = 1.0 / serve.as_secs_f64();
        let count = 1 + draws.next_u64() % 40;
        let course = run(connections(count, 3.0 * capacity), costs, 8, true);
        let goodput = course.served_per_second() / capacity;
        assert!(goodput >= 0.8, "{goodput:.2} of capacity: {costs:?}, {count} connections");
        let refused: usize = course.connections.iter().map(|connection| connection.refused.len()).sum();
        let all_at_once = serve * u32::try_from(count).unwrap() * u32::try_from(AT_ONCE).unwrap();
        assert!(refused > 0 || all_at_once < 8 * TARGET, "{costs:?}, {count} connections: nobody was told");
    }
}

#[test]
fn without_a_limit_everybody_waits_for_everybody() {
    let costs = Costs { serve: 100 * MICROSECOND, refuse: 20 * MICROSECOND };
    let others = || connections(20, 30_000.0).into_iter().chain([connection(20.0)]).collect();
    let p99 = |limited| {
        let course = run(others(), costs, 6, limited);
        let modest = course.connections.last().unwrap();
        assert_eq!(modest.refused.len(), 0, "whoever asks little is served");
        percentile(modest.waits.clone(), 99)
    };
    let (with, without) = (p99(true), p99(false));
    assert!(with < 3 * TARGET, "{with:?}");
    assert!(without > 40 * TARGET, "{without:?}");
}

#[test]
fn what_fits_is_never_refused() {
    for share in [0.3, 0.7, 0.95] {
        let costs = Costs { serve: 100 * MICROSECOND, refuse: 20 * MICROSECOND };
        let course = run(connections(10, 10_000.0 * share), costs, 5, true);
        let refused: usize = course.connections.iter().map(|connection| connection.refused.len()).sum();
        assert_eq!(refused, 0, "at {share} of what it can do");
        let waits = course.connections.iter().flat_map(|connection| connection.waits.clone()).collect();
        assert!(percentile(waits, 99) < TARGET * 2, "at {share} of what it can do");
    }
}

#[test]
fn a_stall_is_no_overload_and_overload_is_forgotten() {
    let began = Instant::now();
    let mut state = State::new(TARGET, began);
    let mut own = Own::default();
    // The process was stopped for 80 ms of every 100, and whatever waited then waited long; the rest did not.
    for turn in 0..50_u32 {
        let now = began + INTERVAL * turn;
        for _ in 0..500 {
            assert_eq!(state.arrive(&mut own, Duration::ZERO, now), Arrival::Waits);
        }
        for wait in [80, 1] {
            for _ in 0..250 {
                state.begin(Duration::from_millis(wait), now + Duration::from_millis(90));
            }
        }
    }
    assert_eq!((state.limit, state.waiting), (UNLIMITED, 0));
    // Now everything waits long.
    let mut now = began + INTERVAL * 50;
    for _ in 0..5 {
        for _ in 0..500 {
            state.arrive(&mut own, Duration::ZERO, now);
        }
        now += INTERVAL;
        while state.waiting > 0 {
            state.begin(10 * TARGET, now);
        }
    }
    assert!(state.limit <= 50, "{}", state.limit);
    assert!(matches!(state.readiness(&own, now), Readiness::InTurns(_)));
    now += INTERVAL * (FORGOTTEN_AFTER + 2);
    assert_eq!(state.readiness(&own, now), Readiness::Free);
}

/// A state with a queue that is full, at a moment at which a thousand calls a second are served to two who ask.
fn full(now: Instant) -> (State, Own) {
    let (mut state, mut own) = (State::new(TARGET, now), Own::default());
    (state.limit, state.unit) = (10, Duration::from_millis(2));
    let let_in = (0..50).filter(|_| state.arrive(&mut own, Duration::ZERO, now) != Arrival::Refused).count();
    // Beyond the limit, what it may ask for after a silence.
    assert_eq!(let_in, 25);
    (state, own)
}

#[test]
fn whoever_asks_no_more_than_a_share_is_let_in_beyond_the_limit() {
    let began = Instant::now();
    let (mut state, mut greedy) = full(began);
    let mut modest = Own::default();
    let (mut refused, before) = (0, state.waiting);
    for millisecond in 0..90 {
        let now = began + Duration::from_millis(millisecond);
        for _ in 0..10 {
            refused += usize::from(state.arrive(&mut greedy, Duration::ZERO, now) == Arrival::Refused);
        }
        if millisecond % 2 == 0 {
            assert_eq!(state.arrive(&mut modest, Duration::ZERO, now), Arrival::AtOnce, "before those who wait");
        }
    }
    let let_in = state.waiting - before;
    assert!((40..60).contains(&let_in), "{let_in}: its share, too");
    assert!(refused > 800, "{refused}");
}

#[test]
fn one_is_refused_for_so_many_that_are_served() {
    let began = Instant::now();
    let (mut state, mut greedy) = full(began);
    let (mut served, mut refused) = (0, 0);
    for microsecond in (0..200_000).step_by(100) {
        let now = began + MICROSECOND * microsecond;
        // The queue stays full.
        state.waiting += 1;
        state.begin(Duration::ZERO, now);
        (state.limit, state.unit) = (10, Duration::from_millis(2));
        served += 1;
        if let Readiness::InTurns(calls) = state.readiness(&greedy, now) {
            for _ in 0..calls {
                refused += usize::from(state.arrive(&mut greedy, Duration::ZERO, now) == Arrival::Refused);
            }
        }
    }
    assert!(refused <= served / SERVED_PER_REFUSAL, "{refused} of {served}");
    assert!(refused >= served / SERVED_PER_REFUSAL / 2, "{refused} of {served}");
    let other = state.readiness(&Own::default(), began + MICROSECOND * 200_000);
    assert!(matches!(other, Readiness::InTurns(_)), "who would be let in is read");
}

#[test]
fn however_many_are_not_read_looking_at_them_costs_little() {
    let began = Instant::now();
    let mut state = State::new(TARGET, began);
    let busy = Own { used_until: Some(began + Duration::from_hours(1)), ..Own::default() };
    let mut looks = vec![began; 4_000];
    let mut looked = 0;
    for millisecond in 0..2_000 {
        let now = began + Duration::from_millis(millisecond);
        (state.limit, state.waiting, state.unmatched) = (100, 100, 0);
        for look in looks.iter_mut().filter(|look| **look <= now) {
            let Readiness::Later(pause) = state.readiness(&busy, now) else { panic!("there is no room") };
            *look = now + pause;
            looked += u32::from(millisecond >= 1_000);
        }
    }
    // Of four million in that second.
    assert!((25_000..100_000).contains(&looked), "{looked}");
    // Once they are few, they are looked at soon.
    for interval in 1..=3 {
        (state.limit, state.waiting) = (100, 100);
        let pause = state.readiness(&busy, began + Duration::from_secs(2) + INTERVAL * interval);
        assert!(interval < 3 || pause == Readiness::Later(LATER), "{pause:?}");
    }
}
