//! Outages of a cluster, with a Cassandra and a Kafka of its own that may be harmed: each of them killed under load, both of them
//! away while a server starts, a topic that is deleted and made again, records that nobody can use or that were there before, a
//! topic whose records are deleted before a server has read them, a network that is cut in one way: between a loader and the store,
//! between servers and the store or the feed.
//!
//! Looked for: writes that fail without saying what became of them, servers that stop answering, anything acknowledged that is
//! lost or twice, servers that hold something else than the store ten seconds after an outage is over, events that others are not
//! told of.

#[path = "cluster/one_way.rs"]
mod one_way;
#[path = "cluster/told.rs"]
mod told;
#[path = "cluster/two_listeners.rs"]
mod two_listeners;

use std::time::Duration;

use anyhow::Context as _;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Message as _, OwnedMessage};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tessera_e2e::cluster::{Cluster, Member, Place};
use tessera_e2e::commands::{Acknowledged, Change, Command, Ledger};
use tessera_e2e::load::{self, Load, reason_of};
use tessera_e2e::proxy::{Proxy, Way};
use tessera_e2e::waiting::{PATIENCE, eventually};
use tessera_e2e::{Planes, shop};
use tessera_engines::{Cassandra, Kafka, Options, shared};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;

const LOADERS: usize = 2;
const SERVERS: usize = 3;
const WRITERS: usize = 8;
const TENANTS: usize = 4;
/// Everything that was published is known to be.
const FRESH: Duration = Duration::from_secs(2);
/// What an attempt may fail with while the store is away: nothing was applied, or it is not known.
const CLEAN: [&str; 2] = ["Aborted OUTCOME_UNKNOWN", "Unavailable STORE_UNAVAILABLE"];
/// Commands under way at a time in a network that becomes bad.
const AT_ONCE: usize = 8;
/// One of so many is not done in a network that is bad.
const UNTIL_ONE_FAILS: usize = 200;
/// Where connections are reset, they are so often.
const RESET_EVERY: Duration = Duration::from_millis(10);
/// A limit of the plan.
const SEATS: &str = "seats";
/// More of it than the plan has.
const RAISED: i64 = 11;

/// A cluster on engines of its own, and what was acknowledged.
struct Outages {
    cassandra: Cassandra,
    kafka: Kafka,
    /// Whoever comes through it reaches the Kafka in no other way.
    to_kafka: Proxy,
    cluster: Cluster,
    tenants: Vec<String>,
    ledger: Ledger,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outages_delay_and_lose_nothing() -> anyhow::Result<()> {
    if !shared::available()? {
        return Ok(());
    }
    let mut outages = Outages::begin().await?;
    for (name, outage) in [
        ("kafka is killed", Outage::Kafka),
        ("cassandra is killed, and everything is away", Outage::Everything),
        ("the topic is made again", Outage::Topic),
        ("records nobody can use", Outage::Records),
        ("the topic is truncated", Outage::Truncation),
        ("the network is cut in one way", Outage::Network),
        ("servers are cut off in one way", Outage::Servers),
    ] {
        let begun = Instant::now();
        let suffered = match outage {
            Outage::Kafka => outages.kafka_is_killed().await,
            Outage::Everything => outages.everything_is_away().await,
            Outage::Topic => outages.the_topic_is_made_again().await,
            Outage::Records => outages.records_are_bad_or_old().await,
            Outage::Truncation => outages.the_topic_is_truncated().await,
            Outage::Network => outages.the_network_is_cut_in_one_way().await,
            Outage::Servers => outages.servers_are_cut_off_in_one_way().await,
        };
        let healed = suffered.with_context(|| format!("{name}\n{}", outages.cluster.account()))?;
        println!("{name}: {:.1?}, healed in {healed:.1?}", begun.elapsed());
    }
    let planes = outages.cluster.all_planes()?;
    outages.ledger.check_streams(&planes[0]).await?;
    outages.ledger.check_replays(&planes[1], 50).await?;
    planes[0].verify_audit().await?;
    load::check_all_servers(&outages.ledger, &planes).await?;
    let (events, times) = told::check_everything_is_told(&outages.cluster.place, &outages.tenants, &planes[0]).await?;
    println!("others were told of {events} events, {times} times in all");
    outages.cluster.ends_well().await
}

/// Waits until a member says at `/readyz`, with that status, what it misses.
async fn names(member: &Member, status: u16, what: &str) -> anyhow::Result<()> {
    eventually("the name of what is missing", async || {
        let page = member.process()?.page("/readyz").await?;
        let says = format!("{member} says {}: {}", page.status, page.body);
        anyhow::ensure!(page.status == status && page.body.contains(what), "{says}");
        Ok(())
    })
    .await
}

/// Every server says, out of what it holds, that the tenant may do what its plan has.
async fn all_answer(planes: &[Planes], tenant: &str) -> anyhow::Result<()> {
    for (server, planes) in planes.iter().enumerate() {
        let request = tessera_proto::v1::CheckEntitlementRequest {
            tenant_id: tenant.to_owned(),
            service: shop::SERVICE.to_owned(),
            feature: shop::FEATURE.to_owned(),
            ..Default::default()
        };
        let answer = planes.entitlements().check_entitlement(request).await?.into_inner();
        anyhow::ensure!(answer.entitled, "server {server} answers {answer:?}");
    }
    Ok(())
}

/// What became of commands, of which the first was answered before the network became so, and others were under way. Where it must
/// fail somebody, there are always more of them until one is not done.
async fn send_while_it_gets_bad(
    network: &Proxy,
    planes: &Planes,
    round: usize,
    (there, back): (Way, Way),
    must_fail: bool,
) -> anyhow::Result<Vec<(Result<Acknowledged, Status>, Command)>> {
    let mut commands = JoinSet::new();
    let begin = |commands: &mut JoinSet<_>, number: usize| {
        let name = format!("cut-{round}-{number}");
        let command = Command { tenant: name.clone(), request_id: name, change: Change::Create };
        let planes = planes.clone();
        commands.spawn(async move { (command.send(&planes, false).await, command) });
    };
    (0..AT_ONCE).for_each(|number| begin(&mut commands, number));
    // Some are before their append then, some in it, some after it.
    let mut sent = vec![commands.join_next().await.context("commands")??];
    network.set(there, back);
    let is_reset = (there, back) == (Way::Open, Way::Open);
    let (mut sent_count, until) = (AT_ONCE, Instant::now() + PATIENCE);
    let mut resets = tokio::time::interval(RESET_EVERY);
    loop {
        // The first had its answer before.
        let all_done = sent.iter().skip(1).all(|(outcome, _)| outcome.is_ok());
        if must_fail && all_done && commands.len() < AT_ONCE && sent_count < UNTIL_ONE_FAILS && Instant::now() < until {
            begin(&mut commands, sent_count);
            sent_count += 1;
        }
        tokio::select! {
            next = commands.join_next() => match next {
                Some(next) => sent.push(next?),
                None => return Ok(sent),
            },
            _ = resets.tick(), if is_reset && all_done => network.cut(),
        }
    }
}

#[derive(Debug, Clone, Copy)]
enum Outage {
    Kafka,
    Everything,
    Topic,
    Records,
    Truncation,
    Network,
    Servers,
}

impl Outages {
    async fn begin() -> anyhow::Result<Self> {
        let (to_kafka, options) = one_way::network_before_kafka().await?;
        let (cassandra, kafka) = tokio::task::block_in_place(|| {
            std::thread::scope(|scope| {
                let cassandra = scope.spawn(|| Cassandra::throwaway(&Options::default()));
                let kafka = Kafka::throwaway(&options);
                (cassandra.join(), kafka)
            })
        });
        let cassandra = cassandra.map_err(|_| anyhow::anyhow!("the thread that starts cassandra ended"))??;
        let kafka = kafka?;
        let mut place = Place::made(&cassandra.contact_point().to_string(), &kafka.bootstrap())?;
        // Short, so that whoever waits in vain says so soon.
        place.scylla += "append_timeout_ms = 1500\nread_timeout_ms = 1000\n";
        place.loader = place.loader.replace("deadline_default_ms = 5000", "deadline_default_ms = 3000");
        place.server += "snapshot_interval_ms = 300\nsnapshot_wait_ms = 500\n";
        let cluster = Cluster::start(place, LOADERS, SERVERS).await?;
        let tenants = load::tenants(TENANTS);
        let ledger = load::prepare(&cluster.planes(0, 0)?, WRITERS, &tenants).await?;
        Ok(Self { cassandra, kafka, to_kafka, cluster, tenants, ledger })
    }

    fn load(&self, name: &str) -> anyhow::Result<Load> {
        Ok(Load::begin(name, WRITERS, &self.tenants, &self.cluster.all_planes()?, self.ledger.len()))
    }

    /// From the end of an outage, when the last command was acknowledged too: how long servers differed from the store. Then
    /// heartbeats come again as well.
    async fn heals(&self, over: Instant) -> anyhow::Result<Duration> {
        let healed = self.cluster.heals_since(over).await?;
        self.cluster.is_as_the_command_line_says().await?;
        self.cluster.is_fresh(FRESH).await?;
        Ok(healed)
    }

    /// Writes go on, and are published when Kafka is back. Servers answer, and learn from the store what is written meanwhile.
    async fn kafka_is_killed(&mut self) -> anyhow::Result<Duration> {
        let load = self.load("without-kafka")?;
        load.goes_on(20).await?;
        self.kafka.kill()?;
        load.goes_on(40).await?;
        for member in self.cluster.loaders.iter().chain(&self.cluster.servers) {
            names(member, 200, "the feed: ").await?;
        }
        let planes = self.cluster.all_planes()?;
        for tenant in &self.tenants {
            all_answer(&planes, tenant).await?;
        }
        self.news_come_without_the_feed("made-without-kafka", &planes).await?;
        load.goes_on(20).await?;
        tokio::task::block_in_place(|| self.kafka.restart())?;
        let written = load.stop().await?;
        let over = Instant::now();
        println!("without kafka: {} acknowledged, failed {:?}", written.ledger.len(), written.failed);
        let (fresh, behind) = (written.fresh, written.behind);
        println!("without kafka: {fresh} answers as new as demanded, {behind} refused");
        anyhow::ensure!(fresh > 0, "no answer was as new as demanded, {behind} were refused");
        self.ledger.append(written.ledger);
        self.heals(over).await
    }

    /// Without the feed a server finds what is written on a lap, and sooner, in the store, what somebody demands.
    async fn news_come_without_the_feed(&mut self, tenant: &str, planes: &[Planes]) -> anyhow::Result<()> {
        let tenant = tenant.to_owned();
        let create = Command { tenant: tenant.clone(), request_id: tenant.clone(), change: Change::Create };
        let made = eventually("a new tenant", async || Ok(create.send(&planes[0], true).await?)).await?;
        self.ledger.note(create, made);
        // Nobody demands anything here: only a lap can bring it.
        eventually("what a lap brings", async || all_answer(planes, &tenant).await).await?;
        let change = Change::Limit { limit: SEATS.to_owned(), maximum: RAISED };
        let raise = Command { tenant: tenant.clone(), request_id: format!("{tenant}-raised"), change };
        let raised = eventually("a raised limit", async || Ok(raise.send(&planes[1], true).await?)).await?;
        let revision = &raised.revision;
        for (server, planes) in planes.iter().enumerate() {
            let asked = eventually("an answer", async || Ok(planes.limit_at_least(&tenant, SEATS, revision.clone()).await?));
            let found = asked.await?;
            anyhow::ensure!(found == RAISED, "server {server} answers older than demanded: {found}");
        }
        self.ledger.note(raise, raised);
        Ok(())
    }

    /// Writes fail with a reason; servers go on, and start from their snapshots even without Kafka.
    async fn everything_is_away(&mut self) -> anyhow::Result<Duration> {
        let load = self.load("without-cassandra")?;
        load.goes_on(20).await?;
        self.cassandra.kill()?;
        for loader in &self.cluster.loaders {
            names(loader, 503, "the store: ").await?;
        }
        self.kafka.kill()?;
        // A snapshot of before holds what was acknowledged then.
        self.cluster.servers[0].kill()?;
        self.cluster.servers[0].start(&self.cluster.place).await?;
        for server in &self.cluster.servers {
            names(server, 200, "the store: ").await?;
        }
        let planes = self.cluster.all_planes()?;
        for tenant in &self.tenants {
            all_answer(&planes, tenant).await?;
        }
        tokio::task::block_in_place(|| {
            self.cassandra.restart_without_waiting()?;
            self.kafka.restart()?;
            self.cassandra.wait_until_ready()
        })?;
        // Writers ask on for what is under way, until somebody takes it: a driver looks again for a store that was away for long
        // after up to ten seconds.
        let answering = Instant::now();
        let written = load.stop().await?;
        let over = Instant::now();
        let count = written.ledger.len();
        println!("without cassandra: {count} acknowledged, the last {:.1?} after it was back", over.duration_since(answering));
        println!("without cassandra: failed {:?}", written.failed);
        let unclean: Vec<&String> = written.failed.keys().filter(|reason| !CLEAN.contains(&reason.as_str())).collect();
        anyhow::ensure!(unclean.is_empty() && !written.failed.is_empty(), "attempts failed with {:?}", written.failed);
        self.ledger.append(written.ledger);
        self.heals(over).await
    }

    /// Servers read everything anew.
    async fn the_topic_is_made_again(&mut self) -> anyhow::Result<Duration> {
        let mut before = Vec::new();
        for server in &self.cluster.servers {
            before.push(server.process()?.metric_sum("tessera_hydrations_total").await?);
        }
        let place = &self.cluster.place;
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        for result in admin.delete_topics(&[&place.topic], &AdminOptions::new()).await? {
            result.map_err(|(topic, code)| anyhow::anyhow!("delete `{topic}`: {code}"))?;
        }
        // What is there when it is made again must not be the old one, which goes a little later than it is deleted.
        let gone = async || {
            let partitions = self.partitions_now()?;
            anyhow::ensure!(partitions == 0, "the topic has {partitions} partitions");
            Ok(())
        };
        eventually("the end of the topic", gone).await?;
        let load = self.load("another-topic")?;
        load.goes_on(20).await?;
        // An attempt may fail that has made it, and the next one finds it there.
        eventually("another topic", async || place.migrate(&[])?.success()).await?;
        let made = async || {
            let (partitions, expected) = (self.partitions_now()?, usize::try_from(place.partitions)?);
            anyhow::ensure!(partitions == expected, "the topic has {partitions} partitions of {expected}");
            Ok(())
        };
        eventually("all its partitions", made).await?;
        let written = load.stop().await?;
        let over = Instant::now();
        self.ledger.append(written.ledger);
        let healed = self.heals(over).await?;
        for (server, before) in self.cluster.servers.iter().zip(before) {
            eventually("another hydration", async || {
                let now = server.process()?.metric_sum("tessera_hydrations_total").await?;
                anyhow::ensure!(now > before, "{server} has hydrated {now} times, as often as before");
                Ok(())
            })
            .await?;
        }
        Ok(healed)
    }

    /// They are counted, and what comes after them is applied; records of before change nothing.
    async fn records_are_bad_or_old(&mut self) -> anyhow::Result<Duration> {
        let producer: FutureProducer = self.client().create()?;
        let topic = self.cluster.place.topic.clone();
        let send = async |partition: i32, key: &[u8], value: &[u8]| -> anyhow::Result<()> {
            let record = FutureRecord::to(&topic).partition(partition).key(key).payload(value);
            producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error).context("write a record")?;
            Ok(())
        };
        let partitions = i32::try_from(self.cluster.place.partitions)?;
        let mut bad = 0;
        let garbage: [(&[u8], &[u8]); 4] =
            [(b"", b""), (b"tenant/shared-0", b"not a change"), (b"\xff\xfe", &[0xff; 64]), (b"heartbeat", &[0; 8])];
        let load = self.load("poison")?;
        for partition in 0..partitions {
            for (key, value) in garbage {
                send(partition, key, value).await?;
                bad += 1;
            }
        }
        for server in &self.cluster.servers {
            eventually("bad records", async || {
                let count = server.process()?.metric_sum("tessera_changes_bad_total").await?;
                anyhow::ensure!(count >= f64::from(bad), "{server} has counted {count} of {bad}");
                Ok(())
            })
            .await?;
        }
        load.goes_on(20).await?;
        let mut again = 0;
        for partition in 0..partitions {
            for record in self.everything_in(partition)? {
                send(partition, record.key().unwrap_or_default(), record.payload().unwrap_or_default()).await?;
                again += 1;
            }
        }
        println!("{bad} bad records, {again} records again");
        let written = load.stop().await?;
        let over = Instant::now();
        self.ledger.append(written.ledger);
        self.heals(over).await
    }

    /// What a server has not read is gone from the topic when it goes on: it reads everything anew.
    async fn the_topic_is_truncated(&mut self) -> anyhow::Result<Duration> {
        const BEHIND: usize = 2;
        let server = &self.cluster.servers[BEHIND];
        let before = server.process()?.metric_sum("tessera_hydrations_total").await?;
        server.suspend()?;
        eventually("a server that stands still", async || {
            anyhow::ensure!(server.process()?.stands_still()?, "{server} goes on");
            Ok(())
        })
        .await?;
        // Who stands still is not asked. What comes first may be on its way to it; what comes later is not.
        let others = [self.cluster.planes(0, 0)?, self.cluster.planes(1, 1)?];
        let load = Load::begin("truncated", WRITERS, &self.tenants, &others, self.ledger.len());
        load.goes_on(20 * TENANTS).await?;
        let place = &self.cluster.place;
        let mut everything = TopicPartitionList::new();
        for partition in 0..i32::try_from(place.partitions)? {
            everything.add_partition_offset(&place.topic, partition, Offset::End)?;
        }
        let admin: AdminClient<DefaultClientContext> = self.client().create()?;
        let deleted = admin.delete_records(&everything, &AdminOptions::new()).await?;
        for partition in deleted.elements() {
            partition.error().with_context(|| format!("delete the records of partition {}", partition.partition()))?;
        }
        server.resume()?;
        eventually("another hydration", async || {
            let now = server.process()?.metric_sum("tessera_hydrations_total").await?;
            anyhow::ensure!(now > before, "{server} has hydrated {now} times, as often as before");
            Ok(())
        })
        .await?;
        load.goes_on(20).await?;
        let written = load.stop().await?;
        let over = Instant::now();
        self.ledger.append(written.ledger);
        self.heals(over).await
    }

    /// How many partitions the topic has; 0 when there is none.
    fn partitions_now(&self) -> anyhow::Result<usize> {
        let consumer: BaseConsumer = self.client().create()?;
        // Of all topics: one that is asked for by its name might be made.
        let metadata = consumer.fetch_metadata(None, Duration::from_secs(5)).context("list topics")?;
        let topic = metadata.topics().iter().find(|topic| topic.name() == self.cluster.place.topic);
        Ok(topic.map_or(0, |topic| topic.partitions().len()))
    }

    /// A partition's records up to its end of now.
    fn everything_in(&self, partition: i32) -> anyhow::Result<Vec<OwnedMessage>> {
        let topic = &self.cluster.place.topic;
        let patience = Duration::from_secs(30);
        let consumer: BaseConsumer = self.client().set("group.id", "nobody").create()?;
        let (_, end) = consumer.fetch_watermarks(topic, partition, patience)?;
        let mut from = TopicPartitionList::new();
        from.add_partition_offset(topic, partition, Offset::Beginning)?;
        consumer.assign(&from)?;
        let mut records = Vec::new();
        while records.last().map_or(0, |record: &OwnedMessage| record.offset() + 1) < end {
            let record = consumer.poll(patience).context("a record before the end")??;
            records.push(record.detach());
        }
        Ok(records)
    }

    /// Every command is done, or nothing is known of it; the same request id gets what became of it.
    async fn the_network_is_cut_in_one_way(&mut self) -> anyhow::Result<Duration> {
        let network = Proxy::to(self.cassandra.contact_point()).await?;
        let direct = std::mem::replace(&mut self.cluster.place.cassandra, network.address.to_string());
        self.cluster.loaders[0].kill()?;
        self.cluster.loaders[0].start(&self.cluster.place).await?;
        self.cluster.place.cassandra = direct;
        let (behind_it, other) = (self.cluster.planes(0, 0)?, self.cluster.planes(1, 1)?);
        let late = Way::Late(Duration::from_millis(100));
        // Longer than the loader waits for an append.
        let too_late = Way::Late(Duration::from_millis(2_500));
        let ways = [
            (Way::Open, Way::Held),
            (Way::Held, Way::Open),
            (Way::HalfClosed, Way::Open),
            (late, late),
            (Way::Open, too_late),
            // All connections are reset, again and again.
            (Way::Open, Way::Open),
        ];
        let mut outcomes = Vec::new();
        for (round, ways) in ways.into_iter().enumerate() {
            // A network that is only slow may fail nobody.
            let must_fail = ways != (late, late);
            let sent = send_while_it_gets_bad(&network, &behind_it, round, ways, must_fail).await?;
            network.set(Way::Open, Way::Open);
            network.cut();
            let all: Vec<String> =
                sent.iter().map(|(outcome, _)| outcome.as_ref().map_or_else(reason_of, |_| "done".to_owned())).collect();
            for (outcome, command) in sent {
                let again = eventually("what became of it", async || Ok(command.send(&other, true).await?)).await;
                let again = again.with_context(|| format!("send {command:?} again"))?;
                match outcome {
                    Ok(first) => anyhow::ensure!(again.replay && again.etag == first.etag, "{again:?} after {first:?}"),
                    Err(status) => {
                        let reason = reason_of(&status);
                        anyhow::ensure!(CLEAN.contains(&reason.as_str()), "{command:?} failed with {status:?}");
                    }
                }
                self.ledger.note(command, again);
            }
            // Which of the two it is hangs on where a command was when the network went.
            let failed = all.iter().skip(1).any(|outcome| CLEAN.contains(&outcome.as_str()));
            anyhow::ensure!(failed || !must_fail, "in round {round} the network was never bad: {ways:?}, {all:?}");
            outcomes.push(all);
            self.cluster.loaders[0].process()?.is_ready().await?;
        }
        println!("in a bad network: {outcomes:?}");
        // With the network as it is now, the loader writes.
        let name = "after-the-cut".to_owned();
        let command = Command { tenant: name.clone(), request_id: name, change: Change::Create };
        let answer = eventually("a write through the network", async || Ok(command.send(&behind_it, true).await?)).await?;
        let over = Instant::now();
        self.ledger.note(command, answer);
        let healed = self.heals(over).await?;
        self.cluster.loaders[0].kill()?;
        self.cluster.revive().await?;
        Ok(healed)
    }

    fn client(&self) -> ClientConfig {
        let mut client = ClientConfig::new();
        client.set("bootstrap.servers", &self.cluster.place.kafka);
        client
    }
}
