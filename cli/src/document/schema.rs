//! The published JSON schema of documents, made from the very types that read them. `examples/schema/document.json` is a copy
//! that a test keeps current; `tessera schema` prints it.

use schemars::generate::SchemaSettings;

use super::catalog::{LimitForm, ServiceForm};
use super::plan::{AddOnForm, PlanForm};
use super::tenant::TenantForm;

/// The schema of one document.
pub fn schema() -> serde_json::Value {
    let mut generator = SchemaSettings::draft2020_12().into_generator();
    let kinds = [
        generator.subschema_for::<ServiceForm>(),
        generator.subschema_for::<LimitForm>(),
        generator.subschema_for::<PlanForm>(),
        generator.subschema_for::<AddOnForm>(),
        generator.subschema_for::<TenantForm>(),
    ];
    serde_json::json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A document of Tessera",
        "description": "A service, a limit, a plan, an add-on or a tenant. A YAML file may hold several, with `---` between them.",
        "oneOf": kinds,
        "$defs": generator.take_definitions(true),
    })
}
