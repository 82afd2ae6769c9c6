//! Every way a document can be wrong, and the answer: place, field, value, what is allowed.

use proptest::prelude::*;

use super::{read_all, refusal};
use crate::document::DocumentError;

/// The document, line and column of the fault, the path of the field, and texts that the message has. `<x:201>` stands for 201
/// times `x`.
const TABLE: &[(&str, &str, &str, &[&str])] = &[
    // Not a document at all.
    (
        "just words",
        "1:1",
        "",
        &["`just words` is not allowed", "a mapping with one of the keys `service`, `limit`, `plan`, `add_on` and `tenant`"],
    ),
    ("42", "1:1", "", &["`42` is not allowed", "a mapping with one of the keys"]),
    ("[1, 2]", "1:1", "", &["a list is not allowed", "a mapping with one of the keys"]),
    ("- plan: a\n- plan: b", "1:1", "", &["a list is not allowed", "a mapping with one of the keys"]),
    ("plan: [", "1:7", "", &["this is not YAML"]),
    ("plan: \"gold\ntitle: x", "2:1", "", &["this is not YAML"]),
    ("plan: gold\nlimits: {a: 1", "2:9", "", &["this is not YAML", "'{'"]),
    ("plan: gold\n  title: x", "2:8", "", &["this is not YAML"]),
    ("plan: gold\ntitle: a: b", "2:9", "", &["this is not YAML"]),
    ("plan: @gold", "1:7", "", &["this is not YAML", "unexpected character: `@'"]),
    ("plan: %gold", "1:7", "", &["this is not YAML"]),
    ("plan: gold\nservices:\n\ta: {}", "3:2", "", &["this is not YAML", "tabs"]),
    ("plan: go\u{0}ld", "1:9", "", &["this is not YAML", "\\u{0}"]),
    ("plan: \u{1b}[31mgold", "1:7", "", &["this is not YAML", "\\u{1b}"]),
    ("plan: gold\n<k:2000>: 1", "2:1", "", &["this is not YAML"]),
    ("plan: gold\n...\nlimit: a", "2:1", "", &["a second document begins here", "`---`"]),
    ("limit: a\n\u{feff}title: x", "2:1", "", &["this is not YAML", "BOM"]),
    // What kind of document it is.
    (
        "\n\ntitel: Gold",
        "3:1",
        "",
        &["nothing says what this document is", "found `titel`", "`service`, `limit`, `plan`, `add_on` and `tenant`"],
    ),
    ("Plan: gold", "1:1", "", &["nothing says what this document is", "found `Plan` (did you mean `plan`?)"]),
    ("add-on: seats", "1:1", "", &["nothing says what this document is", "(did you mean `add_on`?)"]),
    ("plan: gold\nservice: a", "1:1", "", &["`service`, `plan`", "one thing", "`---`"]),
    ("tenant: acme\nplan: gold\nlimit: a", "3:1", "limit", &["`limit` is not a key here", "title, labels"]),
    ("plan:\ntitle: x", "1:5", "plan", &["nothing is not allowed", "1 to 63 bytes"]),
    ("plan: null", "1:7", "plan", &["`null` is not allowed", "1 to 63 bytes"]),
    ("plan: [gold]", "1:7", "plan", &["a list is not allowed", "1 to 63 bytes"]),
    ("plan: {id: gold}", "1:7", "plan", &["a mapping is not allowed", "1 to 63 bytes"]),
    ("tenant: acme", "1:1", "plan", &["`plan` is missing"]),
    // Unknown keys, with what was probably meant and what is allowed.
    (
        "plan: gold\nlimts: {}",
        "2:1",
        "limts",
        &["`limts` is not a key here (did you mean `limits`?); allowed are plan, title, description, services, limits, trial"],
    ),
    ("tenant: acme\nplan: gold\nplna: x", "3:1", "plna", &["`plna`", "(did you mean `plan`?)", "add_ons", "suspended"]),
    (
        "service: a\nfeatures: {x: {tilte: y}}",
        "2:16",
        "features.x.tilte",
        &["`tilte`", "(did you mean `title`?)", "allowed are title, description"],
    ),
    (
        "plan: gold\nservices: {a: {feature: [x]}}",
        "2:16",
        "services.a.feature",
        &["`feature`", "(did you mean `features`?)", "features, familiarity"],
    ),
    ("add_on: seats\ntrial: 14d", "2:1", "trial", &["`trial` is not a key here", "limits"]),
    ("plan: gold\nkind: x", "2:1", "kind", &["`kind` is not a key here; allowed are"]),
    (
        "tenant: t\nplan: p\noverrides:\n  - service: a\n    efect: grant\n    reason: r",
        "5:5",
        "overrides[0].efect",
        &["`efect`", "(did you mean `effect`?)", "maximum"],
    ),
    (
        "tenant: t\nplan: p\nadd_ons: {a: {count: 1}}",
        "3:15",
        "add_ons.a.count",
        &["`count` is not a key here", "quantity, version"],
    ),
    ("plan: gold\n<<: {title: x}", "2:1", "[\"<<\"]", &["the merge key `<<` is not allowed"]),
    // Keys and values given twice.
    ("plan: gold\ntitle: a\ntitle: b", "3:1", "title", &["the key `title` is given twice; allowed is once"]),
    ("plan: gold\nlimits: {max_users: 1, max_users: 2}", "2:24", "limits.max_users", &["the key `max_users` is given twice"]),
    ("plan: gold\nservices:\n  a: {}\n  b: {}\n  a: {}", "5:3", "services.a", &["the key `a` is given twice"]),
    ("service: a\nfeatures:\n  x: {}\n  x: {}", "4:3", "features.x", &["the key `x` is given twice"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 1, a: 2}", "3:17", "add_ons.a", &["the key `a` is given twice"]),
    ("plan: gold\nservices: {a: {features: [x, z, x]}}", "2:26", "services.a.features", &["`x` is given twice; allowed is once"]),
    (
        "tenant: t\nplan: p\noverrides:\n  - {limit: a, maximum: 1, reason: r}\n  - {limit: a, maximum: 2, reason: r}",
        "4:3",
        "overrides",
        &["there are two overrides of `a`; allowed is one"],
    ),
    (
        "tenant: t\nplan: p\noverrides:\n  - {service: a, effect: grant, reason: r}\n  - {service: a, effect: deny, reason: r}",
        "4:3",
        "overrides",
        &["there are two overrides of `a`"],
    ),
    (
        "tenant: t\nplan: p\nsuspended: [{reason: r, effective_at: 2026-01-01T00:00:00Z}, {reason: r, effective_at: 2027-01-01T00:00:00Z}]",
        "3:12",
        "suspended",
        &["two suspensions for `r`; allowed is one"],
    ),
    // Texts that YAML takes for something else.
    (
        "plan: gold\ntitle: no",
        "2:8",
        "title",
        &["`no` is a boolean to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: on",
        "2:8",
        "title",
        &["`on` is a boolean to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: yes",
        "2:8",
        "title",
        &["`yes` is a boolean to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: off",
        "2:8",
        "title",
        &["`off` is a boolean to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: true",
        "2:8",
        "title",
        &["`true` is a boolean to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: 12",
        "2:8",
        "title",
        &["`12` is a number to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: 1e3",
        "2:8",
        "title",
        &["`1e3` is a number to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: 1.5",
        "2:8",
        "title",
        &["`1.5` is a number to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    (
        "plan: gold\ntitle: -1",
        "2:8",
        "title",
        &["`-1` is a number to YAML", "allowed is a text of 0 to 200 bytes; put it in quotes"],
    ),
    ("plan: no", "1:7", "plan", &["`no` is a boolean to YAML", "1 to 63 bytes", "put it in quotes"]),
    ("plan: 12", "1:7", "plan", &["`12` is a number to YAML", "put it in quotes"]),
    ("tenant: 123\nplan: p", "1:9", "tenant", &["`123` is a number to YAML", "1 to 128 bytes", "put it in quotes"]),
    ("tenant: .inf\nplan: p", "1:9", "tenant", &["`.inf` is not allowed"]),
    ("plan: gold\nlimits: {no: 1}", "2:10", "limits.no", &["`no` is a boolean to YAML", "put it in quotes"]),
    ("plan: gold\nservices: {yes: {}}", "2:12", "services.yes", &["`yes` is a boolean to YAML", "put it in quotes"]),
    (
        "plan: gold\nservices: {a: {features: [x, on]}}",
        "2:30",
        "services.a.features[1]",
        &["`on` is a boolean to YAML", "put it in quotes"],
    ),
    ("tenant: t\nplan: p\nlabels: {region: no}", "3:18", "labels.region", &["`no` is a boolean to YAML", "put it in quotes"]),
    ("tenant: t\nplan: p\nlabels: {region: 1}", "3:18", "labels.region", &["`1` is a number to YAML", "put it in quotes"]),
    ("tenant: t\nplan: p\nlabels: {on: x}", "3:10", "labels.on", &["`on` is a boolean to YAML", "put it in quotes"]),
    ("tenant: t\nplan: p\npending: yes", "3:10", "pending", &["`yes` is not allowed", "true or false"]),
    ("tenant: t\nplan: p\npending: off", "3:10", "pending", &["`off` is not allowed", "true or false"]),
    ("tenant: t\nplan: p\npending: 1", "3:10", "pending", &["`1` is not allowed", "true or false"]),
    ("tenant: t\nplan: p\npending: \"true\"", "3:10", "pending", &["the text `true` is not allowed", "true or false"]),
    // Ids: empty, too long, of a wrong alphabet, with control characters, look-alikes.
    ("plan: \"\"", "1:7", "plan", &["`` is not a plan id: it is empty", "1 to 63 bytes"]),
    ("plan: Gold", "1:7", "plan", &["`Gold` is not a plan id: byte 0", "a-z 0-9"]),
    ("plan: -gold", "1:7", "plan", &["`-gold` is not a plan id"]),
    ("plan: gold@3", "1:7", "plan", &["`gold@3` is not a plan id"]),
    ("plan: \"go\\u0000ld\"", "1:7", "plan", &["`go\\u{0}ld` is not a plan id: byte 2"]),
    ("plan: \"\\e[31m\"", "1:7", "plan", &["`\\u{1b}[31m` is not a plan id"]),
    ("plan: g\u{43e}ld", "1:7", "plan", &["`g\\u{43e}ld` is not a plan id"]),
    ("plan: \u{ff47}old", "1:7", "plan", &["`\\u{ff47}old` is not a plan id"]),
    ("plan: go\u{200b}ld", "1:7", "plan", &["`go\\u{200b}ld` is not a plan id"]),
    ("plan: go\u{301}ld", "1:7", "plan", &["`go\\u{301}ld` is not a plan id"]),
    ("plan: |\n  gold\n", "2:3", "plan", &["`gold\\n` is not a plan id: byte 4"]),
    ("service: a\nfeatures: {\"a b\": {}}", "2:12", "features[\"a b\"]", &["`a b` is not a feature id"]),
    ("plan: gold\nlimits:\n  max users: 1", "3:3", "limits[\"max users\"]", &["`max users` is not a limit id"]),
    ("plan: gold\nservices:\n  a:\n    features: [x, \"Y Z\"]", "4:19", "services.a.features[1]", &["`Y Z` is not a feature id"]),
    ("tenant: \"a/b\"\nplan: p", "1:9", "tenant", &["`a/b` is not a tenant id", "1 to 128 bytes"]),
    ("tenant: \"\\u202eacme\"\nplan: p", "1:9", "tenant", &["`\\u{202e}acme` is not a tenant id"]),
    ("limit: <a:64>", "1:8", "limit", &["is not a limit id: it has 64 bytes"]),
    ("tenant: <a:129>\nplan: p", "1:9", "tenant", &["is not a tenant id: it has 129 bytes"]),
    // Amounts: whole numbers in decimal digits.
    ("plan: gold\nlimits: {a: -1}", "2:13", "limits.a", &["`-1`", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: 9223372036854775808}", "2:13", "limits.a", &["`9223372036854775808`", "0 to 9223372036854775807"]),
    (
        "plan: gold\nlimits: {a: 99999999999999999999}",
        "2:13",
        "limits.a",
        &["`99999999999999999999`", "0 to 9223372036854775807"],
    ),
    ("plan: gold\nlimits: {a: 1.5}", "2:13", "limits.a", &["`1.5`", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: 1e3}", "2:13", "limits.a", &["`1e3`", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: infinite}", "2:13", "limits.a", &["`infinite`", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: Unlimited}", "2:13", "limits.a", &["`Unlimited`", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: 5 users}", "2:13", "limits.a", &["`5 users`", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: true}", "2:13", "limits.a", &["`true`", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: ~}", "2:13", "limits.a", &["nothing", "0 to 9223372036854775807, or unlimited"]),
    ("plan: gold\nlimits: {a: \"5\"}", "2:13", "limits.a", &["the text `5`", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits:\n  a: 1,000", "3:6", "limits.a", &["`1,000`", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: [1]}", "2:13", "limits.a", &["a list", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: {max: 1}}", "2:13", "limits.a", &["a mapping", "0 to 9223372036854775807"]),
    ("plan: gold\nlimits: {a: 0x10}", "2:13", "limits.a", &["`0x10` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: 0o17}", "2:13", "limits.a", &["`0o17` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: 0b1}", "2:13", "limits.a", &["`0b1` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: 017}", "2:13", "limits.a", &["`017` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: 1_000}", "2:13", "limits.a", &["`1_000` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: +5}", "2:13", "limits.a", &["`+5` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: -0}", "2:13", "limits.a", &["`-0` is not allowed", "in decimal digits, such as 1000"]),
    ("plan: gold\nlimits: {a: .inf}", "2:13", "limits.a", &["`.inf` is not allowed", "a whole number in decimal digits"]),
    ("plan: gold\nlimits: {a: -.inf}", "2:13", "limits.a", &["`-.inf` is not allowed", "a whole number in decimal digits"]),
    ("plan: gold\nlimits: {a: .nan}", "2:13", "limits.a", &["`.nan` is not allowed", "a whole number in decimal digits"]),
    ("plan: gold\nlimits: {a: <9:2000>}", "2:13", "limits.a", &["…` is not allowed"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 0}", "3:14", "add_ons.a", &["`0`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: -1}", "3:14", "add_ons.a", &["`-1`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 1000001}", "3:14", "add_ons.a", &["`1000001`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 99999999999999999999}", "3:14", "add_ons.a", &["`99999999999999999999`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: two}", "3:14", "add_ons.a", &["`two`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 1e1}", "3:14", "add_ons.a", &["`1e1`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 1.0}", "3:14", "add_ons.a", &["`1.0`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: 0x2}", "3:14", "add_ons.a", &["`0x2`", "decimal digits"]),
    ("tenant: t\nplan: p\nadd_ons: {a: }", "3:12", "add_ons.a", &["nothing is not allowed", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: {quantity: 0}}", "3:25", "add_ons.a.quantity", &["`0`", "1 to 1000000"]),
    ("tenant: t\nplan: p\nadd_ons: {a: {quantity: many}}", "3:25", "add_ons.a.quantity", &["`many`", "1 to 1000000"]),
    (
        "tenant: t\nplan: p\nadd_ons: {a: {quantity: 1, version: 0}}",
        "3:37",
        "add_ons.a.version",
        &["`0` is not a version", "1 to 2147483647"],
    ),
    (
        "tenant: t\nplan: p\nadd_ons: {a: {quantity: 1, version: latest}}",
        "3:37",
        "add_ons.a.version",
        &["`latest` is not allowed", "1 to 2147483647"],
    ),
    (
        "tenant: t\nplan: p\noverrides: [{limit: a, maximum: -5, reason: r}]",
        "3:33",
        "overrides[0].maximum",
        &["`-5`", "0 to 9223372036854775807"],
    ),
    // Familiarity, versions, periods.
    (
        "plan: gold\nservices: {a: {familiarity: 80%}}",
        "2:29",
        "services.a.familiarity",
        &["`80%` is not a familiarity", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 87.55%}}",
        "2:29",
        "services.a.familiarity",
        &["`87.55%` is not a familiarity", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 87.50%}}",
        "2:29",
        "services.a.familiarity",
        &["`87.50%` is not a familiarity", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 101%}}",
        "2:29",
        "services.a.familiarity",
        &["`101%` is not a familiarity", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: -50%}}",
        "2:29",
        "services.a.familiarity",
        &["`-50%` is not a familiarity", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 50 %}}",
        "2:29",
        "services.a.familiarity",
        &["`50 %` is not a familiarity", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 50}}",
        "2:29",
        "services.a.familiarity",
        &["`50` is a number to YAML", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 8750}}",
        "2:29",
        "services.a.familiarity",
        &["`8750` is a number to YAML", "50%, 75%, 87.5%"],
    ),
    (
        "plan: gold\nservices: {a: {familiarity: 0.5}}",
        "2:29",
        "services.a.familiarity",
        &["`0.5` is a number to YAML", "50%, 75%, 87.5%"],
    ),
    ("tenant: t\nplan: p\nfamiliarity: {a: 60%}", "3:18", "familiarity.a", &["`60%` is not a familiarity", "50%, 75%, 87.5%"]),
    ("tenant: t\nplan: gold@latest", "2:7", "plan", &["`latest` is not a version", "1, 2, 3"]),
    ("tenant: t\nplan: gold@0", "2:7", "plan", &["`0` is not a version", "1, 2, 3"]),
    ("tenant: t\nplan: gold@+1", "2:7", "plan", &["`+1` is not a version", "1, 2, 3"]),
    ("tenant: t\nplan: gold@01", "2:7", "plan", &["`01` is not a version", "1, 2, 3"]),
    ("tenant: t\nplan: gold@", "2:7", "plan", &["`` is not a version", "1, 2, 3"]),
    ("tenant: t\nplan: gold@2147483648", "2:7", "plan", &["`2147483648` is not a version", "1, 2, 3"]),
    ("limit: a\nperiod: year", "2:9", "period", &["`year` is not a period", "never, hour, day, week and month"]),
    ("limit: a\nperiod: Day", "2:9", "period", &["`Day` is not a period", "never, hour, day, week and month"]),
    ("limit: a\nperiod: 7", "2:9", "period", &["`7` is a number to YAML", "never, hour, day, week or month"]),
    // Times, with an offset.
    ("tenant: t\nplan: p\nstarts: 2026-01-01", "3:9", "starts", &["`2026-01-01` is not a time", "RFC 3339 from 1970 to 9999"]),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01T00:00:00",
        "3:9",
        "starts",
        &["`2026-01-01T00:00:00` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01 00:00:00Z",
        "3:9",
        "starts",
        &["`2026-01-01 00:00:00Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01T00:00Z",
        "3:9",
        "starts",
        &["`2026-01-01T00:00Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-02-30T00:00:00Z",
        "3:9",
        "starts",
        &["`2026-02-30T00:00:00Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01T24:00:00Z",
        "3:9",
        "starts",
        &["`2026-01-01T24:00:00Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01T23:59:60Z",
        "3:9",
        "starts",
        &["`2026-01-01T23:59:60Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01T00:00:00+2",
        "3:9",
        "starts",
        &["`2026-01-01T00:00:00+2` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 2026-01-01T00:00:00+25:00",
        "3:9",
        "starts",
        &["`2026-01-01T00:00:00+25:00` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 1969-12-31T23:59:59Z",
        "3:9",
        "starts",
        &["`1969-12-31T23:59:59Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 10000-01-01T00:00:00Z",
        "3:9",
        "starts",
        &["`10000-01-01T00:00:00Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nstarts: 0000-01-01T00:00:00Z",
        "3:9",
        "starts",
        &["`0000-01-01T00:00:00Z` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    ("tenant: t\nplan: p\nstarts: tomorrow", "3:9", "starts", &["`tomorrow` is not a time", "RFC 3339 from 1970 to 9999"]),
    (
        "tenant: t\nplan: p\nstarts: 1767225600",
        "3:9",
        "starts",
        &["`1767225600` is a number to YAML", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\nscheduled: [{at: now, plan: p}]",
        "3:18",
        "scheduled[0].at",
        &["`now` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    (
        "tenant: t\nplan: p\noverrides:\n  - {service: a, effect: grant, until: tomorrow, reason: r}",
        "4:40",
        "overrides[0].until",
        &["`tomorrow` is not a time", "RFC 3339 from 1970 to 9999"],
    ),
    // Lengths of trials.
    ("plan: gold\ntrial: 2w", "2:8", "trial", &["`2w` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: 14x", "2:8", "trial", &["`14x` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: -1d", "2:8", "trial", &["`-1d` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: 1.5d", "2:8", "trial", &["`1.5d` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: 14 d", "2:8", "trial", &["`14 d` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: P14D", "2:8", "trial", &["`P14D` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: d", "2:8", "trial", &["`d` is not a length of time", "days (14d), hours (36h), minutes (90m)"]),
    (
        "plan: gold\ntrial: 99999999999999999999d",
        "2:8",
        "trial",
        &["`99999999999999999999d` is not a length of time", "days (14d), hours (36h), minutes (90m)"],
    ),
    (
        "plan: gold\ntrial: \u{441}d",
        "2:8",
        "trial",
        &["`\\u{441}d` is not a length of time", "days (14d), hours (36h), minutes (90m)"],
    ),
    (
        "plan: gold\ntrial: \u{441}",
        "2:8",
        "trial",
        &["`\\u{441}` is not a length of time", "days (14d), hours (36h), minutes (90m)"],
    ),
    ("plan: gold\ntrial: 14", "2:8", "trial", &["`14` is a number to YAML", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: yes", "2:8", "trial", &["`yes` is a boolean to YAML", "days (14d), hours (36h), minutes (90m)"]),
    ("plan: gold\ntrial: 0d", "2:8", "trial", &["`0d` is not a length of a trial", "at most 3653d"]),
    ("plan: gold\ntrial: 3654d", "2:8", "trial", &["`3654d` is not a length of a trial", "at most 3653d"]),
    // Wrong types.
    ("plan: gold\nservices: [a]", "2:11", "services", &["a list is not allowed", "a mapping"]),
    ("plan: gold\nservices: a", "2:11", "services", &["`a` is not allowed", "a mapping"]),
    ("plan: gold\nservices: {a: {features: x}}", "2:26", "services.a.features", &["`x` is not allowed", "a list"]),
    ("plan: gold\nservices: {a: {features: {x: {}}}}", "2:26", "services.a.features", &["a mapping is not allowed", "a list"]),
    ("service: a\nfeatures: [x, y]", "2:11", "features", &["a list is not allowed", "a mapping"]),
    ("plan: gold\nlimits: [a]", "2:9", "limits", &["a list is not allowed", "a mapping"]),
    ("plan: gold\ntitle: [a]", "2:8", "title", &["a list is not allowed", "a text of 0 to 200 bytes"]),
    ("tenant: t\nplan: p\nlabels: [a]", "3:9", "labels", &["a list is not allowed", "a mapping"]),
    ("tenant: t\nplan: p\nadd_ons: [a]", "3:10", "add_ons", &["a list is not allowed", "a mapping"]),
    ("tenant: t\nplan: p\nsuspended: [payment]", "3:13", "suspended[0]", &["`payment` is not allowed", "a mapping"]),
    (
        "tenant: t\nplan: p\nsuspended: {payment: 2026-01-01T00:00:00Z}",
        "3:12",
        "suspended",
        &["a mapping is not allowed", "a list"],
    ),
    ("plan: gold\nlimits:\n  ? [a, b]\n  : 1", "3:5", "limits", &["a list is not allowed"]),
    // Overrides that are neither fish nor flesh.
    ("tenant: t\nplan: p\noverrides: [{effect: grant, reason: r}]", "3:13", "overrides[0]", &["this one has neither"]),
    (
        "tenant: t\nplan: p\noverrides:\n  - feature: a\n    effect: grant\n    reason: r",
        "4:5",
        "overrides[0]",
        &["this one has neither"],
    ),
    ("tenant: t\nplan: p\noverrides: [{service: a, limit: b, reason: r}]", "3:13", "overrides[0]", &["this one has both"]),
    (
        "tenant: t\nplan: p\noverrides: [{service: a, reason: r}]",
        "3:13",
        "overrides[0]",
        &["`effect` is missing; allowed are grant and deny"],
    ),
    (
        "tenant: t\nplan: p\noverrides: [{service: a, effect: allow, reason: r}]",
        "3:34",
        "overrides[0].effect",
        &["`allow`", "allowed are grant, deny"],
    ),
    (
        "tenant: t\nplan: p\noverrides: [{service: a, effect: Grant, reason: r}]",
        "3:34",
        "overrides[0].effect",
        &["`Grant`", "(did you mean `grant`?)", "allowed are grant, deny"],
    ),
    ("tenant: t\nplan: p\noverrides: [{limit: a, reason: r}]", "3:13", "overrides[0]", &["`maximum` is missing"]),
    (
        "tenant: t\nplan: p\noverrides: [{limit: a, effect: deny, maximum: 1, reason: r}]",
        "3:13",
        "overrides[0]",
        &["go with `service`"],
    ),
    ("tenant: t\nplan: p\noverrides: [{service: a, effect: deny}]", "3:26", "overrides[0].reason", &["`reason` is missing"]),
    (
        "tenant: t\nplan: p\noverrides: [{service: a, effect: deny, reason: \"\"}]",
        "3:48",
        "overrides[0].reason",
        &["a reason", "1 to 200 bytes"],
    ),
    ("tenant: t\nplan: p\nsuspended: [{reason: r}]", "3:14", "suspended[0].effective_at", &["`effective_at` is missing"]),
    // Too long.
    ("plan: gold\ntitle: <x:201>", "2:8", "title", &["…` is not allowed for a title", "at most 200 bytes"]),
    ("plan: gold\ndescription: <x:2001>", "2:14", "description", &["…` is not allowed for a description", "at most 2000 bytes"]),
    (
        "tenant: t\nplan: p\nsuspended: [{reason: <x:201>, effective_at: 2026-01-01T00:00:00Z}]",
        "3:22",
        "suspended[0].reason",
        &["…` is not allowed for a reason", "1 to 200 bytes"],
    ),
    (
        "tenant: t\nplan: p\nlabels: {a: <x:64>}",
        "3:13",
        "labels.a",
        &["is not allowed for the value of a label", "at most 63 bytes"],
    ),
    (
        "tenant: t\nplan: p\nlabels: {<x:64>: a}",
        "3:10",
        "labels.<x:64>",
        &["is not allowed for the key of a label", "1 to 63 bytes"],
    ),
    (
        "plan: gold\ntitle: |\n  a\n  b\n",
        "3:3",
        "title",
        &["`a\\nb\\n` is not allowed for a title", "without control characters"],
    ),
    ("plan: gold\ntitle: \"a\\tb\"", "2:8", "title", &["`a\\tb` is not allowed for a title", "without control characters"]),
    // Tags and anchors that would make a document something else than it shows.
    ("plan: !secret gold", "1:15", "plan", &["tag"]),
    ("plan: !!binary Z29sZA==", "1:16", "plan", &["the tag `!!binary` is not allowed"]),
    ("plan: *gold", "1:7", "plan", &["anchor"]),
    ("plan: gold\nservices: &a {a: *a}", "2:18", "services.a", &["an anchor that holds itself is not allowed"]),
];

/// Puts in what `<x:201>` stands for.
fn whole(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, (run, after))) = rest.split_once('<').and_then(|(before, at)| Some((before, at.split_once('>')?))) {
        match run.split_once(':').and_then(|(what, count)| Some((what, count.parse().ok()?))) {
            Some((what, count)) => out += &(before.to_owned() + &what.repeat(count)),
            None => out.extend([before, "<", run, ">"]),
        }
        rest = after;
    }
    out + rest
}

#[track_caller]
fn fault(text: &str) -> DocumentError {
    let mut documents = read_all(text);
    assert_eq!(documents.len(), 1, "{text:?}: {documents:?}");
    documents.remove(0).err().unwrap_or_else(|| panic!("{text:?} was read"))
}

#[test]
fn each_is_refused_in_words_that_help() {
    let mut failures = Vec::new();
    for (document, place, field, expected) in TABLE {
        let document = whole(document);
        let error = fault(&document);
        let said = error.to_string();
        if (format!("{}:{}", error.line, error.column), &error.field) != ((*place).to_owned(), &whole(field)) {
            failures.push(format!("{document:?}\n  said:     {said}\n  expected: {place} {field}"));
        }
        for part in *expected {
            if !error.message.contains(part) {
                failures.push(format!("{document:?}\n  said:     {said}\n  expected: {part}"));
            }
        }
        is_bearable(&error);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// One line, not long, nothing that acts on a terminal, and none of the library's own words.
#[track_caller]
fn is_bearable(error: &DocumentError) {
    let said = error.to_string();
    assert!(said.len() < 1_500, "{} bytes: {said}", said.len());
    assert!(!said.chars().any(char::is_control), "{said:?}");
    for foreign in ["Options", "Policy", "budget", "i64", "mapping start", "scalar`", "breach"] {
        assert!(!said.contains(foreign), "{said}");
    }
}

#[test]
fn every_fault_of_a_file_is_told_and_good_documents_beside_them_are_read() {
    for newline in ["\n", "\r\n"] {
        let text = "limit: a\n---\nlimit: B\n---\n# nothing\n---\nlimit: c\nperiod: year\n---\nlimit: d\n".replace('\n', newline);
        let said: Vec<String> =
            read_all(&text).into_iter().map(|read| read.map_or_else(|e| e.to_string(), |l| l.document.to_string())).collect();
        assert_eq!(said.len(), 4, "{said:?}");
        assert_eq!((said[0].as_str(), said[3].as_str()), ("limit `a`", "limit `d`"));
        assert!(said[1].starts_with("test.yaml:3:8: limit: `B` is not a limit id"), "{said:?}");
        assert!(said[2].starts_with("test.yaml:8:9: period: `year` is not a period"), "{said:?}");
    }
    // A file of nothing has no documents, and no faults.
    for nothing in ["", "\n", "# a comment\n", "---\n---\n", "~\n", "\u{feff}"] {
        assert_eq!(read_all(nothing), [], "{nothing:?}");
    }
}

#[test]
fn lists_and_mappings_have_as_many_entries_as_the_domain_takes() {
    let list = |count: usize, one: &dyn Fn(usize) -> String| (0..count).map(one).collect::<Vec<_>>().join(", ");
    for (key, count, one, open, close) in [
        ("labels", 32, (&|n| format!("k{n}: v")) as &dyn Fn(usize) -> String, '{', '}'),
        ("add_ons", 64, &|n| format!("a{n}: 1"), '{', '}'),
        ("overrides", 500, &|n| format!("{{limit: l{n}, maximum: 1, reason: r}}"), '[', ']'),
        ("scheduled", 64, &|_| "{at: 2027-01-01T00:00:00Z, plan: p}".to_owned(), '[', ']'),
        ("suspended", 32, &|n| format!("{{reason: r{n}, effective_at: 2027-01-01T00:00:00Z}}"), '[', ']'),
    ] {
        let document = |count| format!("tenant: t\nplan: p\n{key}: {open}{}{close}", list(count, one));
        super::read_one(&document(count));
        let error = fault(&document(count + 1));
        assert_eq!((error.line, error.field.as_str()), (3, key), "{error}");
        assert!(error.message.contains(&format!("{} entries; allowed are at most {count}", count + 1)), "{error}");
    }
    let features = |count| format!("plan: p\nservices: {{s: {{features: [{}]}}}}", list(count, &|n| format!("f{n}")));
    super::read_one(&features(2_000));
    let error = fault(&features(2_001));
    assert_eq!((error.line, error.field.as_str()), (2, "services"), "{error}");
    assert!(error.message.contains("2001 features are granted; allowed are at most 2000"), "{error}");
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
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    let error = crate::document::read("test.yaml", b"plan: gold\ntitle: \xff\n".as_slice()).next().unwrap().unwrap_err();
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
        "# a comment\n%YAML 1.2\n---\nplan: gold\n...\n",
        "\u{feff}plan: gold",
        "plan: gold\r\ntitle: a\r\n",
        "plan: &id gold\ntitle: *id",
        "plan: !!str 12",
        "plan: gold\ndescription: >-\n  two\n  lines",
        "tenant: 2026-01-01\nplan: p",
        "plan: gold\nlimits: {a: 0, b: 1000}",
    ] {
        let read = read_all(good);
        assert!(read.len() == 1 && read[0].is_ok(), "{good:?}: {read:?}");
    }
}

/// The shipped examples, and the one of the contract.
fn examples() -> Vec<String> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut texts: Vec<String> = files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect();
    texts.push(include_str!("contract.yaml").to_owned());
    // Short enough to be read often.
    for text in &mut texts {
        text.truncate(text.floor_char_boundary(4_000));
    }
    texts
}

/// What makes a document of YAML something else.
fn shard() -> impl Strategy<Value = String> {
    let known = [
        "---\n",
        "...\n",
        "- ",
        ": ",
        "? ",
        "{",
        "}",
        "[",
        "]",
        ", ",
        "&a ",
        "*a",
        "<<: ",
        "!!int ",
        "!x ",
        "| \n",
        ">-\n",
        "#",
        "\"",
        "'",
        "%",
        "@",
        "`",
        "\t",
        "\r",
        "\n",
        "\u{feff}",
        "\u{0}",
        "\u{85}",
        "\u{2028}",
        "\u{202e}",
        "no",
        "~",
        "0x1f",
        "1_0",
        "-0",
        ".inf",
        "1e999",
        "99999999999999999999",
        "plan",
        "tenant",
        "limits",
        "overrides",
        "features",
    ];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(str::to_owned), 1 => "\\PC{0,8}", 1 => ".{0,8}"]
}

fn reads_or_says_why(text: &[u8]) -> Result<(), TestCaseError> {
    for read in crate::document::read("test.yaml", text) {
        match read {
            Ok(located) => {
                // What was read is written so that it reads the same.
                let again = read_all(&located.document.to_yaml());
                prop_assert_eq!(again.len(), 1);
                prop_assert_eq!(&again[0].as_ref().unwrap().document, &located.document);
            }
            Err(error) => {
                is_bearable(&error);
                let lines = text.split(|byte| matches!(byte, b'\n' | b'\r')).count();
                prop_assert!(error.line >= 1 && error.line <= lines + 1 && error.column >= 1, "{}", error);
            }
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_text_makes_the_reader_fail(shards in prop::collection::vec(shard(), 0..40)) {
        reads_or_says_why(shards.concat().as_bytes())?;
    }

    #[test]
    fn no_bytes_make_the_reader_fail(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        reads_or_says_why(&bytes)?;
    }

    #[test]
    fn no_change_of_an_example_makes_the_reader_fail(
        example in prop::sample::select(examples()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0_usize..20, shard()), 1..6),
    ) {
        let mut text = example;
        for (at, cut, put) in changes {
            let from = text.floor_char_boundary(at.index(text.len() + 1));
            let until = text.ceil_char_boundary((from + cut).min(text.len()));
            text.replace_range(from..until, &put);
        }
        reads_or_says_why(text.as_bytes())?;
    }
}
