//! More is asked of a process than it can do: what of it is still served, and what those feel who ask little.
//!
//! The process has a quarter of a core and one thread, as a container of that size has; whoever asks has another core.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use rustix::process::Pid;

use crate::child;
use crate::flood::Flood;
use crate::generator::{Generator, Refused, Step};
use crate::place::{pinned, serving_core};
use crate::quota::QuarterCore;
use crate::report::{Goal, Row};
use crate::stores::Workshop;

/// Tenants of the scenario; how many there are does not matter here.
const TENANTS: u64 = 10_000;
/// Rounds, each with everything.
const ROUNDS: u64 = 5;
/// How long load lasts whose effect is looked at.
const SECONDS: u32 = 4;
/// What is asked beside it begins so long before and ends so long after.
const MARGIN_SECONDS: u32 = 1;
/// After so much silence nothing is known of overload any more.
const SETTLING: Duration = Duration::from_millis(1_500);
/// What is asked for to find the peak, a second, and for how long: so much that it is never what bounds it.
const PEAK_ASKED: (f64, Duration) = (200_000.0, Duration::from_millis(100));
/// Of that, more than so much cannot be a peak.
const PEAK_OF_ASKED_MAX: f64 = 0.9;
/// Who is refused should know so soon, in ms.
const REFUSED_WITHIN: f64 = 5.0;
/// So many times the peak are too much.
const TOO_MUCH: f64 = 3.0;
/// Parts of the peak that all others ask for. They ask for one call at a time, which takes more than twice the time of one in a handful,
/// with which the peak is measured: a tenth of it in calls is a quarter in time, a quarter is most of it.
const OTHERS: [(f64, &str); 2] = [(0.25, "a quarter"), (0.1, "a tenth")];
/// What a good client asks for, a second: at no multiple of the time in which a part of a core is measured out.
const MODEST: f64 = 47.0;
/// Part of somebody's calls that may go unanswered, in per cent: a p99 of those that are answered hides no more than it leaves out.
const UNANSWERED_PERCENT_MAX: u64 = 1;
/// What an attacker asks for, a second.
const RESETS_PER_SECOND: u32 = 20_000;

/// What one round saw; waits in ms.
#[derive(Debug, Clone, Copy)]
struct Round {
    /// Checks a second.
    peak: f64,
    /// Per cent of it that a flood was answered.
    goodput: f64,
    /// Per cent of it that really reached the process; the rest waited in the generator.
    asked: f64,
    /// How soon it was refused what was too much, if anything was.
    refused: Option<Refused>,
    others: [Beside; OTHERS.len()],
    modest: Beside,
    attacked: Beside,
    /// Calls a second that nobody meant.
    attack: f64,
}

/// The p99 of somebody without and with others.
#[derive(Debug, Clone, Copy, Default)]
struct Beside {
    alone: f64,
    beside: f64,
}

/// All rows of this kind.
pub fn measure(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    let store = workshop.store(TENANTS)?;
    let mut server = workshop.server(pinned(&child::beside("tessera-server")?, serving_core()), &store)?;
    server.ready()?;
    let pid = i32::try_from(server.id()).ok().and_then(Pid::from_raw).context("its process id")?;
    let quarter = QuarterCore::of(pid)?;
    // One more, which warms up.
    let rounds = (0..=ROUNDS).map(|seed| look(server.address("data")?, seed)).skip(1).collect::<anyhow::Result<Vec<_>>>();
    drop(quarter);
    server.stop()?;
    Ok(rows(&rounds?))
}

fn look(server: SocketAddr, seed: u64) -> anyhow::Result<Round> {
    settle();
    // Never for much at once, and everything has its answer in the end.
    let (rate, duration) = (PEAK_ASKED.0, PEAK_ASKED.1.as_millis());
    let words = format!("--rate {rate} --in-flight 256 --connections 8 --deadline 60s --duration {duration}ms --seed {seed}");
    let most = Generator::start(server, TENANTS, &words)?.step()?;
    most.warn("at the peak");
    if most.failed > 0 {
        eprintln!("bench: at the peak {} of {} calls failed: the time for that is missing in it", most.failed, most.due);
    }
    let peak = counted(most.answered) / most.elapsed_seconds;
    anyhow::ensure!(peak <= PEAK_OF_ASKED_MAX * rate, "{peak:.0} a second of {rate} is what was asked for, and no peak");

    settle();
    let flooded = flood(server, TENANTS, TOO_MUCH * peak, seed, SECONDS)?.step()?;
    let asked = counted(flooded.answered + flooded.failed) / flooded.elapsed_seconds;

    let mut others = [Beside::default(); OTHERS.len()];
    for (others, (part, _)) in others.iter_mut().zip(OTHERS) {
        settle();
        let ask = || asking(server, part * peak, 4, seed);
        *others = Beside { alone: ask()?, beside: beside_a_flood(server, peak, seed, ask)? };
    }

    settle();
    let modest = || asking(server, MODEST, 1, seed);
    let modest_alone = modest()?;
    let modest_beside = beside_a_flood(server, peak, seed, modest)?;
    settle();
    let (resets, attacked_since) = (Flood::start(server, RESETS_PER_SECOND), Instant::now());
    let modest_attacked = modest().context("beside an attacker")?;
    Ok(Round {
        peak,
        goodput: 100.0 * flooded.answered_per_second / peak,
        asked: 100.0 * asked / peak,
        refused: flooded.refused,
        others,
        modest: Beside { alone: modest_alone, beside: modest_beside },
        attacked: Beside { alone: modest_alone, beside: modest_attacked },
        // It began before anybody was asked about beside it, and ends after that.
        attack: counted(resets.stop()?) / attacked_since.elapsed().as_secs_f64(),
    })
}

fn rows(rounds: &[Round]) -> Vec<Row> {
    let row = |name: &str, unit, of: &dyn Fn(&Round) -> f64| {
        let values: Vec<f64> = rounds.iter().map(of).collect();
        Row::measured(format!("a quarter of a core: {name}"), TENANTS, unit, &values)
    };
    let ratio = |name: &str, of: &dyn Fn(&Round) -> Beside| {
        row(name, "×", &|round| of(round).beside / of(round).alone).goal(Goal::AtMost(2.0))
    };
    let mut rows = vec![
        row("checks per second at its peak", "1/s", &|round| round.peak),
        row("asked for three times the peak, it answers of it", "%", &|round| round.goodput).goal(Goal::AtLeast(80.0)),
        row("asked for three times the peak, it was asked of it", "%", &|round| round.asked),
    ];
    rows.extend(refusals(rounds));
    for (number, (_, part)) in OTHERS.iter().enumerate() {
        let whose = format!("tenants that ask for {part} of the peak");
        let others = |round: &Round| round.others.get(number).copied().unwrap_or_default();
        rows.extend([
            row(&format!("{whose}: p99"), "ms", &|round| others(round).alone),
            row(&format!("{whose}, beside one that asks for three times the peak: p99"), "ms", &|round| others(round).beside),
            ratio(&format!("{whose}: ratio"), &others),
        ]);
    }
    rows.extend([
        row("a client that asks 47 times a second: p99", "ms", &|round| round.modest.alone),
        row("… beside a tenant that asks for three times the peak: p99", "ms", &|round| round.modest.beside),
        ratio("… ratio", &|round| round.modest),
        row("calls per second of an attacker who takes them back", "1/s", &|round| round.attack),
        row("the client beside the attacker: p99", "ms", &|round| round.attacked.beside),
        ratio("… ratio to the client alone", &|round| round.attacked),
    ]);
    rows
}

/// How soon those are refused who ask for three times the peak.
fn refusals(rounds: &[Round]) -> [Row; 4] {
    let row = |what: &str, of: fn(&Refused) -> f64| {
        let name = format!("a quarter of a core: refusals at three times the peak, since their calls were {what}");
        let values: Vec<f64> =
            rounds.iter().filter_map(|round| round.refused.as_ref()).map(|refused| of(refused) / 1e3).collect();
        if values.is_empty() {
            return Row::skipped(&name, TENANTS, "ms", "nobody was refused");
        }
        Row::measured(name, TENANTS, "ms", &values).goal(Goal::AtMost(REFUSED_WITHIN))
    };
    [
        row("due: p50", |refused| refused.latency.p50_us),
        row("due: p99", |refused| refused.latency.p99_us),
        row("sent: p50", |refused| refused.since_sent.p50_us),
        row("sent: p99", |refused| refused.since_sent.p99_us),
    ]
}

/// Until what came before is forgotten.
fn settle() {
    std::thread::sleep(SETTLING);
}

/// The p99 of whoever asks for no more than there is time for, in ms.
fn asking(server: SocketAddr, rate: f64, connections: u32, seed: u64) -> anyhow::Result<f64> {
    let words = format!("--rate {rate:.0} --connections {connections} --duration {SECONDS}s --seed {}", seed + 1_000);
    let step = Generator::start_before_others(server, TENANTS, &words)?.step()?;
    step.warn(&format!("calls at {rate:.0} a second"));
    nearly_all_answered(&step).with_context(|| format!("calls at {rate:.0} a second"))?;
    Ok(step.latency.p99_us / 1e3)
}

fn nearly_all_answered(step: &Step) -> anyhow::Result<()> {
    let Step { due, answered, failed, not_sent, .. } = step;
    let unanswered = due.saturating_sub(*answered);
    anyhow::ensure!(
        unanswered * 100 <= due * UNANSWERED_PERCENT_MAX,
        "{unanswered} of {due} were not answered ({failed} failed, not sent: {not_sent:?}); allowed are {UNANSWERED_PERCENT_MAX} %"
    );
    Ok(())
}

/// Far too much, about the first so many tenants.
fn flood(server: SocketAddr, tenants: u64, rate: f64, seed: u64, seconds: u32) -> anyhow::Result<Generator> {
    let words = format!("--rate {rate:.0} --in-flight 1000 --connections 8 --deadline 10s --duration {seconds}s --seed {seed}");
    Generator::start(server, tenants, &words)
}

/// What `others` see while one tenant is asked about three times as often as can be answered.
fn beside_a_flood(server: SocketAddr, peak: f64, seed: u64, others: impl Fn() -> anyhow::Result<f64>) -> anyhow::Result<f64> {
    let flood = flood(server, 1, TOO_MUCH * peak, seed, SECONDS + 2 * MARGIN_SECONDS)?;
    std::thread::sleep(Duration::from_secs(MARGIN_SECONDS.into()));
    let p99 = others().context("beside a flood")?;
    flood.step()?;
    Ok(p99)
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn counted(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::Latency;

    fn round(refused: Option<Refused>) -> Round {
        let beside = Beside { alone: 1.0, beside: 2.0 };
        let others = [beside; OTHERS.len()];
        Round { peak: 3e4, goodput: 90.0, asked: 98.0, refused, others, modest: beside, attacked: beside, attack: 2e4 }
    }

    fn refused(ms: f64) -> Refused {
        let of = |ms: f64| Latency { p50_us: ms * 1e3, p99_us: ms * 2e3 };
        Refused { latency: of(ms * 100.0), since_sent: of(ms) }
    }

    #[test]
    fn refusals_are_told_in_ms_and_held_against_their_goal() {
        // A round in which nobody was refused has nothing to tell of refusals.
        let rounds = [Some(refused(2.0)), None, Some(refused(3.0)), Some(refused(4.0))].map(round);
        let found: Vec<_> = rows(&rounds).into_iter().filter(|row| row.row.contains("refusals")).collect();
        let told: Vec<_> = found.iter().map(|row| (row.value, row.unit, row.met)).collect();
        let expected = [(300.0, false), (600.0, false), (3.0, true), (6.0, false)];
        assert_eq!(told, expected.map(|(value, met)| (Some(value), "ms", Some(met))));
        assert!(found[2].row.ends_with("since their calls were sent: p50") && found[2].min == Some(2.0), "{found:?}");
    }

    #[test]
    fn without_refusals_there_is_nothing_to_hold_against_the_goal() {
        let found = rows(&[round(None)]);
        let found: Vec<_> = found.iter().filter(|row| row.row.contains("refusals")).collect();
        assert_eq!(found.len(), 4);
        assert!(found.iter().all(|row| row.met.is_none() && row.row.ends_with("skipped, nobody was refused")), "{found:?}");
    }
}
