//! What can be made of a change without looking at any table, and so on any thread: its checksum and, for a tenant, its state.
//! Most of the work of a hydration is here.

use tessera_core::digest::state_checksum;
use tessera_core::stream::StreamId;
use tessera_core::tenant::TenantState;
use tessera_ports::Change;
use tessera_proto::storage::{self, StorageError};

/// What was made of a change before the writer sees it.
#[derive(Debug)]
pub(crate) struct Early {
    pub(super) checksum: u64,
    pub(super) tenant: Option<Result<TenantState, StorageError>>,
}

impl Early {
    /// The state of a tenant is decoded: for changes that are most likely new.
    pub(crate) fn decoded(change: &Change) -> Self {
        let tenant = matches!(change.stream, StreamId::Tenant(_)).then(|| tenant_state(change));
        Self { tenant, ..Self::only_checksum(change) }
    }

    /// The state is left to be decoded once it is known to be new.
    pub(crate) fn only_checksum(change: &Change) -> Self {
        Self { checksum: state_checksum(&change.state), tenant: None }
    }
}

/// The state of the tenant whose change it is.
pub(super) fn tenant_state(change: &Change) -> Result<TenantState, StorageError> {
    storage::decode_state::<TenantState>(&change.state).map(|(state, _)| state)
}
