//! What mutation requests have in common: a method, a request id, an etag, a digest.

use bytes::Bytes;
use prost::Message;
use tessera_core::ids::RequestId;
use tessera_core::revision;
use tessera_core::stream::{Epoch, Seq, StreamId};
use tessera_proto::status::Failure;
use tessera_proto::v1;
use tonic::{Response, Status};

use super::gate::{Gate, named, principal, sees};
use crate::aggregate::Handled;
use crate::digest;
use crate::handler::{Caller, Done, Handler, Request};

/// A request that asks for a command.
pub(crate) trait Mutation: Message + Default {
    /// Names the method in the digest; stored for ever.
    const METHOD: &'static str;

    /// Takes the request id out, so that what remains is the command's body.
    fn take_request_id(&mut self) -> String;

    /// The etag that must still hold; empty does not ask.
    fn etag(&self) -> &str;
}

macro_rules! mutations {
    ($($name:ident => $method:literal),+ $(,)?; without etag: $($bare:ident => $bare_method:literal),+ $(,)?) => {
        $(impl Mutation for v1::$name {
            const METHOD: &'static str = $method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            fn etag(&self) -> &str {
                &self.etag
            }
        })+
        $(impl Mutation for v1::$bare {
            const METHOD: &'static str = $bare_method;

            fn take_request_id(&mut self) -> String {
                std::mem::take(&mut self.request_id)
            }

            fn etag(&self) -> &str {
                ""
            }
        })+
    };
}

mutations! {
    UpdatePlanRequest => "UpdatePlan",
    PublishPlanRequest => "PublishPlan",
    ArchivePlanRequest => "ArchivePlan",
    DeletePlanRequest => "DeletePlan",
    UpdateAddOnRequest => "UpdateAddOn",
    PublishAddOnRequest => "PublishAddOn",
    ArchiveAddOnRequest => "ArchiveAddOn",
    DeleteAddOnRequest => "DeleteAddOn",
    UpsertServiceRequest => "UpsertService",
    ArchiveServiceRequest => "ArchiveService",
    ArchiveFeatureRequest => "ArchiveFeature",
    DisableFeatureRequest => "DisableFeature",
    EnableFeatureRequest => "EnableFeature",
    UpsertLimitRequest => "UpsertLimit",
    ArchiveLimitRequest => "ArchiveLimit",
    StateTenantRequest => "StateTenant",
    UpdateTenantRequest => "UpdateTenant",
    ChangePlanRequest => "ChangePlan",
    CancelSubscriptionRequest => "CancelSubscription",
    RenewSubscriptionRequest => "RenewSubscription",
    CancelScheduledChangeRequest => "CancelScheduledChange",
    ActivateTenantRequest => "ActivateTenant",
    AttachAddOnRequest => "AttachAddOn",
    DetachAddOnRequest => "DetachAddOn",
    SetOverrideRequest => "SetOverride",
    RemoveOverrideRequest => "RemoveOverride",
    SuspendTenantRequest => "SuspendTenant",
    ResumeTenantRequest => "ResumeTenant",
    StartTrialRequest => "StartTrial",
    EndTrialRequest => "EndTrial",
    DeleteTenantRequest => "DeleteTenant",
    SetFamiliarityRequest => "SetFamiliarity",
    ;
    without etag:
    CreatePlanRequest => "CreatePlan",
    CreateAddOnRequest => "CreateAddOn",
    CreateTenantRequest => "CreateTenant",
}

/// A stream, and what is asked of it.
pub(crate) type Asked<A> = (StreamId, <A as tessera_core::aggregate::Aggregate>::Command);

/// What came of a mutation, and of which stream.
pub(crate) type Outcome<A> = Result<(StreamId, Done<A>), Failure>;

/// One mutation: the request becomes a command, the command is handled, its result becomes the answer. Answer and error carry
/// the request id.
pub(crate) async fn mutate<A: Handled, M: Mutation, R>(
    gate: &Gate,
    handler: &Handler<A>,
    request: tonic::Request<M>,
    command: impl FnOnce(M, &RequestId) -> Result<Asked<A>, Failure>,
    answer: impl FnOnce(&StreamId, &Done<A>) -> R,
) -> Result<Response<R>, Status> {
    let (request_id, result) = handle(gate, handler, request, command).await?;
    named(&request_id, result.map(|(stream, done)| answer(&stream, &done)))
}

/// As [`mutate`], for those who make the answer themselves.
pub(crate) async fn handle<A: Handled, M: Mutation>(
    gate: &Gate,
    handler: &Handler<A>,
    request: tonic::Request<M>,
    command: impl FnOnce(M, &RequestId) -> Result<Asked<A>, Failure>,
) -> Result<(RequestId, Outcome<A>), Status> {
    let (metadata, extensions, mut message) = request.into_parts();
    let request_id = gate.request_id(&message.take_request_id())?;
    let principal = principal(&extensions)?;
    let admitted = gate.admit(&metadata, principal.actor().clone(), request_id.clone());
    let asked = admitted.and_then(|caller| as_request::<A, M>(caller, message, command));
    let asked =
        asked.and_then(|request| if sees(&principal, &request.stream) { Ok(request) } else { Err(not_there(&request.stream)) });
    let result = match asked {
        Ok(request) => {
            let stream = request.stream.clone();
            handler.handle(request).await.map(|done| (stream, done)).map_err(Failure::from)
        }
        Err(failure) => Err(failure),
    };
    Ok((request_id, result))
}

/// Only tenants are not there for some and there for others.
fn not_there(stream: &StreamId) -> Failure {
    super::tenant_svc::not_found(stream.key())
}

/// The revision of a command's result.
pub(crate) fn revision_of<A>(stream: &StreamId, done: &Done<A>) -> Bytes {
    revision_at(done.epoch, stream, done.seq)
}

/// The revision of a stream at a seq; empty before its first event.
pub(crate) fn revision_at(epoch: Epoch, stream: &StreamId, seq: Seq) -> Bytes {
    if seq == 0 { Bytes::new() } else { revision::of_write(epoch, stream, seq).into() }
}

fn as_request<A: Handled, M: Mutation>(
    caller: Caller,
    message: M,
    command: impl FnOnce(M, &RequestId) -> Result<Asked<A>, Failure>,
) -> Result<Request<A::Command>, Failure> {
    let body = message.encode_to_vec();
    let etag = Some(message.etag().to_owned()).filter(|etag| !etag.is_empty());
    let (stream, command) = command(message, &caller.request_id)?;
    let digest = digest::of_command(M::METHOD, &body);
    Ok(Request { caller, stream, command, digest, etag, len: body.len(), rejection_stands: true })
}
