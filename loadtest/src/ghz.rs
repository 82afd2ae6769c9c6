//! Questions of the scenario as ghz takes them in a data file: one message after the other, in proto3's JSON.

use serde_json::{Value, json};

use crate::arguments::AsData;
use crate::popularity::Popularity;
use crate::question::{Mode, Question, Questions};

/// The messages: one by itself, several as an array. A check stands on a line of its own, so that files can be compared.
pub fn data(arguments: &AsData) -> anyhow::Result<String> {
    let size = arguments.checks()?;
    let mut questions = Questions::new(arguments.seed, Popularity::uniform(arguments.tenants), arguments.mode)?;
    let mut messages = Vec::new();
    for id in 1..=u64::from(arguments.messages) {
        let (asked, _) = questions.draw(id, size)?;
        messages.push(message(arguments.mode, id, &asked));
    }
    // A stream's messages are always an array: ghz sends all of them on one stream.
    let alone = messages.len() == 1 && arguments.mode != Mode::Stream;
    let text = messages.join(",\n");
    Ok(if alone { format!("{text}\n") } else { format!("[\n{text}\n]\n") })
}

fn message(mode: Mode, id: u64, asked: &[Question]) -> String {
    let checks: Vec<String> = asked.iter().map(|question| check(question).to_string()).collect();
    let checks = checks.join(",\n");
    match mode {
        Mode::Unary => checks,
        Mode::Batch => format!("{{\"checks\": [\n{checks}\n]}}"),
        // 64-bit numbers are strings in proto3's JSON.
        Mode::Stream => format!("{{\"id\": \"{id}\", \"checks\": [\n{checks}\n]}}"),
    }
}

fn check(question: &Question) -> Value {
    let asked = question.message();
    json!({"tenant_id": asked.tenant_id, "service": asked.service, "feature": asked.feature})
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use tessera_benches::scenario::{Tenant, names};

    use super::*;

    /// All checks below a value of JSON.
    fn checks(value: &Value, found: &mut Vec<Value>) {
        match value {
            Value::Object(fields) if fields.contains_key("tenant_id") => found.push(value.clone()),
            Value::Object(fields) => fields.values().for_each(|value| checks(value, found)),
            Value::Array(items) => items.iter().for_each(|value| checks(value, found)),
            _ => {}
        }
    }

    #[test]
    fn it_is_json_with_as_many_checks_as_were_asked_for() {
        for (mode, size, messages) in [(Mode::Unary, 1, 3), (Mode::Stream, 50, 1), (Mode::Batch, 7, 1), (Mode::Batch, 7, 2)] {
            let arguments = AsData { tenants: 100, mode, size: Some(size), messages, seed: 1 };
            let read: Value = serde_json::from_str(&data(&arguments).unwrap()).unwrap();
            let mut found = Vec::new();
            checks(&read, &mut found);
            assert_eq!(found.len(), size * usize::try_from(messages).unwrap());
            assert_eq!(read.is_array(), messages > 1 || mode == Mode::Stream);
        }
    }

    /// The configurations that are shipped ask about the scenario, so that every deployment that holds it can answer.
    #[test]
    fn shipped_data_is_about_the_first_thousand_tenants() {
        let tenants: HashSet<String> = (0..1_000).map(|number| Tenant(number).id()).collect();
        let features: HashSet<_> = (0..40).map(names).collect();
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("ghz");
        for (file, count) in [("stream.data.json", 200), ("batch.data.json", 1_000)] {
            let read: Value = serde_json::from_str(&std::fs::read_to_string(folder.join(file)).unwrap()).unwrap();
            let mut found = Vec::new();
            checks(&read, &mut found);
            assert_eq!(found.len(), count, "{file}");
            for check in found {
                let text = |name: &str| check[name].as_str().unwrap().to_owned();
                assert!(tenants.contains(&text("tenant_id")), "{file}: {check}");
                assert!(features.contains(&(text("service"), text("feature"))), "{file}: {check}");
            }
        }
        for file in ["unary.json", "list.json"] {
            let text = std::fs::read_to_string(folder.join(file)).unwrap();
            let named: Vec<_> = text.match_indices("tenant-").map(|(at, _)| text.get(at..at + 24).unwrap()).collect();
            assert!(!named.is_empty() && named.iter().all(|id| tenants.contains(*id)), "{file}: {named:?}");
        }
    }
}
