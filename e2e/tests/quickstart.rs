//! The README's first command, and the words round it: what it promises a newcomer is what happens.

use anyhow::Context as _;
use tessera_e2e::{Dev, Launch, Planes, binary};
use tessera_proto::v1;
use tessera_proto::v1::Reason;

/// What the issue of the examples says of each tenant: tenant, service, feature, reason, familiarity in basis points.
const DECISIONS: [(&str, &str, &str, Reason, i32); 36] = [
    // Gold with an exception, and the whole UI of one service.
    ("acme", "entity-management", "tenant-provisioning", Reason::GrantedByPlan, 10_000),
    ("acme", "entity-management", "team-management", Reason::GrantedByPlan, 10_000),
    ("acme", "entity-management", "", Reason::GrantedByPlan, 10_000),
    ("acme", "reporting", "exports", Reason::GrantedByPlan, 8_750),
    ("acme", "reporting", "custom-reports", Reason::GrantedByOverride, 8_750),
    ("acme", "api-gateway", "bulk-api", Reason::FeatureNotInPlan, 0),
    ("acme", "school-supply", "inventory", Reason::ServiceNotInPlan, 0),
    ("acme", "no-such-service", "inventory", Reason::ServiceUnknown, 0),
    ("acme", "reporting", "no-such-feature", Reason::FeatureUnknown, 0),
    // Bronze has no teams.
    ("corner-shop", "entity-management", "user-invitations", Reason::GrantedByPlan, 5_000),
    ("corner-shop", "entity-management", "team-management", Reason::FeatureNotInPlan, 0),
    ("corner-shop", "api-gateway", "", Reason::ServiceNotInPlan, 0),
    // Silver, pinned.
    ("globex", "entity-management", "team-management", Reason::GrantedByPlan, 7_500),
    ("globex", "entity-management", "audit-trail", Reason::FeatureNotInPlan, 0),
    // Gold, and silver only later.
    ("initech", "entity-management", "audit-trail", Reason::GrantedByPlan, 8_750),
    ("initech", "api-gateway", "webhooks", Reason::GrantedByPlan, 8_750),
    // A trial that goes on, and one that is over.
    ("startup-lab", "order-management", "order-approval", Reason::GrantedByPlan, 7_500),
    ("hooli", "entity-management", "audit-trail", Reason::TrialEnded, 0),
    // In grace, suspended, denied, pending, unknown.
    ("late-payer", "reporting", "exports", Reason::GrantedByPlan, 7_500),
    ("shut-down", "reporting", "exports", Reason::TenantSuspended, 0),
    ("no-exports", "reporting", "exports", Reason::DeniedByOverride, 0),
    ("no-exports", "reporting", "custom-reports", Reason::GrantedByPlan, 10_000),
    ("no-exports", "api-gateway", "bulk-api", Reason::GrantedByPlan, 10_000),
    ("waiting", "order-management", "order-entry", Reason::TenantPending, 0),
    ("nobody", "reporting", "exports", Reason::TenantUnknown, 0),
    ("Acme", "reporting", "exports", Reason::TenantUnknown, 0),
    // Schools.
    ("school:12", "school-supply", "inventory", Reason::GrantedByPlan, 5_000),
    ("school:12", "school-supply", "mobile", Reason::GrantedByPlan, 5_000),
    ("school:12", "school-supply", "analytics", Reason::FeatureNotInPlan, 0),
    ("school:12", "reporting", "", Reason::ServiceNotInPlan, 0),
    ("district:north", "school-supply", "reports", Reason::GrantedByPlan, 7_500),
    ("district:north", "school-supply", "analytics", Reason::GrantedByPlan, 7_500),
    ("district:north", "school-supply", "integrations", Reason::FeatureNotInPlan, 0),
    ("town:riverside", "school-supply", "analytics", Reason::GrantedByPlan, 10_000),
    ("town:riverside", "school-supply", "integrations", Reason::GrantedByPlan, 10_000),
    ("town:riverside", "school-supply", "", Reason::GrantedByPlan, 10_000),
];

/// Tenant, limit, maximum; `None` is unlimited.
const LIMITS: [(&str, &str, Option<i64>); 26] = [
    ("corner-shop", "max_invitations_per_month", Some(10)),
    ("globex", "max_invitations_per_month", Some(100)),
    ("initech", "max_invitations_per_month", None),
    ("no-exports", "max_invitations_per_month", None),
    ("corner-shop", "max_organizations", Some(1)),
    ("globex", "max_organizations", Some(10)),
    ("initech", "max_organizations", None),
    ("no-exports", "max_organizations", None),
    ("corner-shop", "max_teams", Some(0)),
    ("initech", "max_users", Some(1_000)),
    ("initech", "max_api_calls_per_day", Some(1_000_000)),
    ("initech", "max_storage_gb", Some(500)),
    // Two packs of a hundred seats on top of a thousand; an exception is the whole value.
    ("acme", "max_users", Some(1_200)),
    ("acme", "max_storage_gb", Some(750)),
    ("school:12", "max_users", Some(50)),
    ("school:12", "max_schools", Some(10)),
    ("school:12", "max_products", Some(500)),
    ("district:north", "max_users", Some(200)),
    ("district:north", "max_schools", Some(50)),
    ("district:north", "max_products", Some(2_000)),
    ("town:riverside", "max_users", Some(500)),
    ("town:riverside", "max_schools", Some(200)),
    ("town:riverside", "max_products", Some(5_000)),
    // Registered, and nobody gives it.
    ("school:12", "max_teams", Some(0)),
    ("startup-lab", "max_api_calls_per_day", Some(0)),
    ("no-exports", "max_users", None),
];

async fn quickstart(data: &std::path::Path) -> anyhow::Result<Dev> {
    Launch::over(data)?.apply("examples/quickstart".as_ref()).ready().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_are_decided_as_their_documents_say() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let planes = dev.planes().await?;
    for (tenant, service, feature, reason, familiarity) in DECISIONS {
        // Ready means visible: nothing newer is asked for.
        let answer = check(&planes, tenant, service, feature, None).await?;
        let case = format!("{tenant} {service} {feature}: {answer:?}");
        assert_eq!(answer.reason(), reason, "{case}");
        assert_eq!(answer.familiarity_basis_points, familiarity, "{case}");
        let granted = [Reason::GrantedByPlan, Reason::GrantedByAddOn, Reason::GrantedByOverride].contains(&reason);
        assert_eq!(answer.entitled, granted, "{case}");
        assert_eq!(answer.grace_until.is_some(), tenant == "late-payer", "{case}");
    }
    for (tenant, limit, maximum) in LIMITS {
        let service = if tenant.contains(':') { "school-supply" } else { "order-management" };
        let answer = check(&planes, tenant, service, "", Some(limit)).await?;
        let state = answer.limit.clone().unwrap_or_default();
        let expected = match maximum {
            Some(maximum) => v1::limit_state::Value::Maximum(maximum),
            None => v1::limit_state::Value::Unlimited(true),
        };
        assert_eq!(state.value, Some(expected), "{tenant} {limit}: {answer:?}");
        assert_eq!((state.name.as_str(), state.remaining), (limit, maximum), "{tenant} {limit}: {answer:?}");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_plan_and_tenant_of_the_issue_is_there() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let planes = dev.planes().await?;
    let request = v1::ListPlansRequest { page_size: 1_000, ..Default::default() };
    let listed = planes.plans().list_plans(request).await?.into_inner().plans;
    let mut published: Vec<(&str, i32)> = listed.iter().map(|plan| (plan.plan_id.as_str(), plan.latest_version)).collect();
    published.sort_unstable();
    let expected =
        ["basic-school", "bronze", "enterprise", "gold", "municipality", "professional", "school-district", "silver", "starter"];
    assert_eq!(published, expected.map(|plan| (plan, 1)));

    let tenants = planes.all_tenants().await?;
    for tenant in DECISIONS.iter().map(|row| row.0).filter(|name| !["nobody", "Acme"].contains(name)) {
        assert!(tenants.iter().any(|listed| listed.tenant_id == tenant), "{tenant} is not listed");
        let request = v1::ListEntitlementsRequest { tenant_id: tenant.to_owned(), ..Default::default() };
        let document = planes.entitlements().list_entitlements(request).await?.into_inner().document.unwrap_or_default();
        assert_eq!(document.services.len(), 5, "{tenant}: {document:?}");
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starting_again_with_the_same_documents_changes_nothing() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let first = (dev.planes().await?.verify_audit().await?, dev.page("/digest").await?.body);
    assert!(first.0 > 30, "{first:?}");
    dev.stop()?;
    let dev = quickstart(folder.path()).await?;
    let second = (dev.planes().await?.verify_audit().await?, dev.page("/digest").await?.body);
    assert_eq!(first, second);
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_terminal_shows_what_to_try_next() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let addresses = dev.addresses();
    for wanted in [" check acme ".to_owned(), "grpcurl".to_owned(), addresses.data.to_string(), addresses.control.to_string()] {
        let shown = dev.stdout.wait_for(tessera_e2e::waiting::PATIENCE, |line| line.contains(&wanted).then_some(()));
        assert!(shown.is_some(), "`{wanted}` is not shown:\n{}", dev.stdout.all().join("\n"));
    }
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_readme_work() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let readme = std::fs::read_to_string(binary::repository().join("README.md"))?;
    let mut tried = 0;
    // What comes after it needs engines, and is the business of the suites of the cluster.
    let (of_one_machine, _) = readme.split_once("\n## From one machine to many\n").context("the README has no such part")?;
    for line in of_one_machine.lines() {
        if let Some(arguments) = line.strip_prefix("tessera ") {
            let arguments: Vec<&str> = arguments.split(' ').collect();
            let said = dev.tessera(&arguments)?.success()?;
            assert!(!said.trim().is_empty(), "`{line}` says nothing");
            tried += 1;
        } else if let Some(url) = line.strip_prefix("curl http://127.0.0.1:7402") {
            assert_eq!(dev.page(url).await?.status, 200, "{line}");
            tried += 1;
        }
    }
    assert!(tried >= 5, "the README shows {tried} commands");
    dev.stop()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exit_codes_tell_entitled_denied_and_wrong() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let dev = quickstart(folder.path()).await?;
    let code = |arguments: &[&str]| dev.tessera(arguments).map(|finished| finished.code);
    assert_eq!(code(&["check", "acme", "reporting", "exports"])?, Some(0));
    assert_eq!(code(&["check", "no-exports", "reporting", "exports"])?, Some(3));
    assert_eq!(code(&["check", "nobody", "reporting", "exports"])?, Some(3));
    assert_eq!(code(&["check", "not a tenant", "reporting", "exports"])?, Some(1));
    assert_eq!(code(&["check", "acme", "reporting", "--limit", "max_users=1201"])?, Some(3));
    assert_eq!(code(&["check", "acme", "reporting", "--limit", "max_users=1200"])?, Some(0));
    assert_eq!(code(&["check", "acme", "reporting", "--limit", "max_users=1,used=1200"])?, Some(3));
    let json = dev.tessera(&["check", "acme", "reporting", "exports", "-o", "json"])?.success()?;
    let json: serde_json::Value = serde_json::from_str(&json)?;
    assert_eq!(json.get("reason").and_then(|reason| reason.as_str()), Some("REASON_GRANTED_BY_PLAN"), "{json}");
    dev.stop()
}

async fn check(
    planes: &Planes,
    tenant: &str,
    service: &str,
    feature: &str,
    limit: Option<&str>,
) -> anyhow::Result<v1::CheckEntitlementResponse> {
    let request = v1::CheckEntitlementRequest {
        tenant_id: tenant.to_owned(),
        service: service.to_owned(),
        feature: feature.to_owned(),
        limit_check: limit.map(|name| v1::LimitCheck { name: name.to_owned(), amount: 0, used: None }),
        ..Default::default()
    };
    Ok(planes.entitlements().check_entitlement(request).await?.into_inner())
}
