//! How a service tests what it does with decisions: the real client over a fake in the same process, without a server.
//!
//! `cargo run --package tessera-client --example testing_with_the_fake`. Services name the feature `fake` of this crate in their
//! `dev-dependencies`.

use std::time::Duration;

use tessera_client::fake::{Fake, FakeError};
use tessera_client::{Error, Tessera};

/// Something of a service: exports a report for those who may, and nothing for anybody when that cannot be found out.
async fn export(tessera: &Tessera, tenant: &str) -> Result<String, String> {
    let decision = tessera.check(tenant, "reporting", "exports").deadline(Duration::from_millis(200)).await;
    match decision.map(tessera_client::Decision::require) {
        Ok(Ok(_)) => Ok(format!("the report of {tenant}")),
        Ok(Err(denied)) => Err(denied.to_string()),
        Err(error @ Error::DeadlineExceeded { .. }) => Err(format!("try again later: {error}")),
        Err(error) => Err(format!("unavailable: {}", error.reason())),
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let fake = Fake::new();
    fake.tenant("acme").plan("gold", 3).grant("reporting", "exports");
    fake.tenant("globex").plan("silver", 1).grant("reporting", "dashboards");
    let tessera = fake.client();

    assert_eq!(export(&tessera, "acme").await, Ok("the report of acme".to_owned()));
    assert_eq!(export(&tessera, "globex").await, Err("not entitled: FEATURE_NOT_IN_PLAN".to_owned()));
    assert_eq!(export(&tessera, "nobody").await, Err("not entitled: TENANT_UNKNOWN".to_owned()));

    // What happens when there is trouble?
    fake.fail_always(FakeError::NotReady);
    assert_eq!(export(&tessera, "acme").await, Err("unavailable: NOT_READY".to_owned()));
    fake.recover();
    fake.fail_next(FakeError::Silence);
    assert!(export(&tessera, "acme").await.unwrap_err().starts_with("try again later: no answer within 200ms"));
    assert!(export(&tessera, "acme").await.is_ok());

    // What did the service ask?
    let last = fake.checks().pop().ok_or_else(|| anyhow::anyhow!("nothing was asked"))?;
    assert_eq!((last.tenant(), last.service(), last.feature()), ("acme", "reporting", "exports"));
    println!("the service does what it should");
    Ok(())
}
