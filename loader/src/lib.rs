//! Tessera: the control plane.
