//! Tells watches what changed. Nobody watching costs the writer one load.
//!
//! A watch has a mailbox; the writer leaves a note of the tenant there and goes on. Notes of one tenant coalesce, so a mailbox
//! never holds more than the watch's subscriptions, however slowly it is read.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use crate::matrix::key::TenantKey;

/// All watches of a process.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    /// How many subscriptions there are, over all watches.
    subscriptions: AtomicUsize,
    by_tenant: Mutex<HashMap<TenantKey, Vec<Arc<Mailbox>>>>,
    mailboxes: Mutex<Vec<Weak<Mailbox>>>,
}

/// Where notes for one watch are left.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    notes: Mutex<Notes>,
    notify: Notify,
}

/// What may have changed.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    /// These tenants.
    pub(crate) tenants: HashSet<TenantKey>,
    /// Every tenant, since the catalog, a plan, an add-on or the whole matrix changed.
    pub(crate) everything: bool,
    /// And not all of that shows in revisions.
    pub(crate) replaced: bool,
}

impl Hub {
    pub(crate) fn open(&self) -> Arc<Mailbox> {
        let mailbox = Arc::new(Mailbox::default());
        let mut mailboxes = lock(&self.mailboxes);
        mailboxes.retain(|known| known.strong_count() > 0);
        mailboxes.push(Arc::downgrade(&mailbox));
        mailbox
    }

    /// From now on notes of the tenant are left in `mailbox`. Subscribe first, then look at the tenant.
    pub(crate) fn subscribe(&self, tenant: &TenantKey, mailbox: &Arc<Mailbox>) {
        self.subscriptions.fetch_add(1, Ordering::SeqCst);
        lock(&self.by_tenant).entry(tenant.clone()).or_default().push(Arc::clone(mailbox));
        // Pairs with the fence in `tenant_changed`: either the writer sees the subscription, or the watch sees what was written.
        fence(Ordering::SeqCst);
    }

    pub(crate) fn unsubscribe(&self, tenant: &TenantKey, mailbox: &Arc<Mailbox>) {
        let mut by_tenant = lock(&self.by_tenant);
        let Some(mailboxes) = by_tenant.get_mut(tenant.bytes()) else { return };
        let before = mailboxes.len();
        mailboxes.retain(|known| !Arc::ptr_eq(known, mailbox));
        self.subscriptions.fetch_sub(before.saturating_sub(mailboxes.len()), Ordering::SeqCst);
        if mailboxes.is_empty() {
            by_tenant.remove(tenant.bytes());
        }
    }

    /// A tenant's row was written.
    pub(crate) fn tenant_changed(&self, tenant: &[u8]) {
        fence(Ordering::SeqCst);
        if self.subscriptions.load(Ordering::SeqCst) == 0 {
            return;
        }
        let by_tenant = lock(&self.by_tenant);
        if let Some((key, mailboxes)) = by_tenant.get_key_value(tenant) {
            for mailbox in mailboxes {
                lock(&mailbox.notes).tenants.insert(key.clone());
                mailbox.notify.notify_one();
            }
        }
    }

    /// The catalog, a plan or an add-on was written.
    pub(crate) fn everything_changed(&self) {
        self.leave_everywhere(|notes| notes.everything = true);
    }

    /// Another matrix is served, or a state was written in the place of another with the same seq.
    pub(crate) fn everything_replaced(&self) {
        self.leave_everywhere(|notes| (notes.everything, notes.replaced) = (true, true));
    }

    fn leave_everywhere(&self, note: impl Fn(&mut Notes)) {
        fence(Ordering::SeqCst);
        if self.subscriptions.load(Ordering::SeqCst) == 0 {
            return;
        }
        for mailbox in lock(&self.mailboxes).iter().filter_map(Weak::upgrade) {
            note(&mut lock(&mailbox.notes));
            mailbox.notify.notify_one();
        }
    }
}

impl Mailbox {
    /// Completes when a note was left since the last [`Self::take`].
    pub(crate) async fn noted(&self) {
        self.notify.notified().await;
    }

    pub(crate) fn take(&self) -> Notes {
        std::mem::take(&mut *lock(&self.notes))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn notes_reach_subscribers_and_coalesce() {
        let hub = Hub::default();
        let (mailbox, acme) = (hub.open(), TenantKey::new("acme"));
        hub.tenant_changed(b"acme");
        assert!(mailbox.noted().now_or_never().is_none());
        hub.subscribe(&acme, &mailbox);
        hub.tenant_changed(b"acme");
        hub.tenant_changed(b"acme");
        hub.tenant_changed(b"other");
        assert!(mailbox.noted().now_or_never().is_some());
        assert_eq!(mailbox.take().tenants.len(), 1);
        hub.everything_changed();
        let notes = mailbox.take();
        assert!(notes.everything && !notes.replaced);
        hub.everything_replaced();
        hub.everything_changed();
        let notes = mailbox.take();
        assert!(notes.everything && notes.replaced);
        hub.unsubscribe(&acme, &mailbox);
        hub.unsubscribe(&acme, &mailbox);
        hub.tenant_changed(b"acme");
        assert!(mailbox.take().tenants.is_empty());
        assert!(hub.by_tenant.lock().unwrap().is_empty());
        assert_eq!(hub.subscriptions.load(Ordering::SeqCst), 0);
    }
}
