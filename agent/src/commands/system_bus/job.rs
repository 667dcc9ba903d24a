//! A job of systemd's, from its start to its end.

use std::future::poll_fn;
use std::pin::Pin;

use serde::ser::Serialize;
use zbus::export::futures_core::Stream;
use zbus::message::Type;
use zbus::{Connection, DynamicType, MatchRule, Message, MessageStream, OwnedObjectPath};

use crate::collector::linux::systemd::{MANAGER, MANAGER_PATH, SERVICE};

/// Replaces a job that is queued for the unit already, as `systemctl` does.
pub const REPLACE: &str = "replace";

/// A call of systemd's manager.
///
/// # Errors
/// What systemd or the bus answers.
pub async fn call<B>(connection: &Connection, method: &str, arguments: &B) -> zbus::Result<Message>
where
    B: Serialize + DynamicType,
{
    connection.call_method(Some(SERVICE), MANAGER_PATH, Some(MANAGER), method, arguments).await
}

/// A job that systemd has queued.
#[derive(Debug)]
pub struct Job {
    object: OwnedObjectPath,
    /// What systemd answered when it was asked for the job.
    answer: Message,
    removed: Removed,
}

impl Job {
    /// Has systemd queue a job for a unit.
    ///
    /// # Errors
    /// Where systemd refuses it, or the connection ends.
    pub async fn start<B>(connection: &Connection, method: &str, unit: &str, arguments: &B) -> zbus::Result<Self>
    where
        B: Serialize + DynamicType,
    {
        let removed = Removed::listen(connection, unit).await?;
        let answer = call(connection, method, arguments).await?;
        let object = answer.body().deserialize()?;
        Ok(Self { object, answer, removed })
    }

    /// Waits for its end. Gives its result.
    ///
    /// # Errors
    /// Where the connection ends.
    pub async fn ended(mut self) -> zbus::Result<String> {
        loop {
            let signal = self.removed.next().await?;
            // Anyone on the bus can send such a signal to the agent, so it counts only from whom the job's answer came.
            if signal.header().sender() != self.answer.header().sender() {
                continue;
            }
            let (_, object, _, result): (u32, OwnedObjectPath, String, String) = signal.body().deserialize()?;
            if object == self.object {
                return Ok(result);
            }
        }
    }
}

/// What systemd says of the ends of jobs of one unit. Of all other jobs nothing, for a boot may end hundreds, and what nobody reads would
/// hold up the answers behind it.
#[derive(Debug)]
pub struct Removed(MessageStream);

impl Removed {
    /// Listens from now on: before the job is queued, for it may be over before the answer is read.
    ///
    /// # Errors
    /// Where the bus refuses it, or the connection ends.
    pub async fn listen(connection: &Connection, unit: &str) -> zbus::Result<Self> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(SERVICE)
            .path(MANAGER_PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .arg(2, unit)
            .build()?;
        let stream = MessageStream::for_match_rule(rule, connection, None).await?;
        // Without this systemd tells nobody.
        call(connection, "Subscribe", &()).await?;
        Ok(Self(stream))
    }

    /// The next one.
    ///
    /// # Errors
    /// Where the connection ends.
    pub async fn next(&mut self) -> zbus::Result<Message> {
        let next = poll_fn(|context| Pin::new(&mut self.0).poll_next(context)).await;
        next.ok_or_else(|| zbus::Error::Failure("the bus closed the connection".to_owned()))?
    }
}

/// What is wrong with a job that ended so; `None`: nothing.
#[must_use]
pub fn complaint(result: &str) -> Option<&'static str> {
    match result {
        "done" | "skipped" => None,
        "canceled" => Some("another job took its place"),
        "timeout" => Some("it took longer than its unit allows"),
        "dependency" => Some("a unit that it needs did not start"),
        "assert" => Some("an assertion of its unit does not hold"),
        "unsupported" => Some("this machine cannot do it"),
        _ => Some("its job failed"),
    }
}
