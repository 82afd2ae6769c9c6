//! Imports, and how soon a write is seen by checks, through the real clients of one `tessera dev` on disk.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tessera_proto::v1;
use tessera_proto::v1::entitlement_service_client::EntitlementServiceClient;
use tessera_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::transport::Channel;

use crate::bare_driver;
use crate::child::Running;
use crate::report::{Goal, Row};
use crate::scenario::{self, Tenant};
use crate::stores::{Imported, Workshop};

/// Tenants of an import, and how many imports of so many: names come in no order, so that the index of names costs more the
/// more there are.
const IMPORTS: [(u64, usize); 2] = [(1_000_000, 1), (100_000, 3)];
/// Writes whose way is followed.
const WRITES: usize = 1_000;
/// A write that checks have not seen after so long is an error.
const SEEN_MAX: Duration = Duration::from_secs(10);

/// All rows of this kind.
pub fn measure(workshop: &Workshop) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    let folder = workshop.path("store-of-imports");
    let mut imported = 0;
    for (tenants, rounds) in IMPORTS {
        imported = tenants;
        rows.extend(imports(workshop, &folder, tenants, rounds)?);
    }
    let mut dev = workshop.dev(&folder)?;
    dev.ready()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut delays = runtime.block_on(follow(&dev))?;
    drop(runtime);
    dev.stop()?;
    delays.sort_by(f64::total_cmp);
    let percentile = |per_mille: usize| delays.get(delays.len() * per_mille / 1_000).copied().unwrap_or(f64::NAN);
    rows.extend([
        Row::measured("write acknowledged → visible, p50", imported, "ms", &[percentile(500)]).goal(Goal::AtMost(2.0)),
        Row::measured("write acknowledged → visible, p99", imported, "ms", &[percentile(990)]).goal(Goal::AtMost(10.0)),
    ]);
    Ok(rows)
}

/// Imports into new stores in `folder`, and after each what it wrote once more by the bare driver.
fn imports(workshop: &Workshop, folder: &Path, tenants: u64, rounds: usize) -> anyhow::Result<[Row; 5]> {
    let (mut rates, mut cpu) = (Vec::new(), Vec::new());
    let (mut bare_rates, mut bare_cpu, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        let imported = workshop.import(folder, tenants)?;
        let bare = bare_driver::write_again(folder, &workshop.path("written-again.db"))?;
        rates.push(rate(&imported));
        cpu.push(cpu_per_tenant(&imported));
        bare_rates.push(rate(&bare));
        bare_cpu.push(cpu_per_tenant(&bare));
        ratios.push(rate(&imported) / rate(&bare));
    }
    Ok([
        Row::measured("import, tenants per second", tenants, "1/s", &rates).goal(Goal::AtLeast(50_000.0)),
        Row::measured("import, CPU per tenant", tenants, "µs", &cpu),
        Row::measured("import, tenants per second of the bare driver", tenants, "1/s", &bare_rates),
        Row::measured("import, CPU per tenant of the bare driver", tenants, "µs", &bare_cpu),
        Row::measured("import, rate over the bare driver's", tenants, "×", &ratios),
    ])
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn rate(imported: &Imported) -> f64 {
    imported.tenants as f64 / imported.elapsed.as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn cpu_per_tenant(imported: &Imported) -> f64 {
    imported.cpu.as_secs_f64() * 1e6 / imported.tenants as f64
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
