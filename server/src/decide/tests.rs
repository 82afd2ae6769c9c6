//! Names that are looked at only when nothing is found by them.

use std::sync::Arc;

use proptest::prelude::*;
use tessera_proto::convert::decision::AskedLimit;

use super::*;
use crate::matrix::early::Early;
use crate::matrix::writer::Writer;
use crate::metric_definitions::{Metrics, Source};
use crate::universe::{Universe, latest};

/// A matrix with a tenant `acme`, one that is parked and one whose stream holds no tenant.
fn matrix() -> Arc<Matrix> {
    let (mut universe, mut changes) = Universe::usual();
    changes.push(universe.create("acme", latest("gold")));
    changes.push(universe.settle_nothing("ghost"));
    // Its plan never arrives.
    universe.publish("gold", &[("reports", &["view", "export"])], &[]);
    changes.push(universe.create("waiting", latest("gold")));
    let mut writer = Writer::new(Arc::new(Matrix::new(1, "test", 0, Arc::default())), Metrics::new());
    for change in &changes {
        writer.apply(change, Early::only_checksum(change), Source::Feed);
    }
    writer.finish();
    assert_eq!(writer.parked(), 1);
    Arc::clone(writer.matrix())
}

fn name(known: &'static [&'static str]) -> impl Strategy<Value = String> {
    let known = prop::sample::select(known).prop_map(str::to_owned);
    prop_oneof![4 => known, 1 => "[a-z]{1,4}", 2 => "[a-zA-Z_/ é-]{0,3}", 1 => "x{60,66}"]
}

/// Decides with names that were looked at before, or not.
fn decided(held: &mut Held, asked: &Asked<'_>, early: bool) -> Result<Reason, Failure> {
    let query = if early { convert::query(asked)? } else { convert::query_by_names(asked)? };
    let (wants, unchecked) = (Wants::default(), if early { None } else { Some(asked) });
    let check = Check { tenant: asked.tenant_id, query, wants, unchecked, hidden: false, log: None };
    let moment = Moment { now: crate::universe::start(), staleness_ms: None, as_of: AsOf::new(None, crate::universe::start()) };
    held.decide(&held.find(asked.tenant_id), &check, &moment, &mut Vec::new(), |_| ()).map(|(reason, ())| reason)
}

proptest! {
    #[test]
    fn names_are_refused_late_exactly_as_they_are_early(
        tenant_id in name(&["acme", "waiting", "ghost"]),
        service in name(&["reports"]),
        feature in name(&["view", "", "export"]),
        limit in prop::option::of((name(&["seats"]), -1_i64..3)),
    ) {
        let mut held = Held::new(matrix());
        let limit = limit.as_ref().map(|(name, amount)| AskedLimit { name, amount: *amount, used: None });
        let asked = Asked { tenant_id: &tenant_id, service: &service, feature: &feature, limit };
        prop_assert_eq!(decided(&mut held, &asked, false), decided(&mut held, &asked, true));
    }
}
