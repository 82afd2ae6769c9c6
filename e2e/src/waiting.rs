//! Conditions and deadlines. A test waits until something is so, never until some time has passed.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

/// How long anything may take on a machine that does other things besides; far beyond what it should take.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// How often a condition is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Asks again and again until there is an answer; after [`PATIENCE`] the last error is the answer, even while a question is open.
pub async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> anyhow::Result<T>) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let mut last_error = anyhow::anyhow!("the first question is still open");
    loop {
        looks.tick().await;
        match timeout_at(deadline, ask()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) => last_error = error,
            // The deadline has passed.
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last_error.context(format!("waited {PATIENCE:?} for {what}")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_question_that_stays_open_ends_the_wait_with_the_error_before() {
        let begun = Instant::now();
        let never = eventually("news", async || std::future::pending::<anyhow::Result<()>>().await).await.unwrap_err();
        assert_eq!(format!("{never:#}"), "waited 60s for news: the first question is still open");
        assert!(begun.elapsed() < PATIENCE + LOOK_EVERY);

        let mut questions = 0;
        let refused = eventually("news", async || {
            questions += 1;
            anyhow::ensure!(questions > 1, "none yet");
            std::future::pending::<anyhow::Result<()>>().await
        });
        assert_eq!(format!("{:#}", refused.await.unwrap_err()), "waited 60s for news: none yet");
    }
}
