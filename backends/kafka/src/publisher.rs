//! The writing side: every stream in the partition of its shard, every record acknowledged.

use async_trait::async_trait;
use tessera_ports::Shard;
use tessera_ports::change_feed::{Change, ChangePublisher, FeedError, Heartbeat};

use crate::open::Kafka;
use crate::producer::Outgoing;
use crate::record::{RECORD_BYTES_MAX, encode_change, encode_heartbeat, key, record_bytes};

#[async_trait]
impl ChangePublisher for Kafka {
    async fn publish(&self, changes: &[Change]) -> Result<(), FeedError> {
        if changes.is_empty() {
            return Ok(());
        }
        // Before anything is sent: the producer would be thrown away for it, with what others publish.
        if let Some((change, bytes)) =
            changes.iter().map(|change| (change, record_bytes(change))).find(|(_, bytes)| *bytes > RECORD_BYTES_MAX)
        {
            let stream = &change.stream;
            return Err(FeedError::Unavailable(format!(
                "`{stream}` makes a record of {bytes} bytes; the most is {RECORD_BYTES_MAX}"
            )));
        }
        let partitions = self.partitions().await?;
        let records = changes.iter().map(|change| {
            let key = key(&change.stream);
            let value = encode_change(&key, change);
            Outgoing { partition: Shard::of(&change.stream).partition(partitions), key: Some(key), value, headers: None }
        });
        self.0.producing.send(partitions, records).await
    }

    async fn partitions(&self) -> Result<u32, FeedError> {
        if let Some(partitions) = self.0.watch.partitions() {
            return Ok(partitions);
        }
        tessera_ports::ChangeFeed::topic(self).await.map(|topic| topic.partitions)
    }

    /// One producer keeps the order within a partition, and everything published before is acknowledged.
    async fn beat(&self, partitions: &[u32], heartbeat: &Heartbeat) -> Result<(), FeedError> {
        if partitions.is_empty() {
            return Ok(());
        }
        let there = self.partitions().await?;
        let value = encode_heartbeat(heartbeat);
        let records =
            partitions.iter().map(|partition| Outgoing { partition: *partition, key: None, value: value.clone(), headers: None });
        self.0.producing.send(there, records).await
    }

    fn problems(&self) -> Vec<String> {
        Kafka::problems(self)
    }
}
