//! Every aggregate from outside: given events, when a command, then events or a refusal; and the laws that hold for all.

mod catalog;
mod harness;
mod laws;
mod plan;
mod tenant_add_ons;
mod tenant_create;
mod tenant_due;
mod tenant_exceptions;
mod tenant_laws;
mod tenant_standing;
mod tenant_subscription;
mod words;
