//! Waiting until an instant, more exactly than the runtime's timers, which know milliseconds.
//!
//! On Linux a timer of the kernel wakes the runtime's thread. Elsewhere the runtime's own timers have to do: messages then leave
//! up to a millisecond late, which latencies include and reports show.

use tokio::time::Instant;

/// A timer of one task.
#[derive(Debug)]
pub struct Alarm {
    #[cfg(target_os = "linux")]
    timer: tokio::io::unix::AsyncFd<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Alarm {
    /// Within a runtime.
    pub fn new() -> anyhow::Result<Self> {
        use anyhow::Context as _;
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags).context("make a timer")?;
        #[expect(deprecated, reason = "its successor is unsafe for types that may change their descriptor; an owned one cannot")]
        let timer = tokio::io::unix::AsyncFd::new(timer).context("watch a timer")?;
        Ok(Self { timer })
    }

    /// Returns at `at`, or at once if that has passed.
    pub async fn until(&self, at: Instant) -> anyhow::Result<()> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        loop {
            let left = at.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            let never = Timespec { tv_sec: 0, tv_nsec: 0 };
            let it_value = Timespec { tv_sec: i64::try_from(left.as_secs())?, tv_nsec: i64::from(left.subsec_nanos()) };
            timerfd_settime(&self.timer, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value })?;
            let mut ready = self.timer.readable().await?;
            let mut expirations = [0; 8];
            // Nothing to read: an earlier alarm had woken us. Arming it again has made that good.
            rustix::io::read(self.timer.get_ref(), &mut expirations).unwrap_or_default();
            ready.clear_ready();
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl Alarm {
    /// Within a runtime.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self {})
    }

    /// Returns at `at`, or at once if that has passed.
    pub async fn until(&self, at: Instant) -> anyhow::Result<()> {
        tokio::time::sleep_until(at).await;
        Ok(())
    }
}
