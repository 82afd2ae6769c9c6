//! The two evaluators: against each other on random worlds, against hand-written tables, at every boundary, under the laws
//! that decisions keep; and the compiled forms that the fast one answers from.

mod boundaries;
mod compiled;
mod differential;
mod documents;
mod laws;
mod packed;
mod random;
mod script;
mod stage;
mod tables;
