//! What is applied, parked and refused.
