//! A thread with the limiter before it, on time that is counted: calls come on connections at given rates, each costs the thread
//! some time to serve, or less to refuse. As its runtime does, the thread makes one step after the other, of a connection or of a
//! call, and looks in between who has something to be read.

#![expect(clippy::cast_precision_loss, reason = "counts of a simulation, which are small")]

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::task::Wake;

use tessera_ports::memory::SplitMix64;

use super::*;

const TARGET: Duration = Duration::from_millis(5);
const MICROSECOND: Duration = Duration::from_micros(1);

/// Steps after which the thread looks who has something to be read.
const LOOK_AROUND: usize = 4;

/// Calls of a connection that are under way, at most; further ones are not sent, as HTTP/2 has it.
const AT_ONCE: usize = 100;

/// From the end of a step until what is asked because of its answers is there.
const ROUND_TRIP: Duration = Duration::from_micros(50);

/// What a connection asks for, and what came of it.
#[derive(Debug, Default)]
struct Connection {
    /// Calls per second, evenly spread; the first comes after this part of the time between two.
    rate: f64,
    phase: f64,
    /// So many of them come together, when the last one is due; none or one is one.
    at_once: u64,
    /// When those were sent that were not read yet.
    unread: VecDeque<Instant>,
    asked: u64,
    own: Own,
    left: usize,
    put_off: Option<Instant>,
    has_yielded: bool,
    /// Its task is about to make a step, or it stands in the line.
    is_busy: bool,
    waits: Vec<Duration>,
    refused: u32,
}

#[derive(Debug)]
struct Woken {
    number: usize,
    all: Arc<Mutex<Vec<usize>>>,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.all.lock().unwrap().push(self.number);
    }
}

/// What a call costs the thread.
#[derive(Debug, Clone, Copy, Default)]
struct Costs {
    serve: Duration,
    refuse: Duration,
    /// What a turn costs beside its calls: a read and a write.
    turn: Duration,
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

    fn refused(&self) -> u32 {
        self.connections.iter().map(|connection| connection.refused).sum()
    }
}

struct Thread {
    connections: Vec<Connection>,
    /// Of those who have the next call for each that is answered, on the connections in turn: when so many are there.
    next_calls: Option<VecDeque<(Instant, usize)>>,
    next: usize,
    costs: Costs,
    /// Without one, connections are read as long as there is something.
    limiter: Option<Limiter>,
    began: Instant,
    now: Instant,
    /// Connections that are to make a step.
    tasks: VecDeque<usize>,
    /// Steps since it has looked.
    steps: usize,
    /// Steps after the next look who has something to be read.
    later: VecDeque<usize>,
    woken: Arc<Mutex<Vec<usize>>>,
}

impl Thread {
    /// Calls that are due are sent, and whoever is not busy has something to be read.
    fn look_around(&mut self) {
        while let Some((due, calls)) = self.next_calls.as_mut().and_then(|all| all.pop_front_if(|(due, _)| *due <= self.now)) {
            for _ in 0..calls {
                self.next = (self.next + 1) % self.connections.len();
                self.connections[self.next].unread.push_back(due);
            }
        }
        for (number, connection) in self.connections.iter_mut().enumerate() {
            while connection.rate > 0.0 {
                let together = connection.at_once.max(1);
                let last = connection.asked / together * together + together - 1;
                let due = (last as f64 + connection.phase) / connection.rate;
                let due = self.began + Duration::from_secs_f64(due);
                if due > self.now {
                    break;
                }
                connection.asked += 1;
                if connection.unread.len() < AT_ONCE {
                    connection.unread.push_back(due);
                }
            }
            if !connection.is_busy && !connection.unread.is_empty() {
                connection.is_busy = true;
                self.tasks.push_back(number);
            }
        }
        self.tasks.append(&mut self.later);
    }

    fn step(&mut self) {
        match (self.tasks.pop_front(), self.limiter.clone()) {
            (None, _) => self.now += 20 * MICROSECOND,
            (Some(number), Some(limiter)) => self.step_of(number, &limiter),
            (Some(number), None) => {
                let connection = &mut self.connections[number];
                connection.is_busy = false;
                let answered = connection.unread.len();
                for sent in connection.unread.drain(..) {
                    self.now += self.costs.serve;
                    connection.waits.push(self.now - sent);
                }
                self.answered(answered);
            }
        }
        self.tasks.extend(self.woken.lock().unwrap().drain(..));
    }

    /// The turn of a connection is over, and the answers are written.
    fn answered(&mut self, calls: usize) {
        self.now += self.costs.turn;
        if let Some(next_calls) = &mut self.next_calls {
            next_calls.push_back((self.now + ROUND_TRIP, calls));
        }
    }

    fn step_of(&mut self, number: usize, limiter: &Limiter) {
        let connection = &mut self.connections[number];
        let (mut reads, mut waited, mut answered) = (false, Duration::ZERO, 0);
        connection.is_busy = false;
        loop {
            if !reads {
                let waited_so_far = connection.put_off.map_or(Duration::ZERO, |since| self.now - since);
                let asks = Asks { has_yielded: std::mem::take(&mut connection.has_yielded), waited: waited_so_far };
                match limiter.readiness(&mut connection.own, asks, || connection.unread.len(), self.now) {
                    Readiness::Begins(calls) => {
                        (reads, connection.left) = (true, calls);
                        (waited, connection.put_off) = (waited_so_far, None);
                    }
                    Readiness::AfterOthers => {
                        connection.put_off.get_or_insert(self.now);
                        (connection.is_busy, connection.has_yielded) = (true, true);
                        self.later.push_back(number);
                        return;
                    }
                    Readiness::Waits => connection.left = 0,
                }
            }
            if connection.left == 0 {
                connection.put_off.get_or_insert(self.now);
                connection.is_busy = true;
                let woken = Arc::new(Woken { number, all: Arc::clone(&self.woken) });
                limiter.wait(&mut connection.own, &Waker::from(woken), self.now);
                break;
            }
            let Some(sent) = connection.unread.pop_front() else { break };
            connection.left -= 1;
            answered += 1;
            if limiter.refuses(&connection.own, waited, self.now) {
                self.now += self.costs.refuse;
                connection.refused += 1;
            } else {
                self.now += self.costs.serve;
                connection.waits.push(self.now - sent);
            }
        }
        if reads {
            limiter.end_turn(&mut connection.own, connection.left, connection.left > 0);
            self.answered(answered);
        }
    }
}

const LIMITED: Option<fn(Instant) -> Limiter> = Some(|began| Limiter::new(TARGET, began));

/// Runs for `seconds`; what came before the first second is forgotten, in which it is found who asks for too much.
fn run(connections: Vec<Connection>, costs: Costs, seconds: u64, limiter: Option<fn(Instant) -> Limiter>) -> Course {
    run_with(connections, 0, costs, seconds, limiter)
}

/// With so many calls under way beside the rates: for each that is answered there is another one.
fn run_with(
    connections: Vec<Connection>,
    under_way: usize,
    costs: Costs,
    seconds: u64,
    limiter: Option<fn(Instant) -> Limiter>,
) -> Course {
    let began = Instant::now();
    let mut thread = Thread {
        connections,
        next_calls: (under_way > 0)
            .then(|| (0..under_way).map(|call| (began + MICROSECOND * 50 * u32::try_from(call).unwrap(), 1)).collect()),
        next: 0,
        costs,
        limiter: limiter.map(|limiter| limiter(began)),
        began,
        now: began,
        tasks: VecDeque::new(),
        steps: 0,
        later: VecDeque::new(),
        woken: Arc::default(),
    };
    let mut warm = None;
    while thread.now < began + Duration::from_secs(seconds) {
        if warm.is_none() && thread.now >= began + Duration::from_secs(1) {
            warm = Some(thread.now);
            for connection in &mut thread.connections {
                connection.waits.clear();
                connection.refused = 0;
            }
        }
        thread.steps += 1;
        if thread.tasks.is_empty() || thread.steps >= LOOK_AROUND {
            thread.steps = 0;
            thread.look_around();
        }
        thread.step();
    }
    let elapsed = thread.now - warm.unwrap();
    Course { connections: thread.connections, elapsed }
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
        let costs = Costs { serve, refuse, ..Costs::default() };
        let capacity = 1.0 / serve.as_secs_f64();
        let count = 1 + draws.next_u64() % 40;
        let course = run(connections(count, 3.0 * capacity), costs, 8, LIMITED);
        let goodput = course.served_per_second() / capacity;
        assert!(goodput >= 0.8, "{goodput:.2} of capacity: {costs:?}, {count} connections");
        // Who does not wait for others just asks as fast as it is answered.
        let turns_of_others = serve * u32::try_from(A_HANDFUL).unwrap() * u32::try_from(count - 1).unwrap();
        assert!(course.refused() > 0 || turns_of_others < 2 * TARGET, "{costs:?}, {count} connections: nobody was told");
    }
}

#[test]
fn without_a_limit_everybody_waits_for_everybody() {
    let costs = Costs { serve: 100 * MICROSECOND, refuse: 20 * MICROSECOND, ..Costs::default() };
    let others = || connections(20, 30_000.0).into_iter().chain([connection(20.0)]).collect();
    let p99 = |limiter| {
        let course = run(others(), costs, 6, limiter);
        let modest = course.connections.last().unwrap();
        assert_eq!(modest.refused, 0, "whoever asks little is served");
        percentile(modest.waits.clone(), 99)
    };
    let (with, without) = (p99(LIMITED), p99(None));
    // One turn of another.
    assert!(with <= TARGET, "{with:?}");
    assert!(without > 20 * TARGET, "{without:?}");
}

/// Whoever asks for most of an equal part waits for a few turns of others, whatever they ask for; also where the thread is now slow
/// and now fast.
#[test]
fn who_asks_for_no_more_than_its_part_does_not_feel_the_others() {
    let costs = Costs { serve: 100 * MICROSECOND, refuse: 60 * MICROSECOND, ..Costs::default() };
    // Twelve who ask: a part is 833 a second at best, and 740 with what the refusals cost.
    let course = run(connections(8, 30_000.0).into_iter().chain(connections(4, 2_500.0)).collect(), costs, 8, LIMITED);
    for modest in &course.connections[8..] {
        assert_eq!(modest.refused, 0);
        let (p50, p99) = (percentile(modest.waits.clone(), 50), percentile(modest.waits.clone(), 99));
        assert!(p50 < TARGET && p99 < 3 * TARGET, "{p50:?}, {p99:?}");
    }
    assert!(course.refused() > 0);
}

/// Where each turn costs as much as some calls, those who ask for a quarter of the peak would need most of the time there is if each
/// call was read as it comes; they wait for some turns of others, and so does who asks hardly ever.
#[test]
fn turns_that_cost_time_themselves_leave_enough_of_it() {
    let costs = Costs { serve: 48 * MICROSECOND, refuse: 32 * MICROSECOND, turn: 160 * MICROSECOND };
    let all = connections(8, 54_000.0).into_iter().chain(connections(4, 4_500.0)).chain([connection(47.0)]).collect();
    let course = run(all, costs, 8, LIMITED);
    for connection in &course.connections[8..] {
        assert_eq!(connection.refused, 0);
        let p99 = percentile(connection.waits.clone(), 99);
        assert!(p99 < TARGET, "{p99:?}");
    }
    assert!(course.served_per_second() > 10_000.0, "{}", course.served_per_second());
}

/// Who asks for hardly more than can be done has something left of its part; whoever asks little does not wait for its turns, either.
#[test]
fn whoever_asks_little_waits_for_one_turn_of_those_who_nearly_keep_up() {
    let costs = Costs { serve: 48 * MICROSECOND, refuse: 32 * MICROSECOND, turn: 100 * MICROSECOND };
    let attacker = |number| Connection { at_once: 5, phase: f64::from(number) / 8.0, ..connection(19_000.0 / 8.0) };
    let course = run((0..8).map(attacker).chain([connection(47.0)]).collect(), costs, 20, LIMITED);
    let p99 = percentile(course.connections[8].waits.clone(), 99);
    assert!(p99 < (costs.serve * u32::try_from(A_HANDFUL).unwrap() + costs.turn) * 3 / 2, "{p99:?}");
}

/// Who always has some calls under way is read with all that has come meanwhile, as without rounds: turns for single calls would take
/// a good part of the time.
#[test]
fn rounds_cost_little_where_all_ask_alike() {
    let costs = Costs { serve: 8 * MICROSECOND, refuse: 6 * MICROSECOND, turn: 25 * MICROSECOND };
    let all = || (0..32).map(|_| Connection::default()).collect();
    let served = |limiter| run_with(all(), 256, costs, 4, limiter);
    let (with, without) = (served(Some(in_rounds)), served(None));
    let (with, without) = (with.served_per_second(), without.served_per_second());
    assert!(with > 0.8 * without, "{with:.0} and {without:.0} a second");
}

/// Nobody asks for much; but there are so many that all of them wait.
#[test]
fn where_many_ask_little_and_too_much_together_some_are_told() {
    let costs = Costs { serve: 100 * MICROSECOND, refuse: 60 * MICROSECOND, ..Costs::default() };
    let course = run(connections(2_000, 30_000.0), costs, 6, LIMITED);
    assert!(course.served_per_second() >= 8_000.0, "{}", course.served_per_second());
    assert!(course.refused() > 1_000, "{}", course.refused());
}

#[test]
fn what_fits_is_never_refused() {
    for share in [0.3, 0.7, 0.95] {
        let costs = Costs { serve: 100 * MICROSECOND, refuse: 20 * MICROSECOND, ..Costs::default() };
        let course = run(connections(10, 10_000.0 * share), costs, 5, LIMITED);
        assert_eq!(course.refused(), 0, "at {share} of what it can do");
        let waits = course.connections.iter().flat_map(|connection| connection.waits.clone()).collect();
        assert!(percentile(waits, 99) < TARGET * 2, "at {share} of what it can do");
    }
}

#[test]
fn what_came_while_the_process_stood_still_is_served() {
    let costs = Costs { serve: 100 * MICROSECOND, refuse: 20 * MICROSECOND, ..Costs::default() };
    // All come at once, in every tenth of a second.
    let crowd = || (0..50).map(|_| Connection { at_once: 5, ..connection(50.0) }).collect();
    let course = run(crowd(), costs, 5, LIMITED);
    assert_eq!(course.refused(), 0);
    let waits = course.connections.iter().flat_map(|connection| connection.waits.clone()).collect();
    assert!(percentile(waits, 50) > 2 * TARGET, "there is a crowd");
}

const AT_FIRST: Asks = Asks { has_yielded: false, waited: Duration::ZERO };
const WHEN_CALLED: Asks = Asks { has_yielded: true, waited: Duration::ZERO };

/// There are rounds for an hour.
fn in_rounds(began: Instant) -> Limiter {
    let limiter = Limiter::new(TARGET, began);
    limiter.state().rounds_until = began + Duration::from_hours(1);
    limiter
}

/// Of a connection with so many calls.
fn readiness(limiter: &Limiter, own: &mut Own, asks: Asks, unread: usize, now: Instant) -> Readiness {
    limiter.readiness(own, asks, || unread, now)
}

/// Waits for a turn of so many calls, has it, and drains what there is.
fn turn_after(limiter: &Limiter, waited: Duration, calls: usize, now: Instant) {
    let mut own = Own::default();
    let asks = Asks { has_yielded: true, waited };
    let mut begins = readiness(limiter, &mut own, asks, 1_000, now);
    if begins == Readiness::Waits {
        limiter.wait(&mut own, Waker::noop(), now);
        begins = readiness(limiter, &mut own, asks, 1_000, now);
    }
    let Readiness::Begins(given) = begins else { panic!("{begins:?}, though nobody else is there") };
    limiter.end_turn(&mut own, given - calls, true);
}

#[test]
fn there_are_rounds_once_many_calls_wait_for_too_long() {
    let mut now = Instant::now();
    let limiter = Limiter::new(TARGET, now);
    let late = TARGET + MICROSECOND;
    // After a time with these waits, of so many calls each: whether there are rounds.
    let mut has_rounds_after = |turns: &[(Duration, usize)]| {
        for (number, (waited, calls)) in turns.iter().enumerate() {
            if number + 1 == turns.len() {
                now += LOOK_BACK;
            }
            turn_after(&limiter, *waited, *calls, now);
        }
        readiness(&limiter, &mut Own::default(), AT_FIRST, 1, now) == Readiness::Waits
    };
    let one_turn = [(late, 20), (TARGET, 1)];
    let quarter = [(late, 6), (late, 4), (TARGET, 10), (TARGET, 20)];
    let hardly_less = [(late, 6), (late, 4), (TARGET, 11), (TARGET, 20)];
    for _ in 0..20 {
        assert!(!has_rounds_after(&[(late, 20)]), "a moment in which all stood still");
        assert!(!has_rounds_after(&one_turn));
        assert!(!has_rounds_after(&hardly_less));
        assert!(!has_rounds_after(&[(late, 0), (late, 0)]), "nothing came");
    }
    assert!(has_rounds_after(&quarter));
    // As many are needed for them to go on.
    let times = QUIET.as_millis() / LOOK_BACK.as_millis();
    for _ in 1..times {
        assert!(has_rounds_after(&one_turn));
    }
    assert!(has_rounds_after(&quarter));
    for _ in 1..times {
        assert!(has_rounds_after(&hardly_less));
    }
    assert!(!has_rounds_after(&one_turn));
}

#[test]
fn now_and_then_somebody_sees_others_first_to_see_how_long_that_takes() {
    let began = Instant::now();
    let limiter = Limiter::new(TARGET, began);
    let mut own = Own::default();
    for _ in 0..3 {
        let now = limiter.state().look_at;
        assert_eq!(readiness(&limiter, &mut own, AT_FIRST, 1, now), Readiness::AfterOthers);
        for asks in [WHEN_CALLED, AT_FIRST, AT_FIRST] {
            assert_eq!(readiness(&limiter, &mut own, asks, 1, now), Readiness::Begins(2 * A_HANDFUL));
        }
    }
}

#[test]
fn whoever_is_behind_has_half_of_what_others_have() {
    let began = Instant::now();
    let limiter = in_rounds(began);
    let mut own = Own::default();
    // It was called, and has more to be read than its turn had room for.
    let turn_at = |own: &mut Own, now| {
        limiter.wait(own, Waker::noop(), now);
        let turn = readiness(&limiter, own, WHEN_CALLED, 1_000, now);
        limiter.wait(own, Waker::noop(), now);
        turn
    };
    assert_eq!(turn_at(&mut own, began), Readiness::Begins(A_HANDFUL), "it never kept up");
    assert_eq!(turn_at(&mut own, began), Readiness::Begins(A_HANDFUL));
    assert_eq!(readiness(&limiter, &mut own, WHEN_CALLED, 1_000, began), Readiness::Begins(A_HANDFUL));
    limiter.end_turn(&mut own, A_HANDFUL, true);
    assert_eq!(turn_at(&mut own, began), Readiness::Begins(2 * A_HANDFUL));
    assert_eq!(turn_at(&mut own, began + CATCHING_UP_MAX), Readiness::Begins(2 * A_HANDFUL));
    assert_eq!(turn_at(&mut own, began + 2 * CATCHING_UP_MAX), Readiness::Begins(A_HANDFUL));
}

#[test]
fn one_is_refused_for_so_many_that_are_served_and_only_whoever_is_behind() {
    let began = Instant::now();
    let limiter = in_rounds(began);
    let mut greedy = Own::default();
    let (mut served, mut refused) = (0, 0);
    for turn in 0..500_u32 {
        let now = began + 2 * MICROSECOND * 1_000 * turn;
        if let Readiness::Begins(_) = readiness(&limiter, &mut greedy, WHEN_CALLED, 1_000, now) {
            // Whoever reads asks whether there is more before what it has read is looked at.
            limiter.wait(&mut greedy, Waker::noop(), now);
            for _ in 0..A_HANDFUL {
                let is_refused = limiter.refuses(&greedy, 2 * TARGET, now);
                *if is_refused { &mut refused } else { &mut served } += 1;
            }
        }
        assert!(refused == 0 || now > began + BEHIND_MAX, "a burst is served");
        limiter.end_turn(&mut greedy, 0, false);
    }
    assert!(refused <= served / SERVED_PER_REFUSAL, "{refused} of {served}");
    assert!(refused >= served / SERVED_PER_REFUSAL / 2, "{refused} of {served}");
    // Neither who does not wait for its turns, nor who has had all of it read.
    let now = began + MICROSECOND * 1_000_000;
    for _ in 0..100 {
        assert!(!limiter.refuses(&greedy, TARGET, now));
    }
    limiter.end_turn(&mut greedy, 1, true);
    assert!(!limiter.refuses(&greedy, 2 * TARGET, now));
}

#[test]
fn a_turn_begins_when_others_were_seen() {
    let began = Instant::now();
    let limiter = in_rounds(began);
    let [mut much, mut little] = <[Own; 2]>::default();
    assert_eq!(readiness(&limiter, &mut much, AT_FIRST, 1_000, began), Readiness::Waits);
    limiter.wait(&mut much, Waker::noop(), began);
    assert_eq!(readiness(&limiter, &mut much, AT_FIRST, 1_000, began), Readiness::Begins(A_HANDFUL), "nobody had a turn yet");
    limiter.wait(&mut much, Waker::noop(), began);
    assert_eq!(readiness(&limiter, &mut much, AT_FIRST, 1_000, began), Readiness::AfterOthers);
    // There is somebody who asks little; that is all it has before the others are seen again.
    assert_eq!(readiness(&limiter, &mut little, AT_FIRST, A_FEW, began), Readiness::Waits);
    limiter.wait(&mut little, Waker::noop(), began);
    assert_eq!(readiness(&limiter, &mut much, WHEN_CALLED, 1_000, began), Readiness::Waits, "it gives way");
    assert_eq!(readiness(&limiter, &mut little, AT_FIRST, 1_000, began), Readiness::Begins(A_FEW_MORE));
    limiter.wait(&mut little, Waker::noop(), began);
    // It waits for a turn of another, with all that has come meanwhile.
    assert_eq!(readiness(&limiter, &mut little, AT_FIRST, 1_000, began), Readiness::Waits);
    assert_eq!(
        readiness(&limiter, &mut much, AT_FIRST, 1_000, began),
        Readiness::Begins(A_HANDFUL),
        "so few were not worth a look"
    );
    limiter.wait(&mut much, Waker::noop(), began);
    assert_eq!(readiness(&limiter, &mut little, AT_FIRST, 1_000, began), Readiness::AfterOthers);
    assert_eq!(readiness(&limiter, &mut little, WHEN_CALLED, 1_000, began), Readiness::Begins(A_HANDFUL), "it is another round");
    limiter.wait(&mut little, Waker::noop(), began);
    assert_eq!(readiness(&limiter, &mut little, WHEN_CALLED, 1_000, began), Readiness::Waits);
    // Whoever is over holds nobody up.
    limiter.leave(&mut much);
    assert_eq!(readiness(&limiter, &mut little, WHEN_CALLED, 1_000, began), Readiness::Begins(A_HANDFUL));
}

#[test]
fn who_has_nothing_to_be_read_does_not_wait_for_it() {
    let began = Instant::now();
    let limiter = in_rounds(began);
    assert_eq!(readiness(&limiter, &mut Own::default(), AT_FIRST, 0, began), Readiness::Begins(A_FEW));
}
