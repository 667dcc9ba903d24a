//! Linux: clock_gettime(2) and a timer that is cancelled when somebody sets the clock.

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::time::{
    ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, clock_gettime, timerfd_create,
    timerfd_settime,
};
use tokio::io::unix::AsyncFd;

use crate::descriptor;

/// Time since boot, suspension included.
#[must_use]
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Tells when the wall clock is set (not when it is only slewed): the kernel cancels a timer of the far future then, so that
/// nothing wakes up before (timerfd_create(2), TFD_TIMER_CANCEL_ON_SET).
#[derive(Debug)]
pub struct ClockWatch(AsyncFd<OwnedFd>);

impl ClockWatch {
    /// Starts watching. Needs a running Tokio runtime.
    ///
    /// # Errors
    /// Where the kernel gives no such timer.
    pub fn start() -> io::Result<Self> {
        let timer = timerfd_create(TimerfdClockId::Realtime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        arm(&timer)?;
        Ok(Self(descriptor::readable(timer)?))
    }

    /// Returns when the clock was set. Cancel safe.
    ///
    /// # Errors
    /// Where the timer can be neither read nor armed again.
    pub async fn clock_was_set(&self) -> io::Result<()> {
        loop {
            let mut ready = self.0.readable().await?;
            let result = ready.try_io(|timer| {
                let mut expirations = [0_u8; 8];
                rustix::io::read(timer, &mut expirations).map_err(io::Error::from)
            });
            match result {
                // It ran out: that is as far as a timer reaches.
                Ok(Ok(_)) => arm(self.0.get_ref())?,
                Ok(Err(error)) if error.raw_os_error() == Some(rustix::io::Errno::CANCELED.raw_os_error()) => {
                    arm(self.0.get_ref())?;
                    return Ok(());
                }
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
    }
}

fn arm(timer: &OwnedFd) -> io::Result<()> {
    // The year 2200. A time that is over already would make the timer run out again and again, and a broken clock may well say 2040.
    const NEVER: Timespec = Timespec { tv_sec: 230 * 31_556_952, tv_nsec: 0 };
    const ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    let flags = TimerfdTimerFlags::ABSTIME | TimerfdTimerFlags::CANCEL_ON_SET;
    timerfd_settime(timer, flags, &Itimerspec { it_interval: ONCE, it_value: NEVER })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_timer_is_for_no_time_that_a_clock_may_show() {
        let watch = ClockWatch::start().unwrap();
        let left = rustix::time::timerfd_gettime(watch.0.get_ref()).unwrap().it_value.tv_sec;
        let years = left / 31_556_952;
        assert!(years > 100, "the timer runs out in {years} years, and from then on at once");
    }
}
