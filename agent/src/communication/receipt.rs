//! Whether an answer has left, for whoever must not go on before.

use tokio::sync::watch;

/// Goes with an answer to the port. Dropped before, it says that nobody will write that answer.
#[derive(Debug)]
pub struct Delivery(watch::Sender<bool>);

/// Hears when an answer has left. Clones hear of the same one.
#[derive(Clone, Debug)]
pub struct Receipt(watch::Receiver<bool>);

impl Default for Delivery {
    fn default() -> Self {
        Self(watch::Sender::new(false))
    }
}

impl Delivery {
    /// What hears of it.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt(self.0.subscribe())
    }

    /// The port has taken the answer's last byte.
    pub fn written(self) {
        self.0.send_replace(true);
    }
}

impl Receipt {
    /// Waits until the port has taken the answer's last byte: true; or until nobody is left who could write it: false.
    pub async fn written(&self) -> bool {
        self.0.clone().wait_for(|written| *written).await.is_ok()
    }
}

/// Of an answer that nobody writes.
impl Default for Receipt {
    fn default() -> Self {
        Delivery::default().receipt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_tells_also_who_asks_late_and_of_what_never_comes() {
        let delivery = Delivery::default();
        let (early, late) = (delivery.receipt(), delivery.receipt());
        let told = tokio::spawn(async move { early.written().await });
        tokio::task::yield_now().await;
        assert!(!told.is_finished());
        delivery.written();
        assert!(told.await.unwrap() && late.written().await);
        assert!(!Receipt::default().written().await);
    }
}
