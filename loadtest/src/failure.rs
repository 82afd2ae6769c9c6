//! What goes wrong on the way or on the other side, by name: gRPC's code and Tessera's reason, or what the generator saw.

use http::HeaderMap;
use tessera_proto::status::{DOMAIN, code_name};
use tonic::{Code, Status};
use tonic_types::{StatusExt as _, pb};

use crate::account::Cause;

/// A failure with its name and what was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Counted under this name.
    pub cause: Cause,
    /// What was said.
    pub said: String,
    /// Whether a server said it: somebody is there.
    pub by_server: bool,
}

impl Failed {
    /// What the generator saw itself.
    pub fn client(reason: &str, said: impl Into<String>) -> Self {
        let cause = Cause { code: "CLIENT".to_owned(), reason: reason.to_owned() };
        Self { cause, said: said.into(), by_server: false }
    }

    /// No answer before the deadline, which counts from when the message was due.
    pub fn too_late() -> Self {
        Self::client("NO_ANSWER_IN_TIME", "no answer before the deadline, counted from when the message was due")
    }

    /// The connection or the stream broke.
    pub fn lost(error: &h2::Error) -> Self {
        Self::client("CONNECTION_LOST", error.to_string())
    }

    /// An answer that is not one.
    pub fn malformed(said: impl Into<String>) -> Self {
        Self::client("MALFORMED_ANSWER", said)
    }

    /// A status other than OK.
    pub fn status(status: &Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == DOMAIN);
        let cause = Cause { code: code_name(status.code()).to_owned(), reason: info.map(|info| info.reason).unwrap_or_default() };
        Self { cause, said: status.message().to_owned(), by_server: true }
    }

    /// Whether a server said that it does not do this now, which is to say: try again later.
    pub fn is_refusal(&self) -> bool {
        self.by_server && self.cause.code == code_name(Code::ResourceExhausted)
    }

    /// A status within a message.
    pub fn rpc_status(bytes: &[u8]) -> Self {
        let Ok(status) = <pb::Status as prost::Message>::decode(bytes) else {
            return Self::malformed("an item's error is no google.rpc.Status");
        };
        let details = prost::Message::encode_to_vec(&status);
        Self::status(&Status::with_details(Code::from_i32(status.code), status.message, details.into()))
    }

    /// What headers or trailers say of a call's end; `None` is success.
    pub fn of_end(headers: &HeaderMap) -> Option<Self> {
        match headers.get("grpc-status") {
            Some(code) if code == "0" => None,
            Some(_) => Status::from_header_map(headers).map(|status| Self::status(&status)),
            None => Some(Self::malformed("the call ended without a gRPC status")),
        }
    }
}

#[cfg(test)]
mod tests {
    use tessera_proto::status::Failure;

    use super::*;

    #[test]
    fn a_status_is_named_by_code_and_reason() {
        let status = Status::from(Failure::overloaded("too much"));
        let failed = Failed::status(&status);
        assert_eq!((failed.cause.code.as_str(), failed.cause.reason.as_str()), ("RESOURCE_EXHAUSTED", "OVERLOADED"));
        assert_eq!((failed.said.as_str(), failed.by_server, failed.is_refusal()), ("too much", true, true));
        let bare = Failed::status(&Status::unimplemented("no such method"));
        assert_eq!((bare.cause.code.as_str(), bare.cause.reason.as_str()), ("UNIMPLEMENTED", ""));
        assert!(!bare.is_refusal() && !Failed::too_late().is_refusal());
    }

    #[test]
    fn so_is_one_within_a_message_and_one_in_trailers() {
        let failure = Failure::invalid_field("tenant_id", "`` is empty");
        let bytes = prost::Message::encode_to_vec(&failure.to_rpc_status());
        assert_eq!(Failed::rpc_status(&bytes).cause.reason, "INVALID_FIELD");
        assert_eq!(Failed::rpc_status(b"\xff").cause.reason, "MALFORMED_ANSWER");
        let trailers = Status::from(failure).into_http::<()>().into_parts().0.headers;
        assert_eq!(Failed::of_end(&trailers).unwrap().cause.reason, "INVALID_FIELD");
        assert_eq!(Failed::of_end(&HeaderMap::new()).unwrap().cause.reason, "MALFORMED_ANSWER");
        let good = HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), http::HeaderValue::from_static("0"))]);
        assert_eq!(Failed::of_end(&good), None);
    }
}
