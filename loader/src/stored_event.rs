//! Stored events as far as they can be read without knowing each of them: by reflection from the descriptors of the stored
//! messages, so that every event there is, and every later one, can be named and shown without a line here.

use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value};
use tessera_core::time::Timestamp;

/// The stored event message; `None` only if the descriptors were not those of this build.
static EVENT: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(tessera_proto::FILE_DESCRIPTOR_SET).ok()?;
    pool.get_message_by_name("tessera.storage.v1.Event")
});
/// How a stored instant is called.
const INSTANT: &str = "tessera.storage.v1.Instant";

/// An event, read from its cell.
#[derive(Debug)]
pub(crate) struct StoredEvent(DynamicMessage);

impl StoredEvent {
    /// `None`: the cell is no message.
    pub(crate) fn read(cell: &[u8]) -> Option<Self> {
        DynamicMessage::decode(EVENT.clone()?, cell).ok().map(Self)
    }

    /// The name of what happened, in snake case; `None` of an event of a later software.
    pub(crate) fn name(&self) -> Option<String> {
        let payload = self.0.get_field(&chosen(&self.0, "payload")?);
        Some(chosen(payload.as_message()?, "event")?.name().to_owned())
    }

    /// The name, and what is said of it.
    pub(crate) fn fact(&self) -> Option<(String, Value)> {
        let payload = self.0.get_field(&chosen(&self.0, "payload")?);
        let payload = payload.as_message()?;
        let fact = chosen(payload, "event")?;
        Some((fact.name().to_owned(), payload.get_field(&fact).into_owned()))
    }

    /// When it happened.
    pub(crate) fn at(&self) -> Option<Timestamp> {
        let field = self.0.get_field_by_name("at").filter(|_| self.0.has_field_by_name("at"))?;
        instant(field.as_message()?)
    }
}

/// The field of a oneof that is set.
fn chosen(message: &DynamicMessage, oneof: &str) -> Option<FieldDescriptor> {
    let oneof = message.descriptor().oneofs().find(|one| one.name() == oneof)?;
    oneof.fields().find(|field| message.has_field(field))
}

/// The instant that a message is; `None` if it is something else.
pub(crate) fn instant(message: &DynamicMessage) -> Option<Timestamp> {
    if message.descriptor().full_name() != INSTANT {
        return None;
    }
    let number = |name: &str| match &*message.get_field_by_name(name)? {
        Value::I64(value) => Some(*value),
        Value::U64(value) => i64::try_from(*value).ok(),
        Value::I32(value) => Some(i64::from(*value)),
        Value::U32(value) => Some(i64::from(*value)),
        _ => None,
    };
    Timestamp::new(number("seconds")?, number("nanos")?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Others are told of events by these names, and rest on the page.
    #[test]
    fn every_name_is_documented() {
        let page = include_str!("../../docs/OPERATING.md");
        let (_, page) = page.split_once("### Events for others").unwrap();
        let oneof = |message: &MessageDescriptor, name: &str| message.oneofs().find(|oneof| oneof.name() == name).unwrap();
        let mut names = 0;
        for payload in oneof(&EVENT.clone().unwrap(), "payload").fields() {
            let event = payload.kind().as_message().unwrap().clone();
            for fact in oneof(&event, "event").fields() {
                assert!(page.contains(&format!("`{}`", fact.name())), "docs/OPERATING.md does not list `{}`", fact.name());
                names += 1;
            }
        }
        assert!(names > 40);
    }
}
