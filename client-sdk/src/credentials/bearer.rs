//! A token as it goes into every call. One that is in a file is read again from time to time and when servers no longer know it,
//! so that whoever rotates it restarts nobody.
//!
//! One task reads, the [`Follower`]'s: it ends with the client, and calls only wait for it when a server refused what they
//! showed. On all other calls nothing is read and nothing is waited for.

use std::fmt;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tonic::codegen::http::HeaderValue;

use crate::error::Error;

/// How often the file is looked at. Tokens are renewed minutes before they end; a few seconds are for whoever watches.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);
/// Longest token, in bytes: what servers read of all headers together is about as much.
const TOKEN_LEN_MAX: usize = 16 << 10;

/// What goes into every call. Cheap to clone; all clones follow the file.
#[derive(Clone)]
pub(crate) struct Bearer(Arc<Shared>);

/// Reads the file of a token until it is dropped.
#[derive(Debug)]
pub(crate) struct Follower {
    _task: JoinSet<()>,
}

struct Shared {
    current: ArcSwap<Shown>,
    place: Option<Place>,
}

/// A token, and which one it is: they are counted.
struct Shown {
    value: HeaderValue,
    number: u64,
}

/// Where the token comes from.
struct Place {
    path: PathBuf,
    /// How often somebody asked for a reading.
    asked: watch::Sender<u64>,
    /// How much of that is answered.
    answered: watch::Sender<u64>,
}

impl Bearer {
    pub(crate) fn of(token: &str) -> Result<Self, Error> {
        let value = value_of(token).map_err(|problem| Error::Credentials { setting: "token", problem: problem.to_owned() })?;
        Ok(Self::new(value, None))
    }

    pub(crate) fn of_file(path: PathBuf) -> Result<Self, Error> {
        let value = read(&path).map_err(|problem| Error::Credentials { setting: "token_file", problem })?;
        let place = Place { path, asked: watch::Sender::new(0), answered: watch::Sender::new(0) };
        Ok(Self::new(value, Some(place)))
    }

    fn new(value: HeaderValue, place: Option<Place>) -> Self {
        Self(Arc::new(Shared { current: ArcSwap::from_pointee(Shown { value, number: 1 }), place }))
    }

    /// What is shown to servers now.
    pub(crate) fn value(&self) -> HeaderValue {
        self.0.current.load().value.clone()
    }

    /// Which token that is.
    pub(crate) fn number(&self) -> u64 {
        self.0.current.load().number
    }

    /// Begins to follow the file, if there is one. Must be called inside a runtime.
    pub(crate) fn follow(&self) -> Follower {
        let mut task = JoinSet::new();
        if let Some(place) = &self.0.place {
            // Here and not in the task: who asks before it runs is heard, too.
            task.spawn(follow(Arc::clone(&self.0), place.asked.subscribe()));
        }
        Follower { _task: task }
    }

    /// Servers do not know the token `number`: whether there is another one by now. Waits for a reading of the file, however
    /// long that takes; callers who wait together share one.
    pub(crate) async fn has_newer(&self, number: u64) -> bool {
        let Some(place) = &self.0.place else { return false };
        if self.number() != number {
            return true;
        }
        let mut answered = place.answered.subscribe();
        let mut turn = 0;
        place.asked.send_modify(|asked| {
            *asked += 1;
            turn = *asked;
        });
        // An error is the end of the sender, which `place` holds.
        drop(answered.wait_for(|answered| *answered >= turn).await);
        self.number() != number
    }
}

/// Reads the file whenever it is time or somebody asks, until the client is gone.
async fn follow(shared: Arc<Shared>, mut asked: watch::Receiver<u64>) {
    let Some(place) = &shared.place else { return };
    let mut trouble = None;
    loop {
        tokio::select! {
            // An error is the end of the sender, which `place` holds.
            _ = asked.changed() => {}
            () = sleep(LOOK_INTERVAL) => {}
        }
        // Who asks from here on may have seen a newer file than is read now.
        let turn = *asked.borrow_and_update();
        let path = place.path.clone();
        match tokio::task::spawn_blocking(move || read(&path)).await {
            Ok(Ok(value)) => {
                trouble = None;
                shared.take(value);
            }
            // Said once: what was read before goes on being shown.
            Ok(Err(problem)) if trouble.as_ref() != Some(&problem) => {
                tracing::warn!(problem, "the file of the token is of no use; the token before is shown on");
                trouble = Some(problem);
            }
            // As before; or the runtime ends.
            Ok(Err(_)) | Err(_) => {}
        }
        place.answered.send_replace(turn);
    }
}

impl Shared {
    fn take(&self, value: HeaderValue) {
        let before = self.current.load();
        if before.value != value {
            tracing::info!("the file has another token, which is shown from now on");
            self.current.store(Arc::new(Shown { value, number: before.number + 1 }));
        }
    }
}

fn read(path: &Path) -> Result<HeaderValue, String> {
    let mut text = String::new();
    // One byte more than allowed, so that it is seen.
    let limit = u64::try_from(TOKEN_LEN_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let reading = File::open(path).and_then(|file| file.take(limit).read_to_string(&mut text));
    reading.map_err(|error| format!("cannot read `{}`: {error}", path.display()))?;
    value_of(&text).map_err(|problem| format!("in `{}`: {problem}", path.display()))
}

/// A header with a token, round which may be white space; the problem repeats nothing of it.
fn value_of(token: &str) -> Result<HeaderValue, &'static str> {
    let token = token.trim();
    if token.is_empty() {
        return Err("the token is empty");
    }
    if token.len() > TOKEN_LEN_MAX {
        return Err("it is too long for a token; allowed are up to 16,384 bytes");
    }
    let wrong = "it is no token; allowed are printable ASCII characters without spaces";
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong);
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).map_err(|_| wrong)?;
    // Neither in `Debug` nor in the tables of HTTP/2.
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Bearer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.0.place.as_ref().map(|place| &place.path);
        f.debug_struct("Bearer").field("path", &path).field("number", &self.number()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
