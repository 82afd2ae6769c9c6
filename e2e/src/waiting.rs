//! Conditions and deadlines. A test waits until something is so, never until some time has passed.

use std::time::Duration;

use tokio::time::Instant;

/// How long anything may take on a machine that does other things besides; far beyond what it should take.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer; after [`PATIENCE`] the last error is the answer.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    loop {
        looks.tick().await;
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() >= deadline => return Err(error.context(format!("waited {PATIENCE:?} for {what}"))),
            Err(_) => {}
        }
    }
}
