//! Stored events as facts for people: their type, and their fields as a `google.protobuf.Struct`.
//!
//! Whatever the event, it shows all it says without a line here. Instants become RFC 3339 text.

use std::collections::BTreeMap;

use prost_reflect::{DynamicMessage, MapKey, Value as Field};
use prost_types::value::Kind;
use prost_types::{ListValue, Struct, Value};
use tessera_proto::convert::time::to_timestamp;

use crate::digest::hexadecimal;
use crate::stored_event::{StoredEvent, instant};

/// The type of a stored event in upper camel case, and its facts. An event that cannot be read has no type and no facts.
pub(crate) fn of(cell: &[u8]) -> (String, Struct) {
    facts(cell).unwrap_or_default()
}

fn facts(cell: &[u8]) -> Option<(String, Struct)> {
    let (name, fact) = StoredEvent::read(cell)?.fact()?;
    let facts = match to_value(&fact).kind {
        Some(Kind::StructValue(facts)) => facts,
        // An event that is one id, or says only that it happened.
        Some(Kind::BoolValue(_)) | None => Struct::default(),
        Some(kind) => Struct { fields: BTreeMap::from([("value".to_owned(), Value { kind: Some(kind) })]) },
    };
    Some((upper_camel(&name), facts))
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
    if let Some(instant) = instant(message) {
        return Kind::StringValue(to_timestamp(instant).to_string());
    }
    let fields = message.fields().map(|(field, value)| (field.name().to_owned(), to_value(value)));
    Kind::StructValue(Struct { fields: fields.collect() })
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
