//! Where signals come from: the operating system, or a test.

use tokio::sync::mpsc;

/// A source of "please stop".
#[derive(Debug)]
pub struct Signals(Source);

#[derive(Debug)]
enum Source {
    System { terminate: tokio::signal::unix::Signal, interrupt: tokio::signal::unix::Signal },
    Channel(mpsc::Receiver<&'static str>),
}

impl Signals {
    /// SIGTERM and SIGINT of this process. From here on they no longer kill it by themselves.
    pub fn of_process() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        let terminate = signal(SignalKind::terminate())?;
        let interrupt = signal(SignalKind::interrupt())?;
        Ok(Self(Source::System { terminate, interrupt }))
    }

    /// Signals that somebody in this process sends, by name.
    pub fn of_channel(receiver: mpsc::Receiver<&'static str>) -> Self {
        Self(Source::Channel(receiver))
    }

    /// The next signal's name; waits for ever when none can come.
    pub async fn next(&mut self) -> &'static str {
        match &mut self.0 {
            Source::System { terminate, interrupt } => tokio::select! {
                Some(()) = terminate.recv() => "SIGTERM",
                Some(()) = interrupt.recv() => "SIGINT",
                else => std::future::pending().await,
            },
            Source::Channel(receiver) => match receiver.recv().await {
                Some(name) => name,
                None => std::future::pending().await,
            },
        }
    }
}
