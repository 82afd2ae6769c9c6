//! The catalog as it is, beside what documents say of it.

use tessera_proto::v1;

use super::Step;
use crate::commands::catalog;
use crate::connection::Planes;
use crate::document::Document;

/// The catalog as it is, with what is archived.
#[derive(Debug)]
pub struct Registered {
    /// Its services.
    pub services: Vec<v1::Service>,
    /// Its limits.
    pub limits: Vec<v1::Limit>,
}

impl Registered {
    /// Reads it.
    pub async fn read(planes: &Planes) -> anyhow::Result<Self> {
        Ok(Self { services: catalog::services(planes, true).await?, limits: catalog::limits(planes, true).await? })
    }

    /// A sentence for each feature that stays although the document of its service leaves it out.
    pub fn left_out(&self, steps: &[Step]) -> Vec<String> {
        let mut sentences = Vec::new();
        for step in steps {
            let Document::Service(document) = &step.located.document else { continue };
            let id = document.id.as_str();
            let service = self.services.iter().find(|service| service.service_id == id);
            let stated = |feature: &str| document.features.iter().any(|stated| stated.id.as_str() == feature);
            for feature in service.into_iter().flat_map(|service| &service.features) {
                let feature_id = feature.feature_id.as_str();
                if !feature.archived && !stated(feature_id) {
                    sentences.push(format!(
                        "feature `{feature_id}` of `{id}` is registered and not in the document: it stays; \
                         `tessera catalog archive {id} {feature_id}` archives it"
                    ));
                }
            }
        }
        sentences
    }
}
