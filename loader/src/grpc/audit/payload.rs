//! Stored events as facts for people: their type, and their fields as a `google.protobuf.Struct`.
//!
//! Read by reflection from the descriptors of the stored messages, so that every event there is, and every later one, shows
//! all it says without a line here. Instants become RFC 3339 text.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use prost_reflect::{DescriptorPool, DynamicMessage, MapKey, MessageDescriptor, ReflectMessage as _, Value as Field};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Timestamp, Value};

use crate::digest::hexadecimal;

/// The stored event message; `None` only if the descriptors were not those of this build.
static EVENT: LazyLock<Option<MessageDescriptor>> = LazyLock::new(|| {
    let pool = DescriptorPool::decode(tessera_proto::FILE_DESCRIPTOR_SET).ok()?;
    pool.get_message_by_name("tessera.storage.v1.Event")
});
/// How a stored instant is called.
const INSTANT: &str = "tessera.storage.v1.Instant";

/// The type of a stored event in upper camel case, and its facts. An event that cannot be read has no type and no facts.
pub(crate) fn of(cell: &[u8]) -> (String, Struct) {
    facts(cell).unwrap_or_default()
}

fn facts(cell: &[u8]) -> Option<(String, Struct)> {
    let event = DynamicMessage::decode(EVENT.clone()?, cell).ok()?;
    let payload = chosen(&event, "payload")?.1.as_message()?.clone();
    let (name, fact) = chosen(&payload, "event")?;
    let facts = match to_value(&fact).kind {
        Some(Kind::StructValue(facts)) => facts,
        // An event that is one id, or says only that it happened.
        Some(Kind::BoolValue(_)) | None => Struct::default(),
        Some(kind) => Struct { fields: BTreeMap::from([("value".to_owned(), Value { kind: Some(kind) })]) },
    };
    Some((upper_camel(&name), facts))
}

/// The field of a oneof that is set, with its name.
fn chosen(message: &DynamicMessage, oneof: &str) -> Option<(String, Field)> {
    let oneof = message.descriptor().oneofs().find(|one| one.name() == oneof)?;
    let field = oneof.fields().find(|field| message.has_field(field))?;
    Some((field.name().to_owned(), message.get_field(&field).into_owned()))
}

fn upper_camel(snake: &str) -> String {
    let words = snake.split('_').map(|word| {
        let mut letters = word.chars();
        letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect::<String>()
    });
    words.collect()
}

#[expect(clippy::cast_precision_loss, reason = "a Struct has no integers; those that would lose digits become text")]
fn to_value(field: &Field) -> Value {
    /// Above this a double no longer tells neighbours apart.
    const EXACT_MAX: i64 = 1 << 53;
    let whole = |number: i64| {
        if number.abs() <= EXACT_MAX { Kind::NumberValue(number as f64) } else { Kind::StringValue(number.to_string()) }
    };
    let kind = match field {
        Field::Bool(value) => Kind::BoolValue(*value),
        Field::I32(value) | Field::EnumNumber(value) => whole(i64::from(*value)),
        Field::I64(value) => whole(*value),
        Field::U32(value) => whole(i64::from(*value)),
        Field::U64(value) => i64::try_from(*value).map_or_else(|_| Kind::StringValue(value.to_string()), whole),
        Field::F32(value) => Kind::NumberValue(f64::from(*value)),
        Field::F64(value) => Kind::NumberValue(*value),
        Field::String(value) => Kind::StringValue(value.clone()),
        Field::Bytes(value) => Kind::StringValue(hexadecimal(value)),
        Field::Message(message) => message_kind(message),
        Field::List(values) => Kind::ListValue(ListValue { values: values.iter().map(to_value).collect() }),
        Field::Map(entries) => {
            let entry = |(key, value): (&MapKey, &Field)| (key_text(key), to_value(value));
            Kind::StructValue(Struct { fields: entries.iter().map(entry).collect() })
        }
    };
    Value { kind: Some(kind) }
}

fn message_kind(message: &DynamicMessage) -> Kind {
    if message.descriptor().full_name() == INSTANT
        && let Some(text) = instant(message)
    {
        return Kind::StringValue(text);
    }
    let fields = message.fields().map(|(field, value)| (field.name().to_owned(), to_value(value)));
    Kind::StructValue(Struct { fields: fields.collect() })
}

fn instant(message: &DynamicMessage) -> Option<String> {
    let number = |name: &str| {
        let value = message.get_field_by_name(name)?;
        match &*value {
            Field::I64(value) => Some(*value),
            Field::U64(value) => i64::try_from(*value).ok(),
            Field::I32(value) => Some(i64::from(*value)),
            Field::U32(value) => Some(i64::from(*value)),
            _ => None,
        }
    };
    let (seconds, nanos) = (number("seconds")?, i32::try_from(number("nanos")?).ok()?);
    Some(Timestamp { seconds, nanos }.to_string())
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}
