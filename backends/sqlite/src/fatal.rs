//! The one word that ends the process: after an I/O error nothing more can be promised.

use std::sync::Arc;

use tokio::sync::watch;

/// Tells when the process must end, and why. A cheap handle.
#[derive(Debug, Clone)]
pub struct Fatal(watch::Receiver<Option<Arc<str>>>);

impl Fatal {
    /// Why the process must end; `None` as long as all is well.
    pub fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }

    /// Waits until the process must end; never returns if all stays well until the database is closed.
    pub async fn wait(mut self) -> Arc<str> {
        // Taken out of the guard before anything is awaited, so that the future can move between threads.
        let told = self.0.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
        match told {
            Some(reason) => reason,
            None => std::future::pending().await,
        }
    }
}

/// Whoever meets such an error says so here; the first word counts and is logged.
#[derive(Debug, Clone)]
pub(crate) struct Stop(Arc<watch::Sender<Option<Arc<str>>>>);

impl Stop {
    pub(crate) fn new() -> (Self, Fatal) {
        let (sender, receiver) = watch::channel(None);
        (Self(Arc::new(sender)), Fatal(receiver))
    }

    pub(crate) fn stop(&self, reason: &str) {
        self.0.send_if_modified(|told| {
            let first = told.is_none();
            if first {
                tracing::error!(reason, "the embedded database cannot be relied on any more: this process has to end");
                *told = Some(Arc::from(reason));
            }
            first
        });
    }

    pub(crate) fn reason(&self) -> Option<Arc<str>> {
        self.0.borrow().clone()
    }
}
