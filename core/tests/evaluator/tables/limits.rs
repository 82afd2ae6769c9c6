//! Limits: where they come from, how they add, when they are exceeded. And familiarity.

use crate::script::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        sentence: "LIMIT_EXCEEDED if amount > maximum - used",
        given: "",
        asks: &[
            ("10 reporting users=50 used=150", "yes GRANTED_BY_PLAN silver@2 5000bp users 150/200 left 50"),
            ("10 reporting users=51 used=150", "no LIMIT_EXCEEDED silver@2 users 150/200 left 50"),
        ],
    },
    Case {
        sentence: "amount 0 asks: am I over?",
        given: "",
        asks: &[
            ("10 reporting users=0 used=200", "yes GRANTED_BY_PLAN silver@2 5000bp users 200/200 left 0"),
            ("10 reporting users=0 used=201", "no LIMIT_EXCEEDED silver@2 users 201/200 left 0"),
        ],
    },
    Case {
        sentence: "the comparison is exact at the extremes, without overflow",
        given: "plan huge",
        asks: &[
            (
                "10 reporting users=9223372036854775807",
                "yes GRANTED_BY_PLAN huge@1 5000bp users 0/9223372036854775807 left 9223372036854775807",
            ),
            (
                "10 reporting users=9223372036854775807 used=1",
                "no LIMIT_EXCEEDED huge@1 users 1/9223372036854775807 left 9223372036854775806",
            ),
            (
                "10 reporting users=0 used=9223372036854775807",
                "yes GRANTED_BY_PLAN huge@1 5000bp users 9223372036854775807/9223372036854775807 left 0",
            ),
            (
                "10 reporting users=9223372036854775807 used=9223372036854775807",
                "no LIMIT_EXCEEDED huge@1 users 9223372036854775807/9223372036854775807 left 0",
            ),
            ("10 reporting storage=0 used=9223372036854775807", "no LIMIT_EXCEEDED huge@1 storage 9223372036854775807/0 left 0"),
        ],
    },
    Case {
        sentence: "a registered limit that nobody gives is 0",
        given: "",
        asks: &[
            ("10 reporting storage=0", "yes GRANTED_BY_PLAN silver@2 5000bp storage 0/0 left 0"),
            ("10 reporting storage=1", "no LIMIT_EXCEEDED silver@2 storage 0/0 left 0"),
        ],
    },
    Case {
        sentence: "a limit is plan plus each add-on times its quantity",
        given: "add-on seats x2; add-on counter x3",
        asks: &[
            ("10 reporting users=400", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/400 left 400"),
            ("10 reporting users=401", "no LIMIT_EXCEEDED silver@2 users 0/400 left 400"),
            ("10 reporting calls=1015", "yes GRANTED_BY_PLAN silver@2 5000bp calls 0/1015 left 1015"),
        ],
    },
    Case {
        sentence: "an add-on gives a limit that the plan does not name",
        given: "plan bronze; add-on counter x2",
        asks: &[("10 reporting calls=10", "yes GRANTED_BY_PLAN bronze@1 5000bp calls 0/10 left 10")],
    },
    Case {
        sentence: "sums of plan and add-ons saturate",
        given: "plan huge; add-on vast; add-on seats",
        asks: &[(
            "10 reporting users=9223372036854775807",
            "yes GRANTED_BY_PLAN huge@1 5000bp users 0/9223372036854775807 left 9223372036854775807",
        )],
    },
    Case {
        sentence: "an add-on times its quantity saturates, at the first overflow and not before",
        given: "plan bronze; add-on vast x1000000",
        asks: &[
            ("10 reporting users=1", "yes GRANTED_BY_PLAN bronze@1 5000bp users 0/9223372036854775807 left 9223372036854775807"),
            (
                "10 reporting storage=1",
                "yes GRANTED_BY_PLAN bronze@1 5000bp storage 0/9223372036854775807 left 9223372036854775807",
            ),
        ],
    },
    Case {
        sentence: "a product just below the greatest amount is exact",
        given: "plan bronze; add-on vast x999999",
        asks: &[(
            "10 reporting storage=1",
            "yes GRANTED_BY_PLAN bronze@1 5000bp storage 0/9223362813482963145 left 9223362813482963145",
        )],
    },
    Case {
        sentence: "unlimited absorbs, in the plan",
        given: "plan gold; add-on seats x5",
        asks: &[(
            "10 reporting users=9223372036854775807 used=9223372036854775807",
            "yes GRANTED_BY_PLAN gold@1 8750bp users 9223372036854775807/unlimited",
        )],
    },
    Case {
        sentence: "unlimited absorbs, in an add-on",
        given: "add-on boundless; add-on seats",
        asks: &[("10 reporting users=300 used=7", "yes GRANTED_BY_PLAN silver@2 5000bp users 7/unlimited")],
    },
    Case {
        sentence: "a limit override is the whole value, even below the plan and its add-ons",
        given: "max users 5; add-on seats x2",
        asks: &[
            ("10 reporting users=5", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/5 left 5"),
            ("10 reporting users=6", "no LIMIT_EXCEEDED silver@2 users 0/5 left 5"),
        ],
    },
    Case {
        sentence: "a limit override is the whole value, even under unlimited",
        given: "plan gold; max users 0; add-on boundless",
        asks: &[("10 reporting users=1", "no LIMIT_EXCEEDED gold@1 users 0/0 left 0")],
    },
    Case {
        sentence: "a limit override may be unlimited, and of a limit that nobody gives",
        given: "max storage unlimited; max users 5 until 10",
        asks: &[
            ("10 reporting storage=1", "yes GRANTED_BY_PLAN silver@2 5000bp storage 0/unlimited"),
            ("10 reporting users=200", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/200 left 200"),
        ],
    },
    Case {
        sentence: "a limit override bounds the validity of answers that tell the limit",
        given: "max users 5 until 20",
        asks: &[
            ("10 reporting users=1", "yes GRANTED_BY_PLAN silver@2 5000bp users 0/5 left 5 until 20"),
            ("10 reporting users=9", "no LIMIT_EXCEEDED silver@2 users 0/5 left 5 until 20"),
            ("10 billing users=1", "no SERVICE_NOT_IN_PLAN silver@2 users 0/5 left 5 until 20"),
            ("10 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
        ],
    },
    Case {
        sentence: "the limit is told whenever it is registered and step 5 is reached",
        given: "cancel 5; deny billing",
        asks: &[
            ("4 billing users=1", "no DENIED_BY_OVERRIDE silver@2 users 0/200 left 200 until 5 by override billing: why"),
            ("10 reporting users=1 explain", "no SUBSCRIPTION_ENDED silver@2 users 0/200 left 200 ----M......"),
            ("10 reporting nothing=1", "no SUBSCRIPTION_ENDED silver@2"),
        ],
    },
    Case {
        sentence: "LIMIT_UNKNOWN only refuses what would be entitled",
        given: "",
        asks: &[
            ("10 reporting nothing=0", "no LIMIT_UNKNOWN silver@2"),
            ("10 reporting USERS=0", "no LIMIT_UNKNOWN silver@2"),
            ("10 billing nothing=0", "no SERVICE_NOT_IN_PLAN silver@2"),
        ],
    },
    Case {
        sentence: "a limit that is exceeded takes familiarity and the facts behind the grant with it",
        given: "grant billing/invoices; show billing 10000",
        asks: &[
            (
                "10 billing/invoices users=200",
                "yes GRANTED_BY_OVERRIDE silver@2 10000bp users 0/200 left 200 by override billing/invoices: why",
            ),
            ("10 billing/invoices users=201 explain", "no LIMIT_EXCEEDED silver@2 users 0/200 left 200 ------M...M"),
        ],
    },
    Case {
        sentence: "an archived limit is still registered",
        given: "",
        asks: &[("10 reporting faxes=0", "yes GRANTED_BY_PLAN silver@2 5000bp faxes 0/0 left 0")],
    },
    Case {
        sentence: "familiarity is the tenant's own value for the service if set, even below plan and add-ons",
        given: "plan gold; add-on export-pack; show reporting 5000",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_ADD_ON gold@1 5000bp by export-pack"),
            ("10 billing", "yes GRANTED_BY_ADD_ON gold@1 5000bp by export-pack"),
        ],
    },
    Case {
        sentence: "familiarity is else the highest of plan and add-ons, whichever of them grants",
        given: "plan gold; add-on export-pack",
        asks: &[("10 reporting/mail", "yes GRANTED_BY_PLAN gold@1 10000bp")],
    },
    Case {
        sentence: "familiarity of an add-on below the plan's does not lower it",
        given: "plan gold; add-on counter",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
            ("10 orders", "yes GRANTED_BY_ADD_ON gold@1 7500bp by counter"),
        ],
    },
    Case {
        sentence: "familiarity is else 5000 basis points",
        given: "plan bronze; grant orders",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_PLAN bronze@1 5000bp"),
            ("10 orders", "yes GRANTED_BY_OVERRIDE bronze@1 5000bp by override orders: why"),
        ],
    },
    Case {
        sentence: "familiarity is 0 when not entitled",
        given: "show billing 10000; deny reporting; show reporting 10000",
        asks: &[
            ("10 billing", "no SERVICE_NOT_IN_PLAN silver@2"),
            ("10 reporting", "no DENIED_BY_OVERRIDE silver@2 by override reporting: why"),
        ],
    },
];
