//! Every way a document can be wrong, and the answer: place, field, value, what is allowed.

use super::refusal;

/// The document, and texts that the refusal has.
const TABLE: &[(&str, &[&str])] = &[
    // Not a document at all.
    ("just words", &["test.yaml:1:1", "mapping"]),
    ("[1, 2]", &["mapping"]),
    ("plan: [", &["test.yaml:1:"]),
    ("\n\ntitel: Gold", &["test.yaml:3:1", "`titel`", "`service`, `limit`, `plan`, `add_on` and `tenant`"]),
    ("plan: gold\nservice: a", &["`service`, `plan`", "one thing"]),
    // Unknown keys, with those that are allowed.
    ("plan: gold\nlimit_s: {}", &["test.yaml:2:1", "limit_s", "limits", "trial"]),
    ("tenant: acme\nplan: gold\nplna: x", &["test.yaml:3:1", "plna", "add_ons", "suspended"]),
    ("service: a\nfeatures: {x: {tilte: y}}", &["test.yaml:2:", "tilte", "title", "description"]),
    ("plan: gold\nservices: {a: {feature: [x]}}", &["`feature`", "features", "familiarity"]),
    ("add_on: seats\ntrial: 14d", &["test.yaml:2:1", "trial", "limits"]),
    ("plan: gold\n<<: {title: x}", &["test.yaml:2:"]),
    // Keys and values given twice.
    ("plan: gold\ntitle: a\ntitle: b", &["test.yaml:3:1", "duplicate", "title"]),
    ("plan: gold\nlimits: {max_users: 1, max_users: 2}", &["test.yaml:2:", "duplicate", "max_users"]),
    ("service: a\nfeatures:\n  x: {}\n  x: {}", &["test.yaml:4:3", "duplicate"]),
    ("plan: gold\nservices: {a: {features: [x, z, x]}}", &["test.yaml:2:", "`x` is given twice"]),
    (
        "tenant: t\nplan: gold\noverrides:\n  - {limit: a, maximum: 1, reason: r}\n  - {limit: a, maximum: 2, reason: r}",
        &["two overrides of `a`"],
    ),
    (
        "tenant: t\nplan: p\nsuspended: [{reason: r, effective_at: 2026-01-01T00:00:00Z}, {reason: r, effective_at: 2027-01-01T00:00:00Z}]",
        &["two suspensions for `r`"],
    ),
    // Texts that YAML takes for something else.
    ("plan: gold\ntitle: no", &["test.yaml:2:8", "quot", "no"]),
    ("plan: gold\ntitle: on", &["quot", "on"]),
    ("plan: gold\ntitle: 12", &["quot", "12"]),
    ("plan: gold\ntitle: 1e3", &["quot", "1e3"]),
    ("plan: null", &["test.yaml:1:7", "null"]),
    ("plan: no", &["quot", "no"]),
    ("tenant: t\nplan: p\nlabels: {region: no}", &["test.yaml:3:18", "quot", "no"]),
    ("tenant: t\nplan: p\nlabels: {on: x}", &["quot", "on"]),
    ("tenant: t\nplan: p\npending: yes", &["test.yaml:3:10", "bool"]),
    ("tenant: t\nplan: p\npending: off", &["bool"]),
    ("tenant: t\nplan: p\npending: 1", &["test.yaml:3:10", "bool"]),
    // Ids: empty, too long, of a wrong alphabet, with control characters, look-alikes.
    ("plan: \"\"", &["`` is not a plan id: it is empty", "1 to 63 bytes"]),
    ("plan: Gold", &["`Gold` is not a plan id: byte 0", "a-z 0-9"]),
    ("plan: -gold", &["`-gold` is not a plan id"]),
    ("plan: \"go\\u0000ld\"", &["`go\\u{0}ld` is not a plan id: byte 2"]),
    ("plan: g\u{43e}ld", &["`g\\u{43e}ld` is not a plan id"]),
    ("service: a\nfeatures: {\"a b\": {}}", &["test.yaml:2:", "`a b` is not a feature id"]),
    ("tenant: \"a/b\"\nplan: p", &["test.yaml:1:9", "`a/b` is not a tenant id", "1 to 128 bytes"]),
    ("tenant: \"\\u202eacme\"\nplan: p", &["`\\u{202e}acme` is not a tenant id"]),
    ("limit: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", &["is not a limit id: it has 64 bytes"]),
    // Amounts.
    ("plan: gold\nlimits: {a: -1}", &["test.yaml:2:", "`-1`", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: 9223372036854775808}", &["9223372036854775808", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: 99999999999999999999999999999999999999999}", &["0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: 1.5}", &["1.5", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: infinite}", &["infinite", "or unlimited"]),
    ("plan: gold\nlimits: {a: null}", &["or unlimited"]),
    ("plan: gold\nlimits: {a: [1]}", &["or unlimited"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 0}", &["test.yaml:3:", "`0`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 1000001}", &["1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: two}", &["1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: {quantity: 1, version: 0}}", &["`0` is not a version", "1 to 2147483647"]),
    ("tenant: t\nplan: p\nadd_ons: {a: {count: 1}}", &["count", "quantity", "version"]),
    // Familiarity, versions, periods, times, lengths.
    ("plan: gold\nservices: {a: {familiarity: 80%}}", &["test.yaml:2:", "`80%`", "50%, 75%, 87.5% and 100%"]),
    ("plan: gold\nservices: {a: {familiarity: 0.5}}", &["0.5"]),
    ("tenant: t\nplan: gold@latest", &["test.yaml:2:7", "`latest` is not a version", "1, 2, 3"]),
    ("tenant: t\nplan: gold@0", &["`0` is not a version"]),
    ("tenant: t\nplan: gold@+1", &["`+1` is not a version"]),
    ("tenant: t\nplan: gold@2147483648", &["`2147483648` is not a version"]),
    ("limit: a\nperiod: year", &["test.yaml:2:9", "`year`", "never, hour, day, week and month"]),
    ("tenant: t\nplan: p\nstarts: 2026-01-01", &["test.yaml:3:9", "`2026-01-01` is not a time", "RFC 3339"]),
    ("tenant: t\nplan: p\nstarts: 2026-01-01T00:00:00", &["is not a time", "RFC 3339"]),
    ("tenant: t\nplan: p\nstarts: 2026-02-30T00:00:00Z", &["`2026-02-30T00:00:00Z` is not a time"]),
    ("tenant: t\nplan: p\nstarts: 1969-12-31T23:59:59Z", &["is not a time", "1970 to 9999"]),
    ("tenant: t\nplan: p\nstarts: tomorrow", &["`tomorrow` is not a time"]),
    ("plan: gold\ntrial: 2w", &["test.yaml:2:8", "`2w` is not a length of time", "14d"]),
    ("plan: gold\ntrial: 0d", &["`0d` is not a length of a trial", "at most 3653d"]),
    ("plan: gold\ntrial: 3654d", &["`3654d` is not a length of a trial"]),
    ("plan: gold\ntrial: -1d", &["`-1d` is not a length of time"]),
    ("plan: gold\ntrial: 99999999999999999999d", &["is not a length of time"]),
    ("plan: gold\ntrial: \u{441}d", &["`\\u{441}d` is not a length of time"]),
    ("plan: gold\ntrial: \u{441}", &["is not a length of time"]),
    // Overrides that are neither fish nor flesh.
    ("tenant: t\nplan: p\noverrides: [{effect: grant, reason: r}]", &["this one has neither"]),
    ("tenant: t\nplan: p\noverrides: [{service: a, limit: b, reason: r}]", &["this one has both"]),
    ("tenant: t\nplan: p\noverrides: [{service: a, reason: r}]", &["`effect` is missing; allowed are grant and deny"]),
    ("tenant: t\nplan: p\noverrides: [{service: a, effect: allow, reason: r}]", &["allow", "grant", "deny"]),
    ("tenant: t\nplan: p\noverrides: [{limit: a, reason: r}]", &["`maximum` is missing"]),
    ("tenant: t\nplan: p\noverrides: [{limit: a, effect: deny, maximum: 1, reason: r}]", &["go with `service`"]),
    ("tenant: t\nplan: p\noverrides: [{service: a, effect: deny}]", &["reason"]),
    ("tenant: t\nplan: p\noverrides: [{service: a, effect: deny, reason: \"\"}]", &["a reason", "1 to 200 bytes"]),
    ("tenant: t\nplan: p\nsuspended: [{reason: r}]", &["effective_at"]),
    // What must be there.
    ("tenant: acme", &["test.yaml:1:", "plan"]),
    // Too long.
    (
        "plan: gold\ntitle: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
        &["a title", "at most 200 bytes"],
    ),
    // Tags and anchors that would make a document something else than it shows.
    ("plan: !secret gold", &["test.yaml:1:"]),
    ("plan: *gold", &["test.yaml:1:"]),
];

#[test]
fn each_is_refused_in_words_that_help() {
    let mut failures = Vec::new();
    for (document, expected) in TABLE {
        let said = refusal(document);
        for part in *expected {
            if !said.contains(part) {
                failures.push(format!("{document:?}\n  said:     {said}\n  expected: {part}"));
            }
        }
        if said.lines().count() > 1 {
            failures.push(format!("{document:?}\n  said more than a line: {said}"));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn yaml_bombs_are_defused() {
    let mut laughs = "tenant: t\nplan: p\nlabels:\n  a: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..=9 {
        let uses = vec![format!("*a{}", level - 1); 10].join(", ");
        laughs += &["  a", &level.to_string(), ": &a", &level.to_string(), " [", &uses, "]\n"].concat();
    }
    let said = refusal(&laughs);
    assert!(said.starts_with("test.yaml:"), "{said}");

    let deep = format!("plan: {}{}", "[".repeat(5_000), "]".repeat(5_000));
    assert!(refusal(&deep).starts_with("test.yaml:1:"));

    let many = format!("plan: p\nlimits: [{}]", "1,".repeat(100_000));
    assert!(refusal(&many).starts_with("test.yaml:"));

    let long = format!("plan: p\ntitle: {}", "x".repeat(2 << 20));
    assert!(refusal(&long).contains("more than 1048576 bytes"));

    let features: Vec<String> = (0..2_001).map(|n| format!("f{n}")).collect();
    let said = refusal(&format!("plan: p\nservices: {{s: {{features: [{}]}}}}", features.join(", ")));
    assert!(said.contains("2001 features") && said.contains("at most 2000"), "{said}");
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let error = super::read("test.yaml", b"plan: gold\ntitle: \xff\n".as_slice()).next().unwrap().unwrap_err();
    assert_eq!(error.to_string(), "test.yaml:2:1: byte 8 of this line is not UTF-8");
}

#[test]
fn what_looks_wrong_and_is_right() {
    for good in [
        "plan: gold\ntitle: \"no\"",
        "tenant: \"123\"\nplan: p",
        "tenant: t\nplan: p\npending: true",
        "tenant: t\nplan: p\nlabels: {region: \"no\", \"on\": \"1\"}",
        "plan: gold\nservices: {a: }",
        "plan: gold\ntitle: null\ntrial:",
        "service: a\nfeatures: {x: , z: {}}",
        "plan: gold\nlimits: {a: 9223372036854775807, b: 0, c: unlimited}",
        "{plan: gold, trial: 36h}",
        "{\"plan\": \"gold\", \"limits\": {\"a\": 1}}",
        "plan: gold\nservices: {a: {features: &f [x, z]}, b: {features: *f}}",
        "tenant: t\nplan: p\nstarts: 2026-01-01T02:00:00.000000001+02:00",
        "%YAML 1.2\n---\nplan: gold",
    ] {
        let read = super::read_all(good);
        assert!(read.last().is_some_and(Result::is_ok), "{good:?}: {read:?}");
    }
}
