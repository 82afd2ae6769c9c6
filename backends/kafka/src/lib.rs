//! The feed of Tessera between machines: one topic of Apache Kafka behind the ports; and another one of events for others.
//!
//! [`Kafka::open`] gives one handle that is both [`ChangeFeed`](tessera_ports::ChangeFeed) and
//! [`ChangePublisher`](tessera_ports::ChangePublisher); [`migrate`] makes the topic. [`Events`] is an
//! [`EventPublisher`](tessera_ports::EventPublisher), and [`migrate_events`] makes its topic.
//!
//! - `config`: settings;
//! - `client`: what all clients of librdkafka have in common;
//! - `record`: the records, byte by byte;
//! - `describe`: the topic's id and partitions, from librdkafka itself;
//! - `watch`: the thread that knows the topic;
//! - `drain`: fetched records, many at a time; `patience`: which consumers are given up; `reader`, `feed`: the reading side;
//! - `producer`, `publisher`: the writing side;
//! - `events`: the topic of events for others; `cloud_event`: its records;
//! - `topic_settings`: what the topic has to be like;
//! - `open`: the handle;
//! - `error`: why a feed does not open; what an error means for whoever waits.
//!
//! There are no groups and no commits: positions are the reader's. Connections are not encrypted: librdkafka would need OpenSSL.
#![deny(missing_docs)]

mod client;
mod cloud_event;
mod config;
mod describe;
mod drain;
mod error;
mod events;
mod feed;
mod open;
mod patience;
mod producer;
mod publisher;
mod reader;
mod record;
mod topic_settings;
mod watch;

pub use config::{Config, Security};
pub use error::OpenError;
pub use events::{Events, migrate as migrate_events};
pub use open::{Kafka, migrate};
pub use topic_settings::Migration;
