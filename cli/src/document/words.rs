//! What the YAML library finds wrong, in our words: the value as it was written, and what is allowed in its place.

use serde_saphyr::Error;
use serde_saphyr::budget::BudgetBreach;
use tessera_core::shown::shown;

use super::outline::{Form, Node};

/// Stands in a message where the value comes as it was written, which whoever made the message did not know.
pub(super) const VALUE: &str = "\u{1}";
/// Begins a message that is about a whole mapping, not about the key that it begins with.
pub(super) const WHOLE: &str = "\u{2}";
/// Longest that is repeated of what the library says.
const LIBRARY_LEN_MAX: usize = 200;

/// The error as a sentence. `found` is the field and the value that it is about, as far as it is known.
pub(super) fn of(error: &Error, found: Option<(&Node, &Node)>) -> String {
    let value = || found.map_or_else(|| "this".to_owned(), |(_, value)| described(value));
    let key = || found.map_or_else(|| "this".to_owned(), |(field, _)| described(field));
    let not_allowed = |allowed: &str| format!("{} is not allowed; allowed is {allowed}", value());
    match error {
        Error::Message { msg, .. } => {
            let raw = found.map_or_else(String::new, |(field, _)| field.text().map(shown).unwrap_or_default());
            msg.replace(VALUE, &raw).replace(WHOLE, "")
        }
        Error::SerdeInvalidType { expected, .. } | Error::SerdeInvalidValue { expected, .. } => not_allowed(expected),
        Error::Unexpected { .. } if found.is_none_or(|(field, _)| field.path.is_empty()) => {
            not_allowed("a mapping with one of the keys `service`, `limit`, `plan`, `add_on` and `tenant`")
        }
        Error::Unexpected { expected: "mapping start", .. } => not_allowed("a mapping, such as {name: value}"),
        Error::Unexpected { expected: "sequence start", .. } => not_allowed("a list, such as [a, b]"),
        Error::Unexpected { expected: "string scalar", .. } | Error::NullIntoString { .. } => not_allowed("a text"),
        Error::SerdeUnknownField { field, expected, .. } => unknown(field, "a key here", expected),
        Error::SerdeUnknownVariant { variant, expected, .. } => unknown(variant, "a value here", expected),
        Error::SerdeMissingField { field, .. } => format!("`{field}` is missing"),
        Error::DuplicateMappingKey { .. } => format!("the key {} is given twice; allowed is once", key()),
        Error::QuotingRequired { value, .. } => {
            format!("`{}` is a number or a boolean to YAML; allowed is a text: put it in quotes", shown(value))
        }
        Error::InvalidBooleanStrict { .. } => format!("{} is not a boolean; allowed are true and false", value()),
        Error::InvalidScalar { .. } | Error::NonFiniteFloat { .. } => not_allowed("a whole number in decimal digits"),
        Error::MergeKeyNotAllowed { .. } => "the merge key `<<` is not allowed; write out what is meant".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an anchor that holds itself is not allowed".to_owned(),
        Error::UnknownAnchor { .. } => "there is no anchor of that name before; allowed are those that stand before".to_owned(),
        Error::UnsupportedTag { tag, .. } => format!("the tag `{}` is not allowed; allowed are plain values", shown(tag)),
        Error::TaggedScalarCannotDeserializeIntoString { .. } => "the tag is not allowed; allowed are plain values".to_owned(),
        Error::AliasReplayLimitExceeded { .. }
        | Error::AliasExpansionLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. }
        | Error::AliasReplayCounterOverflow { .. } => aliases(),
        Error::Budget { breach, .. } => budget(breach),
        Error::MultipleDocuments { .. } => several(),
        Error::AliasError { error, .. } => of(error, found),
        other => {
            let said = other.without_snippet().to_string();
            let cut = said.rfind(" at line ").filter(|at| said[*at..].contains("column")).unwrap_or(said.len());
            let said: String = said[..cut].trim_end_matches([',', ':']).chars().take(LIBRARY_LEN_MAX).collect();
            if said.contains("recursion limit") {
                return deep();
            }
            let said: String =
                said.chars().flat_map(|c| if c.is_control() { c.escape_default().collect() } else { vec![c] }).collect();
            format!("this is not YAML: {said}")
        }
    }
}

impl Node {
    fn text(&self) -> Option<&str> {
        match &self.form {
            Form::Plain(text) | Form::Quoted(text) => Some(text),
            _ => None,
        }
    }
}

fn described(node: &Node) -> String {
    match &node.form {
        Form::Plain(text) if text.is_empty() || text == "~" => "nothing".to_owned(),
        Form::Plain(text) => format!("`{}`", shown(text)),
        Form::Quoted(text) => format!("the text `{}`", shown(text)),
        Form::List => "a list".to_owned(),
        Form::Mapping => "a mapping".to_owned(),
        Form::Alias => "what the anchor holds".to_owned(),
    }
}

fn budget(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Depth { .. } => deep(),
        BudgetBreach::Documents { .. } => several(),
        BudgetBreach::Aliases { .. } | BudgetBreach::Anchors { .. } | BudgetBreach::AliasAnchorRatio { .. } => aliases(),
        _ => format!("the document has more than {} keys and values, the most that is allowed", super::yaml::NODES_MAX),
    }
}

fn deep() -> String {
    format!("this is nested deeper than {} levels, the most that is allowed", super::yaml::DEPTH_MAX)
}

fn several() -> String {
    "a second document begins here; allowed is one after each line `---`".to_owned()
}

fn aliases() -> String {
    format!(
        "anchors are used more than {} times, or unfold to more than {} values, the most that is allowed",
        super::yaml::ALIASES_MAX,
        super::yaml::ALIAS_NODES_MAX
    )
}

fn unknown(given: &str, what: &str, allowed: &[&'static str]) -> String {
    let meant = meant(given, allowed).map(|name| format!(" (did you mean `{name}`?)")).unwrap_or_default();
    format!("`{}` is not {what}{meant}; allowed are {}", shown(given), allowed.join(", "))
}

/// The one of `allowed` that was probably meant: at most two letters away, capitals and punctuation apart.
pub(super) fn meant<'a>(given: &str, allowed: &[&'a str]) -> Option<&'a str> {
    let bare = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect::<Vec<char>>();
    // A long text is no slip of the finger.
    if given.len() > 40 {
        return None;
    }
    let given = bare(given);
    let near = allowed.iter().map(|name| (distance(&given, &bare(name)), *name));
    near.min_by_key(|(steps, _)| *steps).filter(|(steps, name)| *steps <= 2 && *steps * 2 <= name.len()).map(|(_, name)| name)
}

/// How many letters have to be added, left out, or replaced.
fn distance(from: &[char], to: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (at, a) in from.iter().enumerate() {
        let mut corner = row[0];
        row[0] = at + 1;
        for (position, b) in to.iter().enumerate() {
            let replaced = corner + usize::from(a != b);
            corner = row[position + 1];
            row[position + 1] = replaced.min(corner + 1).min(row[position] + 1);
        }
    }
    row[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_recognised_and_other_words_are_not() {
        let keys = ["plan", "title", "services", "limits", "add_ons", "trial"];
        for (given, expected) in [
            ("limts", Some("limits")),
            ("limit_s", Some("limits")),
            ("Plan", Some("plan")),
            ("add-ons", Some("add_ons")),
            ("servcies", Some("services")),
            ("tier", None),
            ("quantity", None),
            ("", None),
        ] {
            assert_eq!(meant(given, &keys), expected, "{given}");
        }
    }
}
