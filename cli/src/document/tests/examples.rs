//! The documents that are shipped: they read, name only what they register, and say what they are meant to say.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tessera_core::ids::{FeatureId, LimitId};
use tessera_core::plan::Document as Offer;
use tessera_core::value::{Familiarity, LimitValue};

use super::*;

fn quickstart() -> Vec<Document> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let documents = files.iter().flat_map(|path| {
        let file = std::io::BufReader::new(std::fs::File::open(path).unwrap());
        read(&path.display().to_string(), file).map(|located| located.unwrap_or_else(|e| panic!("{e}")).document)
    });
    documents.collect()
}

fn plan(documents: &[Document], id: &str) -> Offer {
    let plan = documents.iter().find_map(|document| match document {
        Document::Plan(found, offer) if found.as_str() == id => Some(offer.clone()),
        _ => None,
    });
    plan.unwrap_or_else(|| panic!("no plan {id}"))
}

#[track_caller]
fn limit(offer: &Offer, id: &str) -> Option<i64> {
    match offer.limits.get(&LimitId::parse(id).unwrap()) {
        Some(LimitValue::Maximum(amount)) => Some(amount.get()),
        Some(LimitValue::Unlimited) => None,
        None => panic!("no limit {id}"),
    }
}

#[test]
fn the_plans_have_the_numbers_they_are_known_for() {
    let documents = quickstart();
    let familiarity = [
        ("bronze", Familiarity::Half, Some(10), Some(1), false),
        ("silver", Familiarity::ThreeQuarters, Some(100), Some(10), true),
        ("gold", Familiarity::SevenEighths, None, None, true),
        ("enterprise", Familiarity::Full, None, None, true),
    ];
    for (id, shown, invitations, organizations, teams) in familiarity {
        let offer = plan(&documents, id);
        assert!(offer.services.values().all(|grant| grant.familiarity == Some(shown)), "{id}");
        assert_eq!(limit(&offer, "max_invitations_per_month"), invitations, "{id}");
        assert_eq!(limit(&offer, "max_organizations"), organizations, "{id}");
        let features = &offer.services["entity-management"].features;
        assert_eq!(features.contains("team-management"), teams, "{id}");
    }
    let gold = plan(&documents, "gold");
    assert_eq!(limit(&gold, "max_users"), Some(1_000));
    assert_eq!(limit(&gold, "max_api_calls_per_day"), Some(1_000_000));
    assert_eq!(limit(&gold, "max_storage_gb"), Some(500));
    let schools = [
        ("basic-school", [50, 10, 500], vec!["inventory", "contracts", "deliveries", "reports", "mobile"]),
        ("school-district", [200, 50, 2_000], vec!["inventory", "contracts", "deliveries", "reports", "mobile", "analytics"]),
        (
            "municipality",
            [500, 200, 5_000],
            vec!["inventory", "contracts", "deliveries", "reports", "mobile", "analytics", "integrations"],
        ),
    ];
    for (id, [users, schools, products], features) in schools {
        let offer = plan(&documents, id);
        assert_eq!(limit(&offer, "max_users"), Some(users), "{id}");
        assert_eq!(limit(&offer, "max_schools"), Some(schools), "{id}");
        assert_eq!(limit(&offer, "max_products"), Some(products), "{id}");
        let granted: BTreeSet<&str> = offer.services["school-supply"].features.iter().map(FeatureId::as_str).collect();
        assert_eq!(granted, features.into_iter().collect(), "{id}");
    }
    assert!(documents.iter().any(|document| document.id() == "starter"));
    assert!(documents.iter().any(|document| document.id() == "professional"));
}

#[test]
fn everything_named_is_registered_by_the_examples_themselves() {
    let documents = quickstart();
    let mut registered = BTreeSet::new();
    for document in &documents {
        registered.insert(format!("{} {}", document.kind().name(), document.id()));
        if let Document::Service(service) = document {
            registered.extend(service.features.iter().map(|feature| format!("feature {}/{}", service.id, feature.id)));
        }
    }
    let mut named = Vec::new();
    for document in &documents {
        match document {
            Document::Plan(_, offer) | Document::AddOn(_, offer) => {
                named.extend(offer.limits.keys().map(|id| format!("limit {id}")));
                for (service, grant) in &offer.services {
                    named.push(format!("service {service}"));
                    named.extend(grant.features.iter().map(|feature| format!("feature {service}/{feature}")));
                }
            }
            Document::Tenant(_, tenant) => {
                named.push(format!("plan {}", tenant.choice.plan));
                named.extend(tenant.scheduled.iter().map(|change| format!("plan {}", change.choice.plan)));
                named.extend(tenant.add_ons.keys().map(|id| format!("add-on {id}")));
                named.extend(tenant.overrides.limits.keys().map(|id| format!("limit {id}")));
                named.extend(tenant.familiarity.keys().map(|id| format!("service {id}")));
                named.extend(tenant.overrides.access.keys().map(|target| match &target.feature {
                    Some(feature) => format!("feature {}/{feature}", target.service),
                    None => format!("service {}", target.service),
                }));
            }
            Document::Service(_) | Document::Limit(_) => {}
        }
    }
    for name in named {
        assert!(registered.contains(&name), "{name} is not registered");
    }
}

#[test]
fn every_example_is_written_back_as_it_reads() {
    for document in quickstart() {
        assert_eq!(read_one(&document.to_yaml()), document);
    }
}
