//! Messages as proto3 JSON, by the descriptors that the processes serve by reflection.

use std::sync::LazyLock;

use anyhow::Context as _;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

static POOL: LazyLock<Result<DescriptorPool, String>> =
    LazyLock::new(|| DescriptorPool::decode(tessera_proto::FILE_DESCRIPTOR_SET).map_err(|error| error.to_string()));

/// A message of `tessera.v1` as proto3 JSON. Fields that are not set are there with their default, so that programs find them.
pub fn of(name: &str, message: &impl Message) -> anyhow::Result<serde_json::Value> {
    let pool = POOL.as_ref().map_err(|error| anyhow::anyhow!("the descriptors cannot be read: {error}"))?;
    let full = format!("tessera.v1.{name}");
    let descriptor = pool.get_message_by_name(&full).with_context(|| format!("no message {full}"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().skip_default_fields(false);
    Ok(dynamic.serialize_with_options(serde_json::value::Serializer, &options)?)
}

/// A message of `tessera.v1` from its proto3 JSON.
pub fn parse<M: Message + Default>(name: &str, value: serde_json::Value) -> anyhow::Result<M> {
    let pool = POOL.as_ref().map_err(|error| anyhow::anyhow!("the descriptors cannot be read: {error}"))?;
    let full = format!("tessera.v1.{name}");
    let descriptor = pool.get_message_by_name(&full).with_context(|| format!("no message {full}"))?;
    let dynamic = DynamicMessage::deserialize(descriptor, value)?;
    Ok(M::decode(dynamic.encode_to_vec().as_slice())?)
}

#[cfg(test)]
mod tests {
    use tessera_proto::v1;

    #[test]
    fn a_denial_says_so_in_so_many_words() {
        let response = v1::CheckEntitlementResponse {
            reason: v1::Reason::TenantUnknown.into(),
            limit: Some(v1::LimitState { name: "max_users".into(), used: i64::MAX, ..Default::default() }),
            ..Default::default()
        };
        let json = super::of("CheckEntitlementResponse", &response).unwrap();
        assert_eq!(json["entitled"], false);
        assert_eq!(json["reason"], "REASON_TENANT_UNKNOWN");
        assert_eq!(json["limit"]["used"], i64::MAX.to_string());
        assert!(json.get("validUntil").is_none());
        assert!(super::of("Nothing", &response).is_err());
    }
}
