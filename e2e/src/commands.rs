//! Commands whose fate is followed: acknowledged, or unknown because the process died before it answered.

use std::collections::BTreeMap;

use anyhow::Context as _;
use tessera_proto::v1;
use tonic::codegen::Bytes;
use tonic::{Request, Status};

use crate::history::{self, Read, Write};
use crate::{Planes, shop};

/// A command on a tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// Which tenant.
    pub tenant: String,
    /// Its name; unique.
    pub request_id: String,
    /// What it asks for.
    pub change: Change,
}

/// What is asked for. Either is always allowed, so that no answer but "done" is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Creates the tenant.
    Create,
    /// Gives it this title.
    Title(String),
    /// Gives it that much of a limit.
    Limit {
        /// Of which.
        limit: String,
        /// How much.
        maximum: i64,
    },
}

/// What an acknowledgement said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Acknowledged {
    /// The tenant's etag after it.
    pub etag: String,
    /// Its title after it.
    pub title: String,
    /// What a check that is to know of it demands.
    pub revision: Bytes,
    /// Whether it had been done before.
    pub replay: bool,
}

/// Every command that was acknowledged, and what was said, and what servers answered meanwhile.
#[derive(Debug, Default)]
pub struct Ledger {
    acknowledged: Vec<(Command, Acknowledged)>,
    reads: Vec<Read>,
}

// === impl Command ===

impl Command {
    /// Sends it. `retry` tells the loader that an earlier attempt's fate is unknown.
    pub async fn send(&self, planes: &Planes, retry: bool) -> Result<Acknowledged, Status> {
        let mut tenants = planes.tenants();
        let (tenant, revision, replay) = match &self.change {
            Change::Create => {
                let message = v1::CreateTenantRequest {
                    tenant_id: self.tenant.clone(),
                    plan_id: shop::PLAN.to_owned(),
                    request_id: self.request_id.clone(),
                    ..Default::default()
                };
                let answer = tenants.create_tenant(marked(message, retry)).await?.into_inner();
                (answer.tenant, answer.revision, answer.idempotent_replay)
            }
            Change::Title(title) => {
                let message = v1::UpdateTenantRequest {
                    tenant_id: self.tenant.clone(),
                    title: title.clone(),
                    request_id: self.request_id.clone(),
                    ..Default::default()
                };
                let answer = tenants.update_tenant(marked(message, retry)).await?.into_inner();
                (answer.tenant, answer.revision, answer.idempotent_replay)
            }
            Change::Limit { limit, maximum } => {
                let value = v1::LimitGrant { value: Some(v1::limit_grant::Value::Maximum(*maximum)) };
                let target = v1::OverrideTarget { limit: limit.clone(), ..Default::default() };
                let message = v1::SetOverrideRequest {
                    tenant_id: self.tenant.clone(),
                    r#override: Some(v1::Override {
                        target: Some(target),
                        value: Some(value),
                        reason: "a test".to_owned(),
                        ..Default::default()
                    }),
                    request_id: self.request_id.clone(),
                    ..Default::default()
                };
                let answer = tenants.set_override(marked(message, retry)).await?.into_inner();
                (answer.tenant, answer.revision, answer.idempotent_replay)
            }
        };
        let tenant = tenant.ok_or_else(|| Status::internal("an answer without a tenant"))?;
        Ok(Acknowledged { etag: tenant.etag, title: tenant.title, revision, replay })
    }
}

fn marked<T>(message: T, retry: bool) -> Request<T> {
    let mut request = Request::new(message);
    if retry {
        request.metadata_mut().insert("tessera-retry", tonic::metadata::MetadataValue::from_static("1"));
    }
    request
}

// === impl Ledger ===

impl Ledger {
    /// Notes an acknowledgement.
    pub fn note(&mut self, command: Command, answer: Acknowledged) {
        self.acknowledged.push((command, answer));
    }

    /// Notes an answer about a limit of which every write that is acknowledged will be noted here too.
    pub fn heard(&mut self, read: Read) {
        self.reads.push(read);
    }

    /// What was noted last.
    pub fn last(&self) -> Option<&(Command, Acknowledged)> {
        self.acknowledged.last()
    }

    /// The newest of each limit that somebody gave a tenant.
    pub fn newest_limits(&self) -> Vec<(&Command, &Acknowledged)> {
        let mut newest: BTreeMap<(&str, &str), (i64, &Command, &Acknowledged)> = BTreeMap::new();
        for (command, answer) in &self.acknowledged {
            if let Change::Limit { limit, maximum } = &command.change {
                let known = newest.entry((&command.tenant, limit)).or_insert((*maximum, command, answer));
                if known.0 < *maximum {
                    *known = (*maximum, command, answer);
                }
            }
        }
        newest.into_values().map(|(_, command, answer)| (command, answer)).collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.acknowledged.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.acknowledged.is_empty()
    }

    /// Takes over what another has noted.
    pub fn append(&mut self, mut other: Self) {
        self.acknowledged.append(&mut other.acknowledged);
        self.reads.append(&mut other.reads);
    }

    /// Every answer was as new as demanded and right: see [`history::check`]. Returns how many there were.
    pub fn check_reads(&self) -> anyhow::Result<usize> {
        let mut writes = Vec::new();
        for (Command { tenant, change, .. }, Acknowledged { revision, .. }) in &self.acknowledged {
            if let Change::Limit { limit, maximum } = change {
                writes.push(Write { tenant, limit, maximum: *maximum, revision });
            }
        }
        history::check(&writes, &self.reads)?;
        Ok(self.reads.len())
    }

    /// Every acknowledged command is in its tenant's stream exactly once, and the streams have no gaps.
    pub async fn check_streams(&self, planes: &Planes) -> anyhow::Result<()> {
        let mut by_tenant: BTreeMap<&str, Vec<&Command>> = BTreeMap::new();
        for (command, _) in &self.acknowledged {
            by_tenant.entry(&command.tenant).or_default().push(command);
        }
        for (tenant, commands) in by_tenant {
            let events = planes.events_of(tenant).await?;
            let seqs: Vec<i64> = events.iter().map(|event| event.seq).collect();
            let expected: Vec<i64> = (1..).take(events.len()).collect();
            anyhow::ensure!(seqs == expected, "the seqs of `{tenant}` have gaps: {seqs:?}");
            let mut times: BTreeMap<&str, usize> = BTreeMap::new();
            for event in &events {
                *times.entry(&event.request_id).or_default() += 1;
            }
            for command in commands {
                let found = times.get(command.request_id.as_str()).copied().unwrap_or_default();
                anyhow::ensure!(found == 1, "acknowledged and found {found} times in its stream: {command:?}");
            }
        }
        Ok(())
    }

    /// A replay of the last `count` commands returns what was said the first time.
    pub async fn check_replays(&self, planes: &Planes, count: usize) -> anyhow::Result<()> {
        for (command, first) in self.acknowledged.iter().rev().take(count) {
            let again = command.send(planes, true).await.with_context(|| format!("replay {command:?}"))?;
            anyhow::ensure!(again.replay, "decided again: {command:?}");
            let same = (&again.etag, &again.title) == (&first.etag, &first.title);
            anyhow::ensure!(same, "a replay answered {again:?}, the first time it was {first:?}");
        }
        Ok(())
    }
}
