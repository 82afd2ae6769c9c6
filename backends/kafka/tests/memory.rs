//! Many records pass in bounded memory. A process of its own, since it looks at the memory of all of it.

use std::fs;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::Duration;

use tessera_core::ids::TenantId;
use tessera_core::stream::StreamId;
use tessera_kafka::{Config, Kafka, migrate};
use tessera_ports::change_feed::{Change, ChangeFeed as _, ChangePublisher as _};
use tokio::time::Instant;

const RECORDS: u64 = 100_000;
const PARTITIONS: u32 = 12;
const LONG: Duration = Duration::from_mins(2);
/// What readers of twelve partitions may hold by their settings, and what allocators and threads need besides.
const READING_MAX: u64 = 96 * 1024 * 1024;
/// Likewise what waits to be published, and the changes of one call.
const PUBLISHING_MAX: u64 = 96 * 1024 * 1024;

fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("a status");
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).expect("a resident size");
    let kib: u64 = line.split_whitespace().nth(1).expect("a number").parse().expect("a number");
    kib * 1024
}

fn mib(bytes: u64) -> u64 {
    bytes / 1024 / 1024
}

/// A kilobyte that can be packed to a third, as states can.
fn state(n: u64) -> Vec<u8> {
    let mut number = n;
    let mut next = || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        number.to_be_bytes()
    };
    let noise: Vec<u8> = std::iter::repeat_with(&mut next).take(42).flatten().collect();
    [noise, vec![b's'; 664]].concat()
}

/// Publishes far more than may be held at once; then every partition has a reader that has taken one record and no more, while
/// its consumer reads ahead; then all is read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_pass_in_bounded_memory() {
    let Some(bootstrap) = tessera_engines::shared_kafka().expect("a Kafka") else { return };
    let topic = format!("memory-{:x}", RandomState::new().build_hasher().finish());
    let config =
        Config { topic, partitions: PARTITIONS, replication_factor: 1, publish_timeout_ms: 60_000, ..Config::new([bootstrap]) };
    migrate(&config).await.expect("a topic");
    let kafka = Kafka::open(&config).await.expect("it opens");

    let at_first = resident();
    for part in 0..10 {
        let streams = part * RECORDS / 10..(part + 1) * RECORDS / 10;
        let change = |n: u64| {
            let stream = StreamId::Tenant(TenantId::parse(&format!("t{n}")).expect("a tenant id"));
            Change { epoch: 1, stream, seq: 1, state: state(n).into() }
        };
        let changes: Vec<Change> = streams.map(change).collect();
        kafka.publish(&changes).await.expect("it is published");
    }
    let published = resident();
    println!("publishing: {} MiB more than {} MiB", mib(published.saturating_sub(at_first)), mib(at_first));
    assert!(published.saturating_sub(at_first) < PUBLISHING_MAX);

    let id = kafka.topic().await.expect("a topic").id;
    let ends = kafka.ends().await.expect("ends");
    assert_eq!(ends.iter().sum::<u64>(), RECORDS);
    let mut positions = vec![0; ends.len()];
    let mut greatest = published;
    for (partition, position) in (0u32..).zip(&mut positions) {
        let batch = kafka.read(&id, partition, *position, 1, LONG).await.expect("a batch");
        *position = batch.next;
        greatest = greatest.max(resident());
    }
    // They read ahead until they hold what they may.
    let until = Instant::now() + Duration::from_secs(2);
    while Instant::now() < until {
        greatest = greatest.max(resident());
        tokio::task::yield_now().await;
    }
    let mut count = positions.iter().sum::<u64>();
    while positions != ends {
        for (partition, position) in (0u32..).zip(&mut positions) {
            let batch = kafka.read(&id, partition, *position, 1_000, Duration::from_millis(50)).await.expect("a batch");
            count += batch.messages.len() as u64;
            *position = batch.next;
        }
        greatest = greatest.max(resident());
    }
    assert_eq!(count, RECORDS);
    println!("reading: at most {} MiB more than {} MiB", mib(greatest - published), mib(published));
    assert!(greatest - published < READING_MAX);
}
