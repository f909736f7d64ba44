//! A timer on `CLOCK_BOOTTIME`: leases go on while the machine sleeps, and the runtime's own timers do not.

use std::io;
use std::os::fd::OwnedFd;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use sheaf_model::Moment;
use tokio::io::unix::AsyncFd;

/// One timer, set anew as often as needed.
#[derive(Debug)]
pub(crate) struct Alarm {
    timer: AsyncFd<OwnedFd>,
    set: Option<Moment>,
}

impl Alarm {
    /// A timer that is not set. To be called within a runtime.
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Boottime, flags)?;
        #[expect(
            deprecated,
            reason = "its successor is unsafe; it asks that the descriptor stay open, and it is owned here"
        )]
        let timer = AsyncFd::new(timer)?;
        Ok(Self { timer, set: None })
    }

    /// Fires at `moment`, at once if it has passed, never if there is none.
    pub(crate) fn set(&mut self, moment: Option<Moment>) -> io::Result<()> {
        if self.set == moment {
            return Ok(());
        }
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        let value = match moment {
            // All zero would turn it off.
            Some(moment) => timespec(Moment(moment.0.max(1))),
            None => zero,
        };
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.timer, TimerfdTimerFlags::ABSTIME, &spec)?;
        self.set = moment;
        Ok(())
    }

    /// Waits until it fires, and says for when it was set. Dropping the future loses nothing.
    pub(crate) async fn fired(&mut self) -> io::Result<Moment> {
        loop {
            let mut ready = self.timer.readable().await?;
            let mut count = [0; 8];
            let read = ready.try_io(|timer| Ok(rustix::io::read(timer, &mut count)?));
            match read {
                Ok(Ok(_)) => return Ok(self.set.take().unwrap_or_default()),
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {} // set anew meanwhile
            }
        }
    }
}

fn timespec(moment: Moment) -> Timespec {
    let seconds = i64::try_from(moment.0 / 1000).unwrap_or(i64::MAX);
    Timespec { tv_sec: seconds, tv_nsec: (moment.0 % 1000 * 1_000_000) as _ }
}

#[cfg(test)]
mod tests {
    use sheaf_model::Span;

    use super::*;
    use crate::keeper::clock;

    #[tokio::test]
    async fn it_fires_not_before_its_time() {
        let mut alarm = Alarm::new().expect("a timer");
        let at = clock::now().after(Span::millis(30));
        alarm.set(Some(clock::now().after(Span::seconds(1000)))).expect("it is set");
        alarm.set(Some(at)).expect("it is set anew");
        assert_eq!(alarm.fired().await.expect("it fires"), at);
        assert!(clock::now() >= at);
        alarm.set(Some(Moment(0))).expect("it is set to the past");
        alarm.fired().await.expect("it fires at once");
    }
}
