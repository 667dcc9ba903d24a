//! When and why a command must end.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

/// Why a command must end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub enum StopReason {
    /// Its time is over.
    Deadline,
    /// The host took it back.
    Cancelled,
    /// The agent ends.
    ShuttingDown,
}

/// What a command listens to while it runs. Clones listen to the same.
#[derive(Clone, Debug)]
pub struct Stop {
    deadline: Instant,
    orders: watch::Receiver<Option<StopReason>>,
}

/// The other end: whoever runs the command ends it early with this. Dropping it gives no order.
#[derive(Debug)]
pub struct StopOrder(watch::Sender<Option<StopReason>>);

impl Stop {
    /// A stop at a deadline, and what orders it earlier.
    #[must_use]
    pub fn at(deadline: Instant) -> (StopOrder, Self) {
        let (sender, orders) = watch::channel(None);
        (StopOrder(sender), Self { deadline, orders })
    }

    /// A stop that never comes: for what is not a command yet.
    #[must_use]
    pub fn never() -> Self {
        // As far as a timer reaches and a clock can count.
        Self::at(Instant::now() + Duration::from_secs(86_400 * 365 * 30)).1
    }

    /// When the time is over.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Why the command must end by now, if it must.
    #[must_use]
    pub fn is_reached(&self) -> Option<StopReason> {
        let ordered = *self.orders.borrow();
        ordered.or_else(|| (Instant::now() >= self.deadline).then_some(StopReason::Deadline))
    }

    /// Waits until the command must end. Can be asked again: what was reached stays reached.
    pub async fn reached(&self) -> StopReason {
        let mut orders = self.orders.clone();
        let ordered = async {
            // Copied before anything is awaited: the borrowed value holds a lock.
            let order = orders.wait_for(Option::is_some).await.map_or(None, |order| *order);
            match order {
                Some(reason) => reason,
                // Nobody is left to give orders; the deadline remains.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            reason = ordered => reason,
            () = sleep_until(self.deadline) => StopReason::Deadline,
        }
    }
}

impl StopOrder {
    /// Ends the command. Only the first order counts.
    pub fn give(&self, reason: StopReason) {
        self.0.send_if_modified(|order| {
            let is_first = order.is_none();
            order.get_or_insert(reason);
            is_first
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_it_also_where_nobody_can_order() {
        let (order, stop) = Stop::at(Instant::now() + Duration::from_secs(3));
        drop(order);
        assert_eq!(stop.is_reached(), None);
        assert_eq!(stop.reached().await, StopReason::Deadline);
        assert_eq!(stop.reached().await, StopReason::Deadline);
        assert_eq!(stop.is_reached(), Some(StopReason::Deadline));
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_order_counts_for_every_listener() {
        let (order, stop) = Stop::at(Instant::now() + Duration::from_secs(3));
        let other = stop.clone();
        order.give(StopReason::Cancelled);
        order.give(StopReason::ShuttingDown);
        drop(order);
        assert_eq!((stop.reached().await, other.reached().await), (StopReason::Cancelled, StopReason::Cancelled));
        assert_eq!(stop.is_reached(), Some(StopReason::Cancelled));
    }
}
