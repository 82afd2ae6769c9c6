//! Waiting until checks see what was changed: by asking with the revisions that the changes answered.

use futures::{StreamExt as _, TryStreamExt as _};
use tessera_proto::v1;

use crate::apply::Done;
use crate::connection::{Plane, Planes};

/// How many revisions are waited for at a time.
const AT_ONCE: usize = 16;
/// Asked for where a revision is not a tenant's; need not exist.
const ANY_TENANT: &str = "nobody";
/// Asked for everywhere; need not exist, the answer does not matter.
const ANY_SERVICE: &str = "nothing";

/// Returns when every change is visible.
pub(super) async fn wait(planes: &Planes, done: Vec<Done>) -> anyhow::Result<()> {
    futures::stream::iter(done).map(|done| one(planes, done)).buffer_unordered(AT_ONCE).try_collect().await
}

async fn one(planes: &Planes, done: Done) -> anyhow::Result<()> {
    let tenant = done.tenant.as_ref().map_or(ANY_TENANT, |tenant| tenant.as_str());
    let at_least = v1::consistency::Requirement::AtLeast(v1::AtLeast { revision: done.revision.into() });
    let request = v1::CheckEntitlementRequest {
        tenant_id: tenant.to_owned(),
        service: ANY_SERVICE.to_owned(),
        consistency: Some(v1::Consistency { requirement: Some(at_least) }),
        ..Default::default()
    };
    let mut client = planes.entitlements();
    planes.read(Plane::Data, request, async |request| client.check_entitlement(request).await).await?;
    Ok(())
}
