//! Watching tenants: their documents whenever they change, over one stream that mends itself.

mod driver;
mod event;
mod wanted;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::Stream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::Tessera;
use crate::error::Error;
use crate::freshness::Revision;
use crate::tenant;
use driver::Shared;
pub use event::WatchEvent;

/// Most tenants of one watch: what servers allow unless they are told otherwise.
const SUBSCRIPTIONS_MAX: usize = 10_000;
/// Events that wait for their user. Beyond it the stream waits, and the server leaves out states in between.
const EVENTS_WAITING: usize = 64;

/// A watch of any number of tenants: a stream of [`WatchEvent`]s that never ends by itself. See [`Tessera::watch`].
///
/// Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    subscriptions: Subscriptions,
    events: mpsc::Receiver<WatchEvent>,
    _driver: JoinSet<()>,
}

/// Changes what a watch watches, from anywhere: cheap to clone. Does nothing after the watch was dropped.
#[derive(Debug, Clone)]
pub struct Subscriptions(Arc<Shared>);

impl Tessera {
    /// Opens a watch. It connects at once and watches nothing yet:
    ///
    /// ```no_run
    /// # async fn example(tessera: tessera_client::Tessera) -> Result<(), Box<dyn std::error::Error>> {
    /// use tessera_client::WatchEvent;
    ///
    /// let mut watch = tessera.watch();
    /// watch.subscribe("acme")?;
    /// while let Some(event) = watch.next().await {
    ///     match event {
    ///         WatchEvent::Document(document) => println!("{} is on {}", document.tenant, document.plan.id),
    ///         WatchEvent::Disconnected { error, .. } => println!("what is kept grows stale: {error}"),
    ///         _ => {}
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Must be called inside the runtime.
    pub fn watch(&self) -> Watch {
        let shared = Arc::new(Shared::new(SUBSCRIPTIONS_MAX));
        let (sender, events) = mpsc::channel(EVENTS_WAITING);
        let mut driver = JoinSet::new();
        driver.spawn(driver::drive(Arc::clone(self.inner()), Arc::clone(&shared), sender));
        Watch { subscriptions: Subscriptions(shared), events, _driver: driver }
    }
}

impl Watch {
    /// The next event; waits for it. `None` never comes while the runtime lives. Giving up waiting loses nothing.
    pub async fn next(&mut self) -> Option<WatchEvent> {
        self.events.recv().await
    }

    /// See [`Subscriptions::subscribe`].
    pub fn subscribe(&self, tenant: &str) -> Result<(), Error> {
        self.subscriptions.subscribe(tenant)
    }

    /// See [`Subscriptions::subscribe_from`].
    pub fn subscribe_from(&self, tenant: &str, last_revision: &Revision) -> Result<(), Error> {
        self.subscriptions.subscribe_from(tenant, last_revision)
    }

    /// See [`Subscriptions::unsubscribe`].
    pub fn unsubscribe(&self, tenant: &str) -> bool {
        self.subscriptions.unsubscribe(tenant)
    }

    /// A handle to change what is watched while somebody else waits for events.
    pub fn subscriptions(&self) -> Subscriptions {
        self.subscriptions.clone()
    }
}

impl Stream for Watch {
    type Item = WatchEvent;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<WatchEvent>> {
        self.events.poll_recv(context)
    }
}

impl Subscriptions {
    /// Watches a tenant: its document follows. Subscribing again changes nothing.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is no tenant id, [`Error::TooManySubscriptions`] beyond 10,000.
    pub fn subscribe(&self, tenant: &str) -> Result<(), Error> {
        tenant::check("tenant", tenant)?;
        self.0.change(|wanted| wanted.subscribe(tenant, None))
    }

    /// Watches a tenant from a revision on: nothing older follows. For a tenant that is subscribed already, the stream is opened
    /// anew, since older documents may be under way on it.
    ///
    /// # Errors
    /// As [`Subscriptions::subscribe`].
    pub fn subscribe_from(&self, tenant: &str, last_revision: &Revision) -> Result<(), Error> {
        tenant::check("tenant", tenant)?;
        self.0.change(|wanted| wanted.subscribe(tenant, Some(last_revision.to_wire())))
    }

    /// Watches a tenant no more; says whether it was watched. Events that wait already still come.
    pub fn unsubscribe(&self, tenant: &str) -> bool {
        self.0.change(|wanted| wanted.unsubscribe(tenant))
    }

    /// How many tenants are watched.
    pub fn len(&self) -> usize {
        self.0.change(|wanted| wanted.len())
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
