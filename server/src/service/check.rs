//! `CheckEntitlement`: one decision.

use tessera_ports::hooks::{self, Guard};
use tessera_proto::convert::decision as convert;
use tessera_proto::status::Failure;
use tessera_runtime::telemetry::traces;

use super::Entitlements;
use crate::consistency::{Caller, Demand};
use crate::decide::{Check, Held, Moment, Wants, decide};
use crate::matrix::Matrix;
use crate::metric_definitions::Mode;
use crate::wire::codec::Encoded;
use crate::wire::{decode, encode};

/// First size of an answer, in bytes: most fit.
const ANSWER_BYTES: usize = 160;

impl Entitlements {
    pub(super) async fn check(&self, message: Encoded, caller: Caller) -> Result<Encoded, Failure> {
        let counters = &self.0.shared.metrics.unary;
        let began = counters.request();
        let answer = self.checked(&message, caller).await;
        counters.answered(began);
        answer.inspect_err(|failure| counters.error(failure.reason()))
    }

    async fn checked(&self, message: &Encoded, caller: Caller) -> Result<Encoded, Failure> {
        let parts = &*self.0;
        let message = decode::Check::read(message)?;
        let query = convert::query(&message.asked)?;
        let tenant = message.asked.tenant_id;
        parts.limits.charge_caller(&caller, 1)?;
        parts.limits.charge_tenant(&caller, tenant, 1)?;
        let wants = Wants { revision: true, detail: true, explanation: message.explain };
        let log = parts.shared.decision_log.of(Mode::Unary, false);
        let check = Check { tenant, query, wants, unchecked: None, hidden: !caller.sees(tenant), log };
        traces::note_tenant(tenant);
        let demand = Demand::of(message.consistency.as_deref(), tenant)?;
        if demand.is_none() {
            // The moment before the matrix: nothing is told of a newer one than answers.
            let moment = Moment::of(&parts.shared);
            return self.answer(&parts.shared.matrix(), &moment, &check);
        }
        // Without the guard: tables from before the wait.
        let early = (!hooks::holds(Guard::RowBeforeCatalog)).then(|| Held::new(std::sync::Arc::clone(&parts.shared.matrix())));
        let matrix = parts.consistency.meet(tenant, &demand, &caller, parts.consistency.wait_until(&caller)).await?;
        let moment = Moment::of(&parts.shared).told_of(&matrix, &parts.shared);
        match early {
            None => self.answer(&matrix, &moment, &check),
            Some(mut held) => self.answer_with(|scratch, out| {
                held.decide(&held.find(check.tenant), &check, &moment, scratch, |answer| encode::answer(out, answer))
                    .map(|(reason, ())| reason)
            }),
        }
    }

    fn answer(&self, matrix: &Matrix, moment: &Moment, check: &Check<'_>) -> Result<Encoded, Failure> {
        self.answer_with(|scratch, out| {
            decide(matrix, check, moment, scratch, |answer| encode::answer(out, answer)).map(|(reason, ())| reason)
        })
    }

    fn answer_with(
        &self,
        decide: impl FnOnce(&mut Vec<u8>, &mut Vec<u8>) -> Result<tessera_core::decision::Reason, Failure>,
    ) -> Result<Encoded, Failure> {
        let mut out = Vec::with_capacity(ANSWER_BYTES);
        let mut revision = Vec::with_capacity(64);
        let reason = decide(&mut revision, &mut out)?;
        self.0.shared.metrics.unary.one(reason);
        Ok(out.into())
    }
}
