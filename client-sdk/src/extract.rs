//! An axum extractor: a handler that takes [`Entitled`] runs for entitled tenants only.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use tessera_client::extract::{Entitled, Feature};
//! use tessera_client::layer::Access;
//!
//! struct Exports;
//!
//! impl Feature for Exports {
//!     const SERVICE: &'static str = "reporting";
//!     const FEATURE: &'static str = "exports";
//! }
//!
//! async fn export(entitled: Entitled<Exports>) -> String {
//!     format!("exported at {}", entitled.familiarity())
//! }
//!
//! # fn example(tessera: tessera_client::Tessera) {
//! // Something before it has verified who calls and left a `tessera_client::layer::Tenant` with the request.
//! let routes: Router = Router::new().route("/export", get(export)).with_state(Access::new(tessera));
//! # }
//! ```
//!
//! What is refused is answered as by the layer: see [`crate::layer`].

use std::marker::PhantomData;
use std::ops::Deref;

use axum::extract::{FromRef, FromRequestParts};
use axum::response::IntoResponse;
use http::request::Parts;

use crate::layer::{Access, Question, Refusal, Why, admitted};
use crate::local::Answer;

/// A feature that handlers require.
pub trait Feature {
    /// Of which service.
    const SERVICE: &'static str;
    /// Which feature; empty is the service itself.
    const FEATURE: &'static str;
}

/// The tenant of the request is entitled to `F`; derefs to the answer. The router's state must give an [`Access`].
#[derive(Debug, Clone)]
pub struct Entitled<F> {
    answer: Answer,
    feature: PhantomData<fn() -> F>,
}

impl<F> Entitled<F> {
    /// The answer.
    pub fn into_answer(self) -> Answer {
        self.answer
    }
}

impl<F> Deref for Entitled<F> {
    type Target = Answer;

    fn deref(&self) -> &Answer {
        &self.answer
    }
}

impl<F: Feature, S: Send + Sync> FromRequestParts<S> for Entitled<F>
where
    Access: FromRef<S>,
{
    type Rejection = Refusal;

    async fn from_request_parts(request: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let access = Access::from_ref(state);
        let refused = |why| Refusal::new(why, F::SERVICE, F::FEATURE);
        let Some(tenant) = access.tenant(request) else { return Err(refused(Why::NoTenant)) };
        let question = Question { tenant, service: F::SERVICE, feature: F::FEATURE, limit: None };
        let answer = match access.gate().at_hand(&question) {
            Some(answer) => Ok(answer),
            None => access.gate().ask(&question).await,
        };
        let answer = admitted(answer).map_err(refused)?;
        Ok(Self { answer, feature: PhantomData })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> axum::response::Response {
        Refusal::into_response(self)
    }
}
