//! Events for others as CloudEvents 1.0, in the binary content mode of its Kafka protocol binding: what every event says of itself
//! stands in headers, what happened to whom in the value.
//!
//! What others read is for ever: types, sources and ids never change their form.

use rdkafka::message::{Header, OwnedHeaders};
use serde::Serialize;
use tessera_core::stream::Seq;
use tessera_core::time::Timestamp;
use tessera_ports::PublicEvent;

/// Of what stands in a value, and of what the types mean; part of every type.
const VERSION: &str = "v1";

/// One event as a record.
#[derive(Debug)]
pub(crate) struct CloudEvent {
    /// Unique to the event within its source; the record's key, too.
    pub(crate) id: String,
    pub(crate) headers: OwnedHeaders,
    pub(crate) value: Vec<u8>,
}

/// The value: ids alone, nothing that somebody wrote.
#[derive(Debug, Serialize)]
struct Data<'a> {
    /// The stream as text.
    stream: &'a str,
    /// Its kind: `catalog`, `plan`, `add-on`, `tenant`.
    kind: &'static str,
    /// Its id within the kind; empty for the catalog.
    key: &'a str,
    /// Number of the event within the stream.
    seq: Seq,
}

impl CloudEvent {
    /// The event, its type beginning with `prefix`.
    pub(crate) fn of(event: &PublicEvent, prefix: &str) -> Result<Self, serde_json::Error> {
        let subject = event.stream.to_string();
        let kind = event.stream.kind().name();
        let id = format!("{subject}/{}", event.seq);
        let data = Data { stream: &subject, kind, key: event.stream.key(), seq: event.seq };
        let value = serde_json::to_vec(&data)?;
        let source = format!("/tessera/{}", in_uri(&event.store));
        let what = format!("{prefix}.{kind}.{}.{VERSION}", event.kind);
        let at = event.at.and_then(rfc3339);
        let headers = [
            ("ce_specversion", Some("1.0")),
            ("ce_id", Some(id.as_str())),
            ("ce_source", Some(source.as_str())),
            ("ce_type", Some(what.as_str())),
            ("ce_time", at.as_deref()),
            ("ce_subject", Some(subject.as_str())),
            ("content-type", Some("application/json")),
        ];
        let headers = headers.into_iter().filter_map(|(key, value)| Some(Header { key, value: Some(value?) }));
        let headers = headers.fold(OwnedHeaders::new_with_capacity(7), OwnedHeaders::insert);
        Ok(Self { id, headers, value })
    }
}

/// `None` in the last hours of 9999, which that form could say and the library cannot.
fn rfc3339(at: Timestamp) -> Option<String> {
    let nanos = i32::try_from(at.subsec_nanos()).ok()?;
    Some(jiff::Timestamp::new(at.seconds(), nanos).ok()?.to_string())
}

/// As the end of a path: every byte that may not stand there becomes its number.
fn in_uri(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    let segment = text.bytes().map(|byte| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    segment.collect()
}

#[cfg(test)]
mod tests {
    use rdkafka::message::Headers as _;
    use tessera_core::ids::{AddOnId, TenantId};
    use tessera_core::stream::StreamId;

    use super::*;

    fn event(stream: StreamId, kind: &str) -> PublicEvent {
        let at = Timestamp::new(1_767_225_600, 250_000_000).ok();
        PublicEvent { store: "0197-a1".to_owned(), stream, seq: 7, kind: kind.to_owned(), at }
    }

    fn acme() -> StreamId {
        StreamId::Tenant(TenantId::parse("acme").unwrap())
    }

    fn headers(event: &CloudEvent) -> Vec<(String, String)> {
        let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
        event.headers.iter().map(|header| (header.key.to_owned(), text(header.value))).collect()
    }

    /// Whoever reads it rests on it.
    #[test]
    fn records_are_for_ever() {
        let record = CloudEvent::of(&event(acme(), "plan_changed"), "com.tessera").unwrap();
        assert_eq!(record.id, "tenant/acme/7");
        assert_eq!(record.value, br#"{"stream":"tenant/acme","kind":"tenant","key":"acme","seq":7}"#);
        let expected = [
            ("ce_specversion", "1.0"),
            ("ce_id", "tenant/acme/7"),
            ("ce_source", "/tessera/0197-a1"),
            ("ce_type", "com.tessera.tenant.plan_changed.v1"),
            ("ce_time", "2026-01-01T00:00:00.25Z"),
            ("ce_subject", "tenant/acme"),
            ("content-type", "application/json"),
        ];
        assert_eq!(headers(&record), expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
    }

    #[test]
    fn every_kind_of_stream_has_its_area() {
        let add_on = StreamId::AddOn(AddOnId::parse("seats").unwrap());
        let of = |stream, kind| headers(&CloudEvent::of(&event(stream, kind), "org.example").unwrap());
        let is_there =
            |headers: &[(String, String)], key: &str, value: &str| headers.contains(&(key.to_owned(), value.to_owned()));
        let (add_on, catalog) = (of(add_on, "published"), of(StreamId::Catalog, "unknown"));
        assert!(is_there(&add_on, "ce_type", "org.example.add-on.published.v1") && is_there(&add_on, "ce_id", "add-on/seats/7"));
        assert!(is_there(&catalog, "ce_type", "org.example.catalog.unknown.v1") && is_there(&catalog, "ce_id", "catalog/7"));
        let record = CloudEvent::of(&event(StreamId::Catalog, "enabled"), "org.example").unwrap();
        assert_eq!(record.value, br#"{"stream":"catalog","kind":"catalog","key":"","seq":7}"#);
    }

    #[test]
    fn a_time_that_is_not_known_is_left_out_and_a_store_fits_a_uri() {
        let nameless = PublicEvent { at: None, store: "shop/a b%é".to_owned(), ..event(acme(), "unknown") };
        let headers = headers(&CloudEvent::of(&nameless, "com.tessera").unwrap());
        assert!(headers.iter().all(|(key, _)| key != "ce_time"));
        assert!(headers.contains(&("ce_source".to_owned(), "/tessera/shop/a%20b%25%C3%A9".to_owned())));
    }

    #[test]
    fn times_are_written_to_the_end() {
        assert_eq!(rfc3339(Timestamp::MIN).as_deref(), Some("1970-01-01T00:00:00Z"));
        let nanos = Timestamp::new(0, 1).unwrap();
        assert_eq!(rfc3339(nanos).as_deref(), Some("1970-01-01T00:00:00.000000001Z"));
        assert!(rfc3339(Timestamp::MAX).is_none_or(|text| text.starts_with("9999-12-31T23:59:59.999999999")));
    }
}
