//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use tessera_core::shown::shown;

use crate::address::Address;
use crate::credentials::Files;
use crate::popularity::EXPONENT_MAX;
use crate::question::Mode;
use crate::rate::Rate;
use crate::schedule::Arrivals;

/// Most tenants; the benches go to ten million.
pub const TENANTS_MAX: u64 = 100_000_000;
/// Most checks in a frame of a stream, as the API has it.
pub const FRAME_LEN_MAX: usize = 1_000;
/// Most checks in a batch, as the API has it.
pub const BATCH_LEN_MAX: usize = 10_000;
/// Most checks under way: bounds the generator's memory.
pub const CHECKS_UNDER_WAY_MAX: usize = 20_000_000;
/// Longest step and longest wait.
const WAIT_MAX: Duration = Duration::from_hours(24);
/// Longest deadline: eight digits of milliseconds is what gRPC carries.
const DEADLINE_MAX: Duration = Duration::from_hours(1);

/// Open-loop load for a running deployment, with every answer verified
#[derive(Debug, Parser)]
#[command(name = "tessera-loadtest", version, max_term_width = 110)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Put the scenario into a deployment: services, plans, tenants; doing it again repairs it
    Prepare(Prepare),
    /// Put load on a deployment that holds the scenario
    Run(Box<Run>),
    /// Say what the scenario expects of one tenant
    Expect(Expect),
    /// Print questions of the scenario as JSON, as ghz takes them in a data file
    Questions(AsData),
    /// Print the JSON schema of what `run --json` writes
    Schema,
}

/// Arguments of `prepare`.
#[derive(Debug, Args)]
pub struct Prepare {
    /// Control plane
    #[arg(long, visible_alias = "control", value_name = "ADDR", env = "TESSERA_CONTROL_ADDR", default_value = "127.0.0.1:7401")]
    pub control_addr: Address,
    /// How many tenants, from 1 to 100,000,000
    #[arg(long, value_name = "N", value_parser = tenants)]
    pub tenants: u64,
    /// Change plans of the scenario's names that say something else
    #[arg(long)]
    pub overwrite: bool,
    /// Longest wait for one answer, such as 30s
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = wait)]
    pub timeout: Duration,
    /// No progress bar and no summary
    #[arg(long, short)]
    pub quiet: bool,
    /// Who asks
    #[command(flatten)]
    pub who: Files,
}

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// Data plane; several addresses share the connections between them
    #[arg(
        long,
        visible_alias = "data",
        value_name = "ADDR",
        env = "TESSERA_DATA_ADDR",
        default_value = "127.0.0.1:7400",
        value_delimiter = ','
    )]
    pub data_addr: Vec<Address>,
    /// How many tenants of the scenario to ask about
    #[arg(long, value_name = "N", default_value = "10000", value_parser = tenants)]
    pub tenants: u64,
    /// How checks are packed into messages
    #[arg(long, value_enum, default_value = "unary")]
    pub mode: Mode,
    /// Checks in a message: 1 in unary, up to 1,000 in stream, up to 10,000 in batch mode [default: 1, 50, 1000]
    #[arg(long, value_name = "N")]
    pub size: Option<usize>,
    /// Messages a second, one step each: numbers such as 800 or 2.5k, ramps such as 1k..10k
    #[arg(long, value_name = "RATE,…", default_value = "1k", value_delimiter = ',')]
    pub rate: Vec<Rate>,
    /// Length of a step
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = wait)]
    pub duration: Duration,
    /// Load at the first step's rate before it, left out of the figures; 0 for none
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = wait_or_none)]
    pub warm_up: Duration,
    /// How messages follow each other
    #[arg(long, value_enum, default_value = "constant")]
    pub arrivals: Arrivals,
    /// Ask about few tenants most of the time, by a Zipf law with this exponent [default: all alike; without a number: 1]
    #[arg(long, value_name = "EXPONENT", num_args = 0..=1, default_missing_value = "1", value_parser = exponent)]
    pub zipf: Option<f64>,
    /// Connections over all servers
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub connections: u32,
    /// Streams on each connection, in stream mode
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub streams: u32,
    /// Most messages under way; what is due beyond waits, and is counted if its deadline passes [default: 1000, 200 frames, 64 batches]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub in_flight: Option<u32>,
    /// Time from when a message is due until its answer is of no use
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = deadline)]
    pub deadline: Duration,
    /// Threads that send; each has its own connections
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub threads: u32,
    /// Changes of tenants a second beside the load
    #[arg(long, value_name = "RATE")]
    pub updates: Option<Rate>,
    /// Control plane, for --updates
    #[arg(long, visible_alias = "control", value_name = "ADDR", env = "TESSERA_CONTROL_ADDR", default_value = "127.0.0.1:7401")]
    pub control_addr: Address,
    /// Repeats the questions and the random distances of another run [default: a new one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Stop when nobody has answered for so long
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = wait)]
    pub give_up_after: Duration,
    /// Do not look first whether the deployment holds the scenario
    #[arg(long)]
    pub skip_probe: bool,
    /// Write the report as JSON, too; `-` is standard output, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// No progress bar and no table
    #[arg(long, short)]
    pub quiet: bool,
    /// Who asks
    #[command(flatten)]
    pub who: Files,
}

/// Arguments of `expect`.
#[derive(Debug, Args)]
pub struct Expect {
    /// The tenant's number, from 0
    #[arg(value_name = "NUMBER")]
    pub tenant: u64,
}

/// Arguments of `questions`.
#[derive(Debug, Args)]
pub struct AsData {
    /// How many tenants of the scenario to ask about
    #[arg(long, value_name = "N", default_value = "1000", value_parser = tenants)]
    pub tenants: u64,
    /// How checks are packed into messages
    #[arg(long, value_enum, default_value = "unary")]
    pub mode: Mode,
    /// Checks in a message [default: 1, 50, 1000]
    #[arg(long, value_name = "N")]
    pub size: Option<usize>,
    /// Messages
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub messages: u32,
    /// Repeats the questions
    #[arg(long, value_name = "N", default_value = "1")]
    pub seed: u64,
}

impl Run {
    /// Checks in a message.
    pub fn checks(&self) -> usize {
        self.size.unwrap_or_else(|| self.mode.checks())
    }

    /// Most messages under way.
    pub fn under_way_max(&self) -> u32 {
        self.in_flight.unwrap_or(match self.mode {
            Mode::Unary => 1_000,
            Mode::Stream => 200,
            Mode::Batch => 64,
        })
    }

    /// What cannot be told from one argument alone.
    pub fn validate(&self) -> anyhow::Result<()> {
        let (size, under_way) = (self.checks(), self.under_way_max());
        self.mode.validate(size)?;
        let checks = size.saturating_mul(usize::try_from(under_way)?);
        anyhow::ensure!(
            checks <= CHECKS_UNDER_WAY_MAX,
            "--in-flight: `{under_way}` messages of {size} checks; allowed are at most {CHECKS_UNDER_WAY_MAX} checks under way"
        );
        let threads = self.threads;
        for (option, value) in [("--connections", self.connections), ("--in-flight", under_way)] {
            anyhow::ensure!(value >= threads, "{option}: `{value}` for {threads} threads; allowed is at least one for each");
        }
        // A server without a connection would be asked nothing, and the report would name it all the same.
        let (connections, servers) = (self.connections, self.data_addr.len());
        let names: Vec<_> = self.data_addr.iter().map(ToString::to_string).collect();
        anyhow::ensure!(
            usize::try_from(connections)? >= servers,
            "--connections: `{connections}` for the {servers} servers of --data-addr (`{}`); allowed is at least one for each",
            shown(&names.join(","))
        );
        if let Some(rate) = self.updates {
            anyhow::ensure!(
                rate.from.total_cmp(&rate.to).is_eq(),
                "--updates: `{rate}` is a ramp; allowed is one rate, such as 500"
            );
        }
        anyhow::ensure!(self.streams == 1 || self.mode == Mode::Stream, "--streams: only streams have them; say --mode stream");
        Ok(())
    }
}

impl AsData {
    /// Checks in a message, if they are allowed.
    pub fn checks(&self) -> anyhow::Result<usize> {
        let size = self.size.unwrap_or_else(|| self.mode.checks());
        self.mode.validate(size).map(|()| size)
    }
}

impl Mode {
    /// Checks in a message, where nobody says.
    fn checks(self) -> usize {
        match self {
            Self::Unary => 1,
            Self::Stream => 50,
            Self::Batch => 1_000,
        }
    }

    fn validate(self, size: usize) -> anyhow::Result<()> {
        let (mode, most) = match self {
            Self::Unary => ("unary", 1),
            Self::Stream => ("stream", FRAME_LEN_MAX),
            Self::Batch => ("batch", BATCH_LEN_MAX),
        };
        anyhow::ensure!(
            (1..=most).contains(&size),
            "--size: `{size}` checks in a message; allowed in {mode} mode are 1 to {most}"
        );
        Ok(())
    }
}

fn tenants(text: &str) -> Result<u64, String> {
    let given = text.parse().ok().filter(|count| (1..=TENANTS_MAX).contains(count));
    given.ok_or_else(|| format!("`{}` is not a number of tenants; allowed are 1 to {TENANTS_MAX}", shown(text)))
}

fn exponent(text: &str) -> Result<f64, String> {
    let given = text.parse().ok().filter(|exponent| (0.0..=EXPONENT_MAX).contains(exponent));
    given.ok_or_else(|| format!("`{}` is not an exponent; allowed are 0 to {EXPONENT_MAX}", shown(text)))
}

/// `500ms`, `10s`, `5m`, `1h`.
fn time(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (digits, unit_ms) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => match text.char_indices().next_back()? {
            (at, 's') => (text.get(..at)?, 1_000),
            (at, 'm') => (text.get(..at)?, 60_000),
            (at, 'h') => (text.get(..at)?, 3_600_000),
            _ => return None,
        },
    };
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse::<u64>().ok().filter(|_| is_number).and_then(|count| count.checked_mul(unit_ms)).map(Duration::from_millis)
}

fn bounded(text: &str, least: Duration, most: Duration, allowed: &str) -> Result<Duration, String> {
    let given = time(text).filter(|given| (least..=most).contains(given));
    given.ok_or_else(|| format!("`{}` is not a time; allowed are {allowed}, such as 500ms, 10s or 5m", shown(text)))
}

fn wait(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_millis(1), WAIT_MAX, "1ms to 24h")
}

fn wait_or_none(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::ZERO, WAIT_MAX, "0 to 24h")
}

fn deadline(text: &str) -> Result<Duration, String> {
    bounded(text, Duration::from_millis(1), DEADLINE_MAX, "1ms to 1h")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &str) -> Result<Run, String> {
        let words = ["tessera-loadtest", "run"].into_iter().chain(words.split_whitespace());
        let arguments = Arguments::try_parse_from(words).map_err(|error| error.to_string())?;
        let Command::Run(run) = arguments.command else { return Err("not a run".to_owned()) };
        run.validate().map_err(|error| error.to_string())?;
        Ok(*run)
    }

    #[test]
    fn what_is_left_out_depends_on_the_mode() {
        let defaults = |words: &str| run(words).map(|run| (run.checks(), run.under_way_max()));
        assert_eq!(defaults(""), Ok((1, 1_000)));
        assert_eq!(defaults("--mode stream"), Ok((50, 200)));
        assert_eq!(defaults("--mode batch --size 10000 --in-flight 3"), Ok((10_000, 3)));
        let run = run("--rate 1k,2k..5k,800 --zipf --data-addr a:1,b:2").unwrap();
        assert_eq!((run.rate.len(), run.zipf, run.data_addr.len()), (3, Some(1.0), 2));
    }

    #[test]
    fn bad_input_names_the_option_the_value_and_what_is_allowed() {
        let cases = [
            ("--size 2", &["--size", "`2`", "unary", "1 to 1"][..]),
            ("--mode stream --size 1001", &["--size", "`1001`", "1 to 1000"]),
            ("--mode batch --size 10001", &["--size", "`10001`", "1 to 10000"]),
            ("--mode batch --size 0", &["--size", "`0`"]),
            ("--rate 0", &["--rate", "`0`", "0.1 to 10M"]),
            ("--rate 1k,,2k", &["--rate", "``"]),
            ("--duration 0s", &["--duration", "`0s`", "1ms to 24h"]),
            ("--duration 10", &["--duration", "`10`", "such as 500ms"]),
            ("--deadline 2h", &["--deadline", "`2h`", "1ms to 1h"]),
            ("--tenants 0", &["--tenants", "`0`", "1 to 100000000"]),
            ("--zipf=-1", &["--zipf", "`-1`", "0 to 10"]),
            ("--zipf nan", &["--zipf", "`nan`"]),
            ("--data-addr nowhere", &["--data-addr", "`nowhere`", "host:port"]),
            ("--connections 0", &["--connections", "1..=10000"]),
            ("--threads 4 --connections 3", &["--connections", "`3`", "4 threads"]),
            (
                "--data-addr a:1,b:2,c:3 --connections 2",
                &["--connections", "`2`", "3 servers", "--data-addr", "a:1,b:2,c:3", "at least one"],
            ),
            ("--streams 4", &["--streams", "--mode stream"]),
            ("--mode batch --size 10000 --in-flight 100000", &["--in-flight", "`100000`", "20000000"]),
            ("--updates 1k..2k", &["--updates", "`1k..2k`", "one rate"]),
            ("--client-key key.pem", &["--client-certificate"]),
            ("--mode sideways", &["--mode", "sideways", "unary"]),
        ];
        for (words, parts) in cases {
            let error = run(words).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{words}: {part} is not in: {error}");
            }
        }
    }
}
