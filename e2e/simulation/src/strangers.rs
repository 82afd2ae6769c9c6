//! (t) To a caller that is bound to tenants the others do not exist: what it hears of one is what is heard of a tenant that never
//! was, and nothing that it asks for changes one.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::rc::Rc;
use std::time::Duration;

use tessera_core::access::Scopes;
use tessera_core::aggregate::Actor;
use tessera_core::ids::TenantId;
use tessera_core::revision::Revision;
use tessera_core::stream::{StreamId, StreamKind};
use tessera_ports::memory::SplitMix64;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tessera_runtime::identity::{Grant, Principal};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

use crate::cluster::{Cluster, PROCESSES};
use crate::command::{Command, FEATURES, LIMIT, SERVICE, TENANTS};
use crate::journal::Journal;

/// Longest pause between two questions.
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long it waits for an answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// A caller that is bound to some tenants and asks for others.
#[derive(Debug)]
pub struct Stranger {
    random: SplitMix64,
    cluster: Rc<Cluster>,
    journal: Rc<Journal>,
    principal: Principal,
    /// The tenants that are not its own.
    others: Vec<&'static str>,
}

impl Stranger {
    /// Bound to some tenants, perhaps none, and never to all.
    pub fn new(cluster: &Rc<Cluster>, journal: &Rc<Journal>, mut random: SplitMix64) -> Self {
        let mut others: Vec<&'static str> = TENANTS.into_iter().filter(|_| random.chance(600)).collect();
        if others.is_empty() {
            others.push(TENANTS[random.index(TENANTS.len())]);
        }
        let own = TENANTS.into_iter().filter(|tenant| !others.contains(tenant));
        let own: BTreeSet<TenantId> = own.map(|tenant| TenantId::parse(tenant).expect("a good id")).collect();
        let actor = Actor::parse("an actor", "token:stranger").expect("a good name");
        let principal = Principal::new(Grant { actor, scopes: Scopes::all(), tenants: Some(own) });
        Self { random, cluster: Rc::clone(cluster), journal: Rc::clone(journal), principal, others }
    }

    /// Asks one thing after the other until `stop` says so.
    pub async fn run(mut self, stop: Rc<Cell<bool>>) {
        let mut count = 0_u64;
        while !stop.get() && self.journal.violation().is_none() {
            tokio::time::sleep(self.random.duration(PAUSE_MAX)).await;
            count += 1;
            let tenant = self.others[self.random.index(self.others.len())];
            match self.random.below(4) {
                0 | 1 if self.cluster.has_servers() => self.check(tenant).await,
                2 => self.get(tenant).await,
                _ => self.change(&format!("stranger-{count}")).await,
            }
        }
    }

    fn as_principal<M>(&self, message: M) -> Request<M> {
        let mut request = Request::new(message);
        request.set_timeout(PATIENCE);
        request.extensions_mut().insert(self.principal.clone());
        request
    }

    /// Says that something was heard of a tenant.
    fn heard(&self, what: &str, of: &dyn std::fmt::Debug) {
        self.journal.violated(format!("t: {what}, bound to {:?}, hears {of:?}", self.principal.tenants()));
    }

    async fn check(&mut self, tenant: &str) {
        use v1::consistency::Requirement;
        let server = self.cluster.server(self.random.index(PROCESSES));
        let requirement = if self.random.chance(200) {
            Requirement::FullyConsistent(v1::FullyConsistent {})
        } else {
            Requirement::MinimizeLatency(v1::MinimizeLatency {})
        };
        let feature = FEATURES[self.random.index(FEATURES.len())].to_owned();
        let request = self.as_principal(v1::CheckEntitlementRequest {
            tenant_id: tenant.to_owned(),
            service: SERVICE.to_owned(),
            feature,
            limit_check: Some(v1::LimitCheck { name: LIMIT.to_owned(), amount: 1, used: None }),
            consistency: Some(v1::Consistency { requirement: Some(requirement) }),
            explain: false,
        });
        let mut client = EntitlementServiceClient::new(server.process.services.clone());
        let Ok(answered) = tokio::time::timeout(PATIENCE, client.check_entitlement(request)).await else { return };
        match answered.map(tonic::Response::into_inner) {
            Ok(answer) if is_of_nobody(&answer) => {}
            Ok(answer) => self.heard(&format!("who asks of {tenant}"), &answer),
            Err(status) => self.must_be_absent(&format!("who asks of {tenant}"), &status),
        }
    }

    async fn get(&mut self, tenant: &str) {
        let loader = self.cluster.loader(self.random.index(PROCESSES));
        let request = self.as_principal(v1::GetTenantRequest { tenant_id: tenant.to_owned(), show_deleted: true });
        let mut client = TenantServiceClient::new(loader.services);
        match tokio::time::timeout(PATIENCE, client.get_tenant(request)).await {
            Ok(Ok(answer)) => self.heard(&format!("who reads {tenant}"), &answer),
            Ok(Err(status)) => self.must_be_absent(&format!("who reads {tenant}"), &status),
            Err(_) => {}
        }
    }

    async fn change(&mut self, id: &str) {
        let now = self.cluster.now();
        let command = loop {
            let command = Command::draw(&mut self.random, now);
            if matches!(command.stream(), StreamId::Tenant(id) if self.others.contains(&id.as_str())) {
                break command;
            }
        };
        let loader = self.cluster.loader(self.random.index(PROCESSES));
        let retry = self.random.chance(300);
        self.journal.strange.borrow_mut().insert(id.to_owned());
        let sent = command.send(&loader.services, id, retry, PATIENCE, Some(&self.principal));
        match tokio::time::timeout(PATIENCE, sent).await {
            Ok(Ok(said)) => self.heard(&format!("who asks for {command:?}"), &said),
            Ok(Err(status)) => self.must_be_absent(&format!("who asks for {command:?}"), &status),
            Err(_) => {}
        }
    }

    /// Whatever is refused is refused as of a tenant that never was, or says nothing of any.
    fn must_be_absent(&self, what: &str, status: &Status) {
        let reason = status.get_details_error_info().map(|info| info.reason);
        let absent = status.code() == Code::NotFound && reason.as_deref() == Some("TENANT_NOT_FOUND");
        let nothing =
            matches!(status.code(), Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded | Code::Cancelled);
        if !absent && !nothing {
            self.heard(what, status);
        }
    }
}

/// Whether that is the answer about a tenant that never was.
fn is_of_nobody(answer: &v1::CheckEntitlementResponse) -> bool {
    let names_a_tenant = |revision: Revision| revision.streams.iter().any(|named| named.kind != StreamKind::Catalog);
    answer.reason() == v1::Reason::TenantUnknown
        && !answer.entitled
        && (answer.plan_id.as_str(), answer.plan_version) == ("", 0)
        && answer.limit.is_none()
        && answer.grace_until.is_none()
        && answer.valid_until.is_none()
        && !Revision::parse(&answer.revision).is_ok_and(names_a_tenant)
}
