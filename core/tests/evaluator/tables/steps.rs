//! The steps, each when it matches, and each before the ones that come after it.

use crate::script::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        sentence: "no such tenant: denied TENANT_UNKNOWN, whatever is asked",
        given: "nobody",
        asks: &[
            ("10 reporting explain", "no TENANT_UNKNOWN M.........."),
            ("10 nothing/at-all users=1", "no TENANT_UNKNOWN"),
            ("10 reporting/charts users=9223372036854775807 used=9223372036854775807", "no TENANT_UNKNOWN"),
            ("min reporting", "no TENANT_UNKNOWN"),
            ("max reporting", "no TENANT_UNKNOWN"),
        ],
    },
    Case {
        sentence: "a service that is not registered: denied SERVICE_UNKNOWN",
        given: "",
        asks: &[
            ("10 nothing explain", "no SERVICE_UNKNOWN silver@2 -M........."),
            ("10 nothing/charts", "no SERVICE_UNKNOWN silver@2"),
            ("10 Reporting", "no SERVICE_UNKNOWN silver@2"),
            ("10 charts", "no SERVICE_UNKNOWN silver@2"),
            ("10 nothing users=1", "no SERVICE_UNKNOWN silver@2"),
        ],
    },
    Case {
        sentence: "a feature that is not registered of this service: denied FEATURE_UNKNOWN",
        given: "",
        asks: &[
            ("10 reporting/nothing explain", "no FEATURE_UNKNOWN silver@2 -M........."),
            ("10 reporting/invoices", "no FEATURE_UNKNOWN silver@2"),
            ("10 reporting/reporting", "no FEATURE_UNKNOWN silver@2"),
            ("10 orders/orders", "no FEATURE_UNKNOWN silver@2"),
            ("10 reporting/CHARTS", "no FEATURE_UNKNOWN silver@2"),
        ],
    },
    Case {
        sentence: "a kill switch on the service denies DISABLED, its features too",
        given: "switch reporting; plan gold; grant reporting/charts",
        asks: &[
            ("10 reporting explain", "no DISABLED gold@1 by switch reporting: incident --M........"),
            ("10 reporting/charts", "no DISABLED gold@1 by switch reporting: incident"),
            ("10 reporting/charts users=1", "no DISABLED gold@1 by switch reporting: incident"),
            ("10 billing", "yes GRANTED_BY_PLAN gold@1 5000bp"),
        ],
    },
    Case {
        sentence: "a kill switch on a feature denies that feature alone",
        given: "switch reporting/charts; plan gold",
        asks: &[
            ("10 reporting/charts", "no DISABLED gold@1 by switch reporting/charts: incident"),
            ("10 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
            ("10 reporting/exports", "yes GRANTED_BY_PLAN gold@1 8750bp"),
        ],
    },
    Case {
        sentence: "of two kill switches the service's is told",
        given: "switch reporting; switch reporting/charts",
        asks: &[("10 reporting/charts", "no DISABLED silver@2 by switch reporting: incident")],
    },
    Case {
        sentence: "what is not registered is unknown before any kill switch",
        given: "switch reporting",
        asks: &[("10 reporting/nothing", "no FEATURE_UNKNOWN silver@2")],
    },
    Case {
        sentence: "a kill switch comes before the tenant's status",
        given: "switch reporting; suspend payment 5; pending",
        asks: &[("10 reporting", "no DISABLED silver@2 by switch reporting: incident")],
    },
    Case {
        sentence: "a deleted tenant is denied TENANT_DELETED, keeps its plan and nothing else",
        given: "deleted; pending; suspend payment 20; starts 30; trial 40; cancel 50; then 60 gold; grant reporting; max users 7",
        asks: &[
            ("10 reporting explain", "no TENANT_DELETED silver@2 ---M......."),
            ("10 reporting/charts users=1", "no TENANT_DELETED silver@2"),
            ("70 reporting", "no TENANT_DELETED silver@2"),
        ],
    },
    Case {
        sentence: "status is told in the order deleted, pending, suspended",
        given: "pending; suspend payment 5; starts 20; deny reporting",
        asks: &[
            ("10 reporting explain", "no TENANT_PENDING silver@2 ---M......."),
            ("10 reporting users=1", "no TENANT_PENDING silver@2"),
        ],
    },
    Case {
        sentence: "a suspension in effect denies TENANT_SUSPENDED before the subscription is looked at",
        given: "suspend payment 5; starts 20",
        asks: &[
            ("10 reporting explain", "no TENANT_SUSPENDED silver@2 by payment ---M......."),
            ("30 reporting users=1", "no TENANT_SUSPENDED silver@2 by payment"),
        ],
    },
    Case {
        sentence: "a subscription that is not running is told in the order NOT_STARTED, SUBSCRIPTION_ENDED, TRIAL_ENDED",
        given: "starts 20; cancel 15; trial 10",
        asks: &[
            ("12 reporting explain", "no NOT_STARTED silver@2 until 20 ----M......"),
            ("16 reporting", "no NOT_STARTED silver@2 until 20"),
            ("20 reporting explain", "no SUBSCRIPTION_ENDED silver@2 ----M......"),
        ],
    },
    Case {
        sentence: "a trial that was not converted is denied TRIAL_ENDED from its end",
        given: "trial 20",
        asks: &[
            ("19 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting/charts", "no TRIAL_ENDED silver@2"),
        ],
    },
    Case {
        sentence: "the subscription comes before overrides",
        given: "cancel 5; grant reporting/exports; deny billing",
        asks: &[("10 reporting/exports", "no SUBSCRIPTION_ENDED silver@2"), ("10 billing", "no SUBSCRIPTION_ENDED silver@2")],
    },
    Case {
        sentence: "a deny comes before a grant",
        given: "deny reporting; grant reporting/charts; add-on export-pack",
        asks: &[
            ("10 reporting/charts explain", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why -----M....."),
            ("10 reporting explain", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why -----M....."),
            ("10 reporting/exports", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why"),
        ],
    },
    Case {
        sentence: "a grant comes before add-ons and plan",
        given: "plan gold; grant reporting/exports; add-on export-pack",
        asks: &[(
            "10 reporting/exports explain",
            "yes GRANTED_BY_OVERRIDE gold@1 10000bp by override reporting/exports: why ------M....",
        )],
    },
    Case {
        sentence: "an add-on comes before the plan",
        given: "plan gold; add-on export-pack",
        asks: &[
            ("10 reporting/exports explain", "yes GRANTED_BY_ADD_ON gold@1 10000bp by export-pack -------M..."),
            ("10 reporting/mail explain", "yes GRANTED_BY_PLAN gold@1 10000bp --------M.."),
        ],
    },
    Case {
        sentence: "of several add-ons that have it the first by id is told",
        given: "add-on export-pack@1; add-on counter; add-on boundless",
        asks: &[
            ("10 reporting/exports", "yes GRANTED_BY_ADD_ON silver@2 10000bp by export-pack"),
            ("10 orders", "yes GRANTED_BY_ADD_ON silver@2 7500bp by counter"),
        ],
    },
    Case {
        sentence: "otherwise denied: SERVICE_NOT_IN_PLAN",
        given: "",
        asks: &[
            ("10 billing explain", "no SERVICE_NOT_IN_PLAN silver@2 ---------M."),
            ("10 billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "FEATURE_NOT_IN_PLAN when the plan has the service",
        given: "",
        asks: &[("10 reporting/mail explain", "no FEATURE_NOT_IN_PLAN silver@2 ---------M.")],
    },
    Case {
        sentence: "FEATURE_NOT_IN_PLAN when an add-on has the service",
        given: "add-on export-pack",
        asks: &[("10 billing/invoices", "no FEATURE_NOT_IN_PLAN silver@2")],
    },
    Case {
        sentence: "an entitled answer whose check names a limit goes on to the limit",
        given: "",
        asks: &[
            ("10 reporting users=200 explain", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/200 left 200 --------M.-"),
            ("10 reporting users=201 explain", "no LIMIT_EXCEEDED silver@2 users 0/200 left 200 --------M.M"),
            ("10 reporting nothing=0 explain", "no LIMIT_UNKNOWN silver@2 --------M.M"),
            ("10 billing users=1 explain", "no SERVICE_NOT_IN_PLAN silver@2 users 0/200 left 200 ---------M."),
        ],
    },
];
