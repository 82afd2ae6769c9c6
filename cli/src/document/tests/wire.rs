//! To the wire and back gives the same document.

use proptest::prelude::*;
use tessera_proto::convert::offer;

use super::super::{Document, wire};
use super::round_trip::document;

fn there_and_back(document: &Document) -> Document {
    match document {
        Document::Service(service) => {
            let request = wire::upsert_service(service);
            let features = request.features.into_iter().map(|feature| tessera_proto::v1::Feature {
                feature_id: feature.feature_id,
                title: feature.title,
                description: feature.description,
                ..Default::default()
            });
            let registered = tessera_proto::v1::Service {
                service_id: request.service_id,
                title: request.title,
                description: request.description,
                features: features.collect(),
                ..Default::default()
            };
            Document::Service(wire::service_document(&registered).unwrap())
        }
        Document::Limit(limit) => {
            let request = wire::upsert_limit(limit);
            let registered = tessera_proto::v1::Limit {
                limit_id: request.limit_id,
                title: request.title,
                description: request.description,
                unit: request.unit,
                period: request.period,
                ..Default::default()
            };
            Document::Limit(wire::limit_document(&registered).unwrap())
        }
        Document::Plan(id, plan) => {
            Document::Plan(id.clone(), wire::plan_document(Some(&offer::to_plan_document(plan))).unwrap())
        }
        Document::AddOn(id, add_on) => {
            Document::AddOn(id.clone(), wire::add_on_document(Some(&offer::to_add_on_document(add_on))).unwrap())
        }
        Document::Tenant(id, tenant) => {
            let (id, tenant) = wire::read_tenant(&wire::tenant_message(id, tenant)).unwrap();
            Document::Tenant(id, Box::new(tenant))
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_500, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_lost(document in document()) {
        prop_assert_eq!(there_and_back(&document), document);
    }
}
