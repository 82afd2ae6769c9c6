//! Every field that holds a time, one nanosecond before it, at it, and one after; and at the first and last instant there
//! are. Intervals are half-open: `from` is in, `until` is out.

use std::time::Duration;

use tessera_core::decision::Query;
use tessera_core::evaluator::{TenantRow, document, evaluate};
use tessera_core::time::Timestamp;

use crate::script::{Case, assert_all, given, time};

const CASES: &[Case] = &[
    Case {
        sentence: "start: not running before it, running from it",
        given: "starts 20",
        asks: &[
            ("20-1ns reporting", "no NOT_STARTED silver@2 until 20"),
            ("20 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("20+1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
        ],
    },
    Case {
        sentence: "trial end: running before it, ended from it",
        given: "trial 20",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "no TRIAL_ENDED silver@2"),
            ("20+1ns reporting", "no TRIAL_ENDED silver@2"),
        ],
    },
    Case {
        sentence: "cancellation: running before it, ended from it",
        given: "cancel 20",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "no SUBSCRIPTION_ENDED silver@2"),
            ("20+1ns reporting", "no SUBSCRIPTION_ENDED silver@2"),
        ],
    },
    Case {
        sentence: "scheduled change: the old plan before it, the new one from it",
        given: "then 20 gold",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
            ("20+1ns reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
        ],
    },
    Case {
        sentence: "two scheduled changes a nanosecond apart",
        given: "then 20 gold; then 20+1ns bronze",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp until 20+1ns"),
            ("20+1ns reporting", "yes GRANTED_BY_PLAN bronze@1 5000bp"),
        ],
    },
    Case {
        sentence: "scheduled change after a trial's end: denied between them only",
        given: "trial 20; then 20+1ns silver",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "no TRIAL_ENDED silver@2 until 20+1ns"),
            ("20+1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
        ],
    },
    Case {
        sentence: "suspension: grace before it, suspended from it",
        given: "suspend payment 20",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20 grace 20"),
            ("20 reporting", "no TENANT_SUSPENDED silver@2 by payment"),
            ("20+1ns reporting", "no TENANT_SUSPENDED silver@2 by payment"),
        ],
    },
    Case {
        sentence: "grant on a feature: there before its end, absent from it, at the service's door too",
        given: "grant billing/invoices until 20",
        asks: &[
            (
                "20-1ns billing/invoices",
                "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 20 by override billing/invoices: why, ends 20",
            ),
            ("20-1ns billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 20 by override billing/invoices: why, ends 20"),
            ("20 billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("20 billing", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("20+1ns billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("20+1ns billing", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "grant on a service: there before its end, absent from it",
        given: "grant billing until 20",
        asks: &[
            ("20-1ns billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 20 by override billing: why, ends 20"),
            ("20 billing", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("20+1ns billing", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "deny on a service: there before its end, absent from it, for features too",
        given: "deny reporting until 20",
        asks: &[
            ("20-1ns reporting", "no DENIED_BY_OVERRIDE silver@2 until 20 by override reporting: why, ends 20"),
            ("20-1ns reporting/charts", "no DENIED_BY_OVERRIDE silver@2 until 20 by override reporting: why, ends 20"),
            ("20 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("20 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("20+1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
        ],
    },
    Case {
        sentence: "deny on a feature: there before its end, absent from it",
        given: "deny reporting/charts until 20",
        asks: &[
            ("20-1ns reporting/charts", "no DENIED_BY_OVERRIDE silver@2 until 20 by override reporting/charts: why, ends 20"),
            ("20 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("20+1ns reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp"),
        ],
    },
    Case {
        sentence: "limit override: the value before its end, the plan's from it",
        given: "max users 5 until 20",
        asks: &[
            ("20-1ns reporting users=6", "no LIMIT_EXCEEDED silver@2 users 0/5 left 5 until 20"),
            ("20 reporting users=6", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/200 left 200"),
            ("20+1ns reporting users=6", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/200 left 200"),
        ],
    },
    Case {
        sentence: "edges at the first instant are over at the first instant",
        given: "starts min; then min gold; grant orders until min; max users 5 until min",
        asks: &[
            ("min reporting users=9", "yes GRANTED_BY_PLAN gold@1 8750bp users 0/unlimited"),
            ("min orders", "no SERVICE_NOT_IN_PLAN gold@1"),
        ],
    },
    Case {
        sentence: "a cancellation at the first instant was always there",
        given: "cancel min",
        asks: &[("min reporting", "no SUBSCRIPTION_ENDED silver@2"), ("max reporting", "no SUBSCRIPTION_ENDED silver@2")],
    },
    Case {
        sentence: "edges at the last instant are reached at the last instant",
        given: "starts max; suspend payment max",
        asks: &[
            ("max-1ns reporting", "no NOT_STARTED silver@2 until max grace max"),
            ("max reporting", "no TENANT_SUSPENDED silver@2 by payment"),
        ],
    },
    Case {
        sentence: "an override that ends at the last instant lasts until it",
        given: "grant orders until max",
        asks: &[
            ("max-1ns orders", "yes GRANTED_BY_OVERRIDE silver@2 5000bp until max by override orders: why, ends max"),
            ("max orders", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
];

#[test]
fn every_time_at_its_boundary() {
    assert_all(CASES);
}

/// Every field alone, with a question whose answer it changes.
const FIELDS: &[(&str, &str)] = &[
    ("starts 20", "reporting"),
    ("trial 20", "reporting"),
    ("cancel 20", "reporting"),
    ("then 20 gold", "reporting"),
    ("suspend payment 20", "reporting"),
    ("grant billing until 20", "billing"),
    ("deny reporting until 20", "reporting"),
    ("grant reporting until 20", "reporting"),
];

#[test]
fn documents_and_their_tags_change_at_the_edge_and_only_there() {
    let limits = [("max users 5 until 20", "reporting")];
    for (line, service) in FIELDS.iter().chain(&limits) {
        let (stage, tenant) = given(line);
        let row = TenantRow::compile(&stage.tables, 1, &tenant.unwrap()).unwrap();
        let at = |text: &str| document(&stage.tables, &row, time(text)).unwrap();
        let [long_before, before, there, after] = ["5", "20-1ns", "20", "20+1ns"].map(at);
        assert_eq!(long_before, before, "{line}");
        assert_eq!(long_before.tag(), before.tag(), "{line}");
        assert_eq!(before.valid_until, Some(time("20")), "{line}");
        assert_ne!(before.tag(), there.tag(), "{line}: {service}");
        assert_eq!(there, after, "{line}");
        assert_eq!(there.tag(), after.tag(), "{line}");
        assert_eq!(there.valid_until, None, "{line}");
    }
}

#[test]
fn validity_is_exact_where_one_field_alone_decides() {
    for (line, service) in FIELDS {
        let (stage, tenant) = given(line);
        let row = TenantRow::compile(&stage.tables, 1, &tenant.unwrap()).unwrap();
        let query = Query { service, feature: "", limit: None };
        let until = |now: Timestamp| evaluate(&stage.tables, Some(&row), &query, now).valid_until();
        let edge = time("20");
        assert_eq!(until(Timestamp::MIN), Some(edge), "{line}");
        assert_eq!(until(edge.saturating_sub(Duration::from_nanos(1))), Some(edge), "{line}");
        assert_eq!(until(edge), None, "{line}");
        assert_eq!(until(Timestamp::MAX), None, "{line}");
    }
}
