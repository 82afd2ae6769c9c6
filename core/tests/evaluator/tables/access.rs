//! Services, features, overrides, archived things.

use crate::script::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        sentence: "an empty feature asks for the service itself: entitled if the plan lists it",
        given: "plan vintage@1",
        asks: &[("10 orders", "yes GRANTED_BY_PLAN vintage@1 5000bp"), ("10 billing", "no SERVICE_NOT_IN_PLAN vintage@1")],
    },
    Case {
        sentence: "an empty feature is entitled if a live grant names a feature of the service",
        given: "grant billing/refunds",
        asks: &[
            ("10 billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override billing/refunds: why"),
            ("10 billing/refunds", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override billing/refunds: why"),
            ("10 billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "of several grants the service's own is told, else the first feature by id",
        given: "grant billing/refunds; grant billing/invoices; grant orders; grant reporting/mail; grant reporting",
        asks: &[
            ("10 billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override billing/invoices: why"),
            ("10 reporting", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override reporting: why"),
        ],
    },
    Case {
        sentence: "by id means by name, not by order of registration",
        given: "grant reporting/exports; grant reporting/charts",
        asks: &[("10 reporting", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override reporting/charts: why")],
    },
    Case {
        sentence: "a deny on a service denies its features too",
        given: "deny reporting",
        asks: &[
            ("10 reporting/charts", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why"),
            ("10 reporting/mail", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why"),
            ("10 billing", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "a deny on a feature leaves its service and the other features alone",
        given: "plan gold; deny reporting/charts",
        asks: &[
            ("10 reporting/charts", "no DENIED_BY_OVERRIDE gold@1 by override reporting/charts: why"),
            ("10 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
            ("10 reporting/mail", "yes GRANTED_BY_PLAN gold@1 8750bp"),
        ],
    },
    Case {
        sentence: "of two denies the service's is told",
        given: "deny reporting; deny reporting/charts",
        asks: &[("10 reporting/charts", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why")],
    },
    Case {
        sentence: "a grant on a service does not grant its features",
        given: "grant billing",
        asks: &[
            ("10 billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override billing: why"),
            ("10 billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "a deny on the service outweighs a grant on its feature, at the door too",
        given: "deny billing; grant billing/invoices",
        asks: &[
            ("10 billing/invoices", "no DENIED_BY_OVERRIDE silver@2 by override billing: why"),
            ("10 billing", "no DENIED_BY_OVERRIDE silver@2 by override billing: why"),
        ],
    },
    Case {
        sentence: "an expired override is as if absent",
        given: "deny reporting until 10; grant billing/invoices until 10; deny reporting/charts until 10",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("10 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("10 billing", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("10 billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "an answer that rests on an override is valid until it ends",
        given: "grant billing/invoices until 20; deny reporting until 30",
        asks: &[
            (
                "10 billing/invoices",
                "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 20 by override billing/invoices: why, ends 20",
            ),
            ("10 billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 20 by override billing/invoices: why, ends 20"),
            ("10 billing/refunds", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("10 reporting/mail", "no DENIED_BY_OVERRIDE silver@2 until 30 by override reporting: why, ends 30"),
        ],
    },
    Case {
        sentence: "which grant is told is part of the answer, so its end is too",
        given: "grant billing/invoices until 20; grant billing/refunds",
        asks: &[
            ("10 billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 20 by override billing/invoices: why, ends 20"),
            ("20 billing", "yes GRANTED_BY_OVERRIDE silver@2 5000bp by override billing/refunds: why"),
        ],
    },
    Case {
        sentence: "an override that takes nothing from this question does not bound its validity",
        given: "deny billing until 20; max users 5 until 20; deny reporting/mail until 20",
        asks: &[
            ("10 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("10 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("10 reporting calls=1", "yes GRANTED_BY_PLAN silver@2 5000bp calls 0/1000 left 1000"),
        ],
    },
    Case {
        sentence: "registered things are archived, never deleted: what has them keeps them",
        given: "plan gold",
        asks: &[
            ("10 legacy", "yes GRANTED_BY_PLAN gold@1 5000bp"),
            ("10 legacy/telex faxes=3", "yes GRANTED_BY_PLAN gold@1 5000bp faxes 0/3 left 3"),
        ],
    },
    Case {
        sentence: "an archived service is registered: who lacks it is told so, not that it is unknown",
        given: "",
        asks: &[
            ("10 legacy/telex", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("10 legacy faxes=1", "no SERVICE_NOT_IN_PLAN silver@2 faxes 0/0 left 0"),
        ],
    },
    Case {
        sentence: "an archived plan keeps working for those on it, and latest stays at its last version",
        given: "plan vintage",
        asks: &[("10 orders", "yes GRANTED_BY_PLAN vintage@2 5000bp"), ("10 billing", "yes GRANTED_BY_PLAN vintage@2 5000bp")],
    },
    Case {
        sentence: "a plan is pinned to a version or follows the latest",
        given: "plan silver@1",
        asks: &[
            ("10 reporting/exports", "yes GRANTED_BY_PLAN silver@1 7500bp"),
            ("10 reporting/exports users=1", "yes GRANTED_BY_PLAN silver@1 7500bp users 0/100 left 100"),
        ],
    },
    Case {
        sentence: "an add-on is pinned or follows the latest, like a plan",
        given: "add-on export-pack@1",
        asks: &[
            ("10 billing", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("10 reporting/exports", "yes GRANTED_BY_ADD_ON silver@2 10000bp by export-pack"),
        ],
    },
    Case {
        sentence: "an add-on that follows the latest gains what the latest has",
        given: "add-on export-pack",
        asks: &[("10 billing", "yes GRANTED_BY_ADD_ON silver@2 5000bp by export-pack")],
    },
];
