//! The client against servers on real connections that fail in every way that the documentation speaks of. A server here is the
//! crate's own fake behind a listener, and a relay before it that can fall silent or cut connections.
#![expect(clippy::disallowed_methods, reason = "tests measure how long calls took")]

#[path = "resilience/calls.rs"]
mod calls;
#[path = "resilience/checker.rs"]
mod checker;
#[path = "resilience/credentials.rs"]
mod credentials;
#[path = "resilience/local.rs"]
mod local;
#[path = "resilience/relay.rs"]
mod relay;
#[path = "resilience/scripted.rs"]
mod scripted;
#[path = "resilience/server.rs"]
mod server;
#[path = "resilience/watch.rs"]
mod watch;
