//! The whole document of a tenant, once.

use std::future::IntoFuture;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tessera_proto::v1;
use tonic::Code;

use crate::call::unary;
use crate::check::{at_least, fully_consistent};
use crate::client::Tessera;
use crate::document::Entitlements;
use crate::error::Error;
use crate::failure::Failure;
use crate::freshness::Revision;
use crate::metrics::Method;

/// A document that is asked for: await it. See [`Tessera::list`].
#[derive(Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct ListCall {
    client: Tessera,
    request: v1::ListEntitlementsRequest,
    deadline: Duration,
}

/// A document that is asked for if it has changed: await it. See [`ListCall::if_changed_from`].
#[derive(Debug)]
#[must_use = "nothing is asked until this is awaited"]
pub struct ListIfChangedCall(ListCall);

impl Tessera {
    /// Asks for everything a tenant may use now. An unknown tenant is [`Error::NotFound`].
    ///
    /// ```no_run
    /// # async fn example(tessera: tessera_client::Tessera) -> Result<(), Box<dyn std::error::Error>> {
    /// let document = tessera.list("acme").await?;
    /// println!("{} is on {} {}", document.tenant, document.plan.id, document.plan.version);
    /// // Later:
    /// if let Some(changed) = tessera.list("acme").if_changed_from(&document.tag).await? {
    ///     println!("it is on {} now", changed.plan.id);
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn list(&self, tenant: impl Into<String>) -> ListCall {
        let request = v1::ListEntitlementsRequest { tenant_id: tenant.into(), ..Default::default() };
        ListCall { client: self.clone(), request, deadline: self.inner().settings.deadline }
    }
}

impl ListCall {
    /// The document must be at least as new as this.
    pub fn at_least(mut self, revision: &Revision) -> Self {
        self.request.consistency = Some(at_least(revision));
        self
    }

    /// See [`crate::Check::fully_consistent`].
    pub fn fully_consistent(mut self) -> Self {
        self.request.consistency = Some(fully_consistent());
        self
    }

    /// Only if its tag differs from this one.
    pub fn if_changed_from(mut self, tag: impl Into<String>) -> ListIfChangedCall {
        self.request.if_document_tag_differs_from = tag.into();
        ListIfChangedCall(self)
    }

    /// How long this call may take in all, instead of the client's default: 1 ms to 24 h.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    async fn ask(self) -> Result<Option<Entitlements>, Error> {
        let inner = self.client.inner();
        let send = |mut client: crate::wire::Client, request| async move { client.list_entitlements(request).await }.boxed();
        let answer = unary(inner, Method::List, self.deadline, self.request, send).await?;
        match answer.document {
            Some(document) => Ok(Some(Entitlements::of_wire(document))),
            None if answer.not_modified => Ok(None),
            None => Err(Error::Server(Failure::local(Code::Internal, "no document came back"))),
        }
    }
}

impl IntoFuture for ListCall {
    type Output = Result<Entitlements, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        async move {
            let unchanged = || Error::Server(Failure::local(Code::Internal, "a document was held back that nobody has"));
            self.ask().await?.ok_or_else(unchanged)
        }
        .boxed()
    }
}

impl ListIfChangedCall {
    /// See [`ListCall::deadline`].
    pub fn deadline(self, deadline: Duration) -> Self {
        Self(self.0.deadline(deadline))
    }
}

impl IntoFuture for ListIfChangedCall {
    type Output = Result<Option<Entitlements>, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        self.0.ask().boxed()
    }
}
