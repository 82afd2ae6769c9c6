//! What is in force when: scheduled changes, trials, cancellation, suspensions and grace.

use crate::script::Case;

pub(super) const CASES: &[Case] = &[
    Case {
        sentence: "due scheduled changes are applied before anything is looked at",
        given: "then 20 gold; then 30 vintage@1",
        asks: &[
            ("19 billing", "no SERVICE_NOT_IN_PLAN silver@2 until 20"),
            ("20 billing", "yes GRANTED_BY_PLAN gold@1 5000bp until 30"),
            ("30 billing", "no SERVICE_NOT_IN_PLAN vintage@1"),
            ("max orders", "yes GRANTED_BY_PLAN vintage@1 5000bp"),
        ],
    },
    Case {
        sentence: "changes of one instant apply in their order: the last one stays",
        given: "then 20 gold; then 20 bronze; then 20 vintage@1",
        asks: &[("20 orders", "yes GRANTED_BY_PLAN vintage@1 5000bp"), ("19 orders", "no SERVICE_NOT_IN_PLAN silver@2 until 20")],
    },
    Case {
        sentence: "changes apply in order of time, however they were stated",
        given: "then 30 bronze; then 20 gold",
        asks: &[
            ("25 reporting/mail", "yes GRANTED_BY_PLAN gold@1 8750bp until 30"),
            ("30 reporting/mail", "no FEATURE_NOT_IN_PLAN bronze@1"),
        ],
    },
    Case {
        sentence: "a scheduled change may move a pinned plan to the latest version, and back",
        given: "plan silver@1; then 20 silver; then 30 silver@1",
        asks: &[
            ("10 reporting/exports", "yes GRANTED_BY_PLAN silver@1 7500bp until 20"),
            ("20 reporting/exports", "no FEATURE_NOT_IN_PLAN silver@2 until 30"),
            ("30 reporting/exports", "yes GRANTED_BY_PLAN silver@1 7500bp"),
        ],
    },
    Case {
        sentence: "plan and version are part of the answer even where nothing else changes",
        given: "then 20 bronze",
        asks: &[
            ("10 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting/charts", "yes GRANTED_BY_PLAN bronze@1 5000bp"),
            ("10 nothing", "no SERVICE_UNKNOWN silver@2 until 20"),
            ("20 nothing", "no SERVICE_UNKNOWN bronze@1"),
        ],
    },
    Case {
        sentence: "a plan change before the trial's end clears it",
        given: "trial 30; then 20 gold",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
            ("30 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
        ],
    },
    Case {
        sentence: "a plan change after the trial's end clears it whenever it takes effect",
        given: "trial 20; then 30 gold",
        asks: &[
            ("19 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "no TRIAL_ENDED silver@2 until 30"),
            ("30 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp"),
        ],
    },
    Case {
        sentence: "a plan change at the trial's end leaves no gap",
        given: "trial 20; then 20 silver",
        asks: &[
            ("20-1ns reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
            ("20 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp"),
        ],
    },
    Case {
        sentence: "a plan change never revives a cancelled subscription: the plan moves, the reason stays",
        given: "cancel 20; then 30 gold",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20"),
            ("20 reporting", "no SUBSCRIPTION_ENDED silver@2 until 30"),
            ("30 reporting", "no SUBSCRIPTION_ENDED gold@1"),
        ],
    },
    Case {
        sentence: "a cancellation survives a plan change before it",
        given: "cancel 30; then 20 gold",
        asks: &[("20 reporting", "yes GRANTED_BY_PLAN gold@1 8750bp until 30"), ("30 reporting", "no SUBSCRIPTION_ENDED gold@1")],
    },
    Case {
        sentence: "a cancellation may precede the start",
        given: "starts 30; cancel 20",
        asks: &[
            ("10 reporting", "no NOT_STARTED silver@2 until 30"),
            ("25 reporting", "no NOT_STARTED silver@2 until 30"),
            ("30 reporting", "no SUBSCRIPTION_ENDED silver@2"),
        ],
    },
    Case {
        sentence: "a trial may end before the start",
        given: "starts 30; trial 20",
        asks: &[("20 reporting", "no NOT_STARTED silver@2 until 30"), ("30 reporting", "no TRIAL_ENDED silver@2")],
    },
    Case {
        sentence: "until a suspension takes effect the tenant is in grace: decided as if active, every answer says until when",
        given: "suspend payment 20",
        asks: &[
            ("10 reporting/charts", "yes GRANTED_BY_PLAN silver@2 5000bp until 20 grace 20"),
            ("10 billing", "no SERVICE_NOT_IN_PLAN silver@2 until 20 grace 20"),
            ("10 nothing", "no SERVICE_UNKNOWN silver@2 until 20 grace 20"),
            ("20 reporting/charts", "no TENANT_SUSPENDED silver@2 by payment"),
        ],
    },
    Case {
        sentence: "grace_until is the earliest of several",
        given: "suspend payment 30; suspend abuse 20",
        asks: &[
            ("10 reporting", "yes GRANTED_BY_PLAN silver@2 5000bp until 20 grace 20"),
            ("20 reporting", "no TENANT_SUSPENDED silver@2 until 30 grace 30 by abuse"),
            ("30 reporting", "no TENANT_SUSPENDED silver@2 by abuse+payment"),
        ],
    },
    Case {
        sentence: "active means that no suspension is in effect: one of several is enough",
        given: "suspend payment 5; suspend abuse 30",
        asks: &[("10 reporting", "no TENANT_SUSPENDED silver@2 until 30 grace 30 by payment")],
    },
    Case {
        sentence: "a pending tenant in grace says so",
        given: "pending; suspend payment 20",
        asks: &[("10 reporting", "no TENANT_PENDING silver@2 until 20 grace 20"), ("20 reporting", "no TENANT_PENDING silver@2")],
    },
    Case {
        sentence: "valid_until is unset when time never changes the answer",
        given: "starts 5; suspend payment 30; deleted",
        asks: &[("10 reporting", "no TENANT_DELETED silver@2"), ("min reporting", "no TENANT_DELETED silver@2")],
    },
    Case {
        sentence: "of several edges the first in the future bounds the validity",
        given: "starts 5; trial 40; cancel 50; then 45 gold; grant billing/invoices until 35; suspend payment 60",
        asks: &[
            (
                "10 billing/invoices",
                "yes GRANTED_BY_OVERRIDE silver@2 5000bp until 35 grace 60 by override billing/invoices: why, ends 35",
            ),
            ("35 billing/invoices", "no SERVICE_NOT_IN_PLAN silver@2 until 40 grace 60"),
            ("40 billing/invoices", "no TRIAL_ENDED silver@2 until 45 grace 60"),
            ("45 billing/invoices", "yes GRANTED_BY_PLAN gold@1 5000bp until 50 grace 60"),
            ("50 billing/invoices", "no SUBSCRIPTION_ENDED gold@1 until 60 grace 60"),
            ("60 billing/invoices", "no TENANT_SUSPENDED gold@1 by payment"),
        ],
    },
];
