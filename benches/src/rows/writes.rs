//! Imports, and how soon a write is seen by checks, through the real clients of one `tessera dev` on disk.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;

use crate::child::Running;
use crate::report::{Goal, Row};
use crate::scenario::{self, Tenant};
use crate::stores::Workshop;

/// Tenants of an import.
const IMPORTED: u64 = 100_000;
/// Imports.
const IMPORTS: usize = 3;
/// Writes whose way is followed.
const WRITES: usize = 1_000;
/// A write that checks have not seen after so long is an error.
const SEEN_MAX: Duration = Duration::from_secs(10);

/// All rows of this kind.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub fn measure(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    let folder = workshop.path("store-of-imports");
    for _ in 0..IMPORTS {
        let imported = workshop.import(&folder, IMPORTED)?;
        rates.push(imported.tenants as f64 / imported.elapsed.as_secs_f64());
        cpu.push(imported.cpu.as_secs_f64() * 1e6 / imported.tenants as f64);
    }
    let mut dev = workshop.dev(&folder)?;
    dev.ready()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut delays = runtime.block_on(follow(&dev))?;
    drop(runtime);
    dev.stop()?;
    delays.sort_by(f64::total_cmp);
    let percentile = |per_mille: usize| delays.get(delays.len() * per_mille / 1_000).copied().unwrap_or(f64::NAN);
    Ok(vec![
        Row::measured("import, tenants per second", IMPORTED, "1/s", &rates).goal(Goal::AtLeast(50_000.0)),
        Row::measured("import, CPU per tenant", IMPORTED, "µs", &cpu),
        Row::measured("write acknowledged → visible, p50", IMPORTED, "ms", &[percentile(500)]).goal(Goal::AtMost(2.0)),
        Row::measured("write acknowledged → visible, p99", IMPORTED, "ms", &[percentile(990)]).goal(Goal::AtMost(10.0)),
    ])
}

/// Turns answers round by overrides, and asks until the answer has turned. In ms.
async fn follow(dev: &Running) -> anyhow::Result<Vec<f64>> {
    let connect = async |plane: &str| -> anyhow::Result<Channel> {
        Ok(Channel::from_shared(format!("http://{}", dev.address(plane)?))?.connect().await?)
    };
    let mut tenants = TenantServiceClient::new(connect("control").await?);
    let mut checks = EntitlementServiceClient::new(connect("data").await?);
    let mut delays = Vec::with_capacity(WRITES);
    for number in 0..WRITES {
        let tenant = Tenant(u64::try_from(number)?);
        let (feature, turned) = (0, !tenant.may_use(0));
        let (service, name) = scenario::names(feature);
        let effect = if turned { v1::OverrideEffect::Grant } else { v1::OverrideEffect::Deny };
        let change = v1::Override {
            target: Some(v1::OverrideTarget { service: service.clone(), feature: name.clone(), limit: String::new() }),
            effect: effect.into(),
            reason: "turned round".to_owned(),
            ..Default::default()
        };
        let request = v1::SetOverrideRequest { tenant_id: tenant.id(), r#override: Some(change), ..Default::default() };
        tenants.set_override(request).await.with_context(|| format!("override of {tenant:?}"))?;
        let acknowledged = Instant::now();
        let question = v1::CheckEntitlementRequest { tenant_id: tenant.id(), service, feature: name, ..Default::default() };
        while checks.check_entitlement(question.clone()).await?.into_inner().entitled != turned {
            anyhow::ensure!(acknowledged.elapsed() < SEEN_MAX, "the override of {tenant:?} was never seen");
        }
        delays.push(acknowledged.elapsed().as_secs_f64() * 1e3);
    }
    Ok(delays)
}
